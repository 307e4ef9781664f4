//! `decores-engine-container`: started by the launcher, with its descriptors and nothing else.

use std::process::ExitCode;

/// A panic is a bug of ours; its message could quote the guest's data, so none is printed.
const PANICKED: i32 = 101;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "a panic in any thread ends the whole engine at once")]
    std::panic::set_hook(Box::new(|_| std::process::exit(PANICKED)));
    // The only argument is the scratch folder inside the jail.
    let Some(scratch) = std::env::args_os().nth(1).map(std::path::PathBuf::from) else { return ExitCode::FAILURE };
    match decores_engine_container::serve(&scratch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
