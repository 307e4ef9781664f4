//! `decoresd`: the node. It holds keys and never runs a consumer's code.
//!
//! Start with [`boot`], which puts the parts together; [`service`] is what the API asks of them,
//! [`life`] the way of one job. The launcher is forked first, before any thread and any secret.

mod admission;
mod args;
mod attempt;
mod blobs;
mod boot;
mod config;
mod doctor;
mod ending;
mod epochs;
mod health;
mod hint;
mod home;
mod ledger;
mod leftovers;
mod life;
mod mend_log;
mod modules;
mod node;
mod offers;
mod presence;
mod receipts;
mod records;
mod restart;
mod retention;
mod run;
mod service;
mod slots;
mod summary;
mod tls;
mod upkeep;
mod wipe;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let result = match &cli.command {
        args::Command::Run(flags) => run::run(flags),
        args::Command::Doctor(flags) => doctor::run(flags),
        args::Command::MendLog(common) => mend_log::run(common),
        args::Command::ConfigCheck(common) => run::config_check(common),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            decores_telemetry::print_error(error.as_ref(), hint::of(&error));
            ExitCode::FAILURE
        }
    }
}
