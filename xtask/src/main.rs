//! The project's own tools: `cargo xtask tidy` holds the house rules.
//!
//! Rules are ordinary functions over plain values, each with a test that makes it fail; what they read (manifests,
//! `cargo metadata`, the tree) is gathered once in [`workspace`].

mod bench;
mod campaign;
mod guest;
mod rust_text;
mod tidy;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own tools")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the house rules: layers, sizes, licences, cryptography, guarantees
    Tidy,
    /// Measure, beside the bare tools in the same run
    Bench(bench::Selection),
    /// Damage nodes, and look at them from outside
    #[command(subcommand)]
    Campaign(campaign::Campaign),
    /// Run jobs in an emulated machine whose control groups are version 2 alone, and print what it says
    Guest,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Tidy => tidy::run(),
        Command::Bench(selection) => bench::run(&selection),
        Command::Campaign(which) => campaign::run(&which),
        Command::Guest => guest::run(),
    }
}
