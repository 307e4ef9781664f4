//! Where the programs under test lie.

use std::path::{Path, PathBuf};

const BUILD: &str = "cargo build -p decores-cli -p decores-daemon -p decores-engine-wasm -p decores-engine-container -p decores-helper -p decores-escape";

/// The path of one of our programs, which must be built: they lie beside this one, or beside the folder of the test's.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let places = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let path = places.into_iter().find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("`{name}` is missing beside {}; build it first: {BUILD}", own.display()))
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
