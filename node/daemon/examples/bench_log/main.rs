//! How fast the log is: `cargo run -p decores-daemon --example bench_log -- COMMAND ...`; `cargo xtask bench log` runs it.
//!
//! All of it goes the node's own way: its ledger over its store, its tiles and its keystore, in a folder of its own that
//! is removed at the end. Prints one JSON object a measurement.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a tool that is run by hand")]

mod appends;
mod bare;
#[path = "../../src/ledger.rs"]
#[expect(dead_code, reason = "the node uses all of it")]
mod ledger;
mod log;
mod proofs;

use std::time::{Duration, Instant};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let folder = tempfile::Builder::new().prefix("decores-bench-log-").tempdir()?;
    let folder = folder.path();
    match words.as_slice() {
        ["fdatasync", writers, seconds] => bare::syncs(folder, writers.parse()?, during(seconds)?),
        ["sqlite", writers, seconds] => bare::sqlite(folder, writers.parse()?, during(seconds)?),
        ["appends", writers, seconds] => appends::run(folder, writers.parse()?, during(seconds)?, false).await,
        ["changes", writers, seconds] => appends::run(folder, writers.parse()?, during(seconds)?, true).await,
        ["proofs", sizes @ ..] => {
            let sizes = sizes.iter().map(|size| size.parse()).collect::<Result<Vec<u64>, _>>()?;
            proofs::run(folder, &sizes).await
        }
        _ => anyhow::bail!("usage: fdatasync|sqlite|appends|changes WRITERS SECONDS, or proofs SIZE..."),
    }
}

fn during(seconds: &str) -> anyhow::Result<Duration> {
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since then.
fn since(start: Instant) -> f64 {
    now().duration_since(start).as_secs_f64() * 1e3
}

/// The value below which this share of all values lies.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(f64::NAN)
}
