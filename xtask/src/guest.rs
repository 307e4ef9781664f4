//! `cargo xtask guest`: jobs in an emulated machine of its own, with another kernel and other control groups.

use crate::bench::{cargo, output};
use anyhow::{Context as _, Result};
use std::process::ExitCode;

/// What runs in it.
const PACKAGES: [&str; 5] =
    ["decores-cli", "decores-daemon", "decores-engine-wasm", "decores-engine-container", "decores-helper"];

/// Builds the programs, and runs the test that boots a machine with them; it prints all that the machine says.
pub(crate) fn run() -> Result<ExitCode> {
    output(cargo().args(["build", "-q", "--bins"]).args(PACKAGES.iter().flat_map(|name| ["-p", name])))?;
    let test = ["test", "-q", "-p", "decores-tests", "--test", "guest", "--", "--nocapture"];
    let status = cargo().args(test).status().context("failed to start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
