//! `cargo xtask campaign`: builds a node and what damages it, and runs that.

use crate::bench::{cargo, output, programs};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use std::process::{Command, ExitCode};

/// What a run needs.
const PACKAGES: [&str; 6] = [
    "decores-cli",
    "decores-daemon",
    "decores-engine-wasm",
    "decores-engine-container",
    "decores-helper",
    "decores-campaign",
];

/// Which campaign.
#[derive(Subcommand)]
pub(crate) enum Campaign {
    /// Kill, cut off, fill up, trip and stop nodes, and look whether anything is lost or left
    Crash(Crash),
}

/// Handed on to the campaign's own program.
#[derive(Args)]
pub(crate) struct Crash {
    /// Runs; 300 are a full campaign
    #[arg(long, default_value_t = 60)]
    runs: usize,
    /// Decides what is done when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these kinds: kill, power, disk, inject, stop
    #[arg(long, value_name = "KIND[,KIND]")]
    only: Option<String>,
    /// Only this run, and those before it on the same home
    #[arg(long, value_name = "INDEX")]
    run: Option<u64>,
    /// Writes what each run came to
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

pub(crate) fn run(which: &Campaign) -> Result<ExitCode> {
    let Campaign::Crash(crash) = which;
    output(cargo().args(["build", "-q", "--bins"]).args(PACKAGES.iter().flat_map(|name| ["-p", name])))?;
    let program = programs()?.join("decores-campaign");
    let mut campaign = Command::new(&program);
    campaign.args(["--runs", &crash.runs.to_string(), "--seed", &crash.seed.to_string()]);
    for (name, value) in
        [("--only", &crash.only), ("--json", &crash.json), ("--run", &crash.run.map(|n| n.to_string()))]
    {
        campaign.args(value.iter().flat_map(|value| [name, value.as_str()]));
    }
    let status = campaign.status().with_context(|| format!("failed to start `{}`", program.display()))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
