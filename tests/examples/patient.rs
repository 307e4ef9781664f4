//! Writes a program for people to try: it reads its standard input, holds it in memory for some seconds, and writes
//! it to its standard output. `patient SECONDS > patient.wasm`

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(seconds) = std::env::args().nth(1).and_then(|word| word.parse::<u64>().ok()) else {
        eprintln!("usage: patient SECONDS > patient.wasm");
        return ExitCode::from(2);
    };
    match std::io::stdout().write_all(&decores_tests::wasm::patient(seconds * 1000)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
