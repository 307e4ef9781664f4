//! `cargo xtask bench`: figures beside the bare tools, taken in the same run.
//!
//! Machines differ and are noisy, so every figure stands next to a rival's and the ratio is what counts.
//! Each prints a table in Markdown, ready for `docs/performance.md`.

mod job;
mod seal;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Sealing and opening, beside AWS-LC alone and `openssl speed`
    Seal {
        /// MiB that are sealed
        #[arg(long, default_value_t = 256)]
        mib: usize,
    },
    /// Whole jobs through a node, beside the bare engine in one process
    Job {
        /// Runs of each program
        #[arg(long, default_value_t = 11)]
        runs: usize,
    },
}

pub(crate) fn run(which: Bench) -> Result<ExitCode> {
    match which {
        Bench::Seal { mib } => seal::run(mib)?,
        Bench::Job { runs } => job::run(runs)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command and returns its standard output; what it says on standard error passes through.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start `{}`", command.get_program().display()))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", command.get_program().display(), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where cargo puts programs of the `dev` profile.
pub(crate) fn programs() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata.get("target_directory").and_then(|v| v.as_str()).context("cargo names no target folder")?;
    Ok(PathBuf::from(target).join("debug"))
}

/// Median and worst of some figures; lower is better.
fn median_and_worst(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    (median, values.last().copied().unwrap_or(f64::NAN))
}
