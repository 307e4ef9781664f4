//! `decores`: the command line for consumers and operators.
//!
//! One module per noun. Standard output is data, standard error the rest; an error is one line, an
//! empty line and a hint; the exit codes are in [`failure`].

mod alert;
mod apikey;
mod args;
mod context;
mod daemon;
mod doctor;
mod failure;
mod job;
mod key;
mod log;
mod login;
mod output;
mod progress;
mod status;
mod table;
mod units;
mod verify;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let format = std::env::var(decores_telemetry::LOG_FORMAT_ENV).ok();
    decores_telemetry::init("warn", decores_telemetry::Format::resolve(false, format.as_deref()));
    match args::Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}
