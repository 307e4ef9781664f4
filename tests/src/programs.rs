//! Where the programs under test lie.

use std::path::{Path, PathBuf};

const BUILD: &str = "cargo build -p decores-cli -p decores-daemon -p decores-engine-wasm";

/// The path of one of our programs, which must be built: they lie beside the folder of the test's own.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let folder = own.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing; build it first: {BUILD}", path.display());
    path
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
