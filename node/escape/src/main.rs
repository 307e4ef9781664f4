//! `decores-escape`: tries to get out of the jails of this machine, and tells.
//!
//! The program has several parts to play. Started by people (or `decores doctor --escape`) it plants things on the
//! machine, has launcher and helper start itself in each engine's jail, and prints the table. In a jail it runs the
//! probes. Outside it runs them once more, as root: only what works there counts as contained inside. The others stand
//! for what is beside a job: a node, another job.

mod args;
mod careless;
mod container;
mod harness;
mod image;
mod probe;
mod prober;
mod probes;
mod rivals;
mod roles;
mod sealed;
mod stage;
mod syscall;
mod table;
mod wasm;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let (name, part) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let result = match (name.as_str(), part.as_str()) {
        (_, part @ ("as-root" | "as-is")) => roles::executed(part),
        ("/engine", _) => roles::jailed(&part),
        (_, "outside") => roles::outside(),
        (_, "inside") => roles::inside(),
        (_, "stand") => roles::stand(),
        _ => harness::run(&clap::Parser::parse()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            decores_telemetry::print_error(error.as_ref(), None);
            ExitCode::FAILURE
        }
    }
}
