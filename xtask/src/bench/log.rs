//! Durable appends and proofs, beside SQLite and `fdatasync` alone.

use super::{Bar, Options, Report, Spread, Table, example, figures, number, output};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::process::Command;

/// Appends a second, with so many writers.
const APPENDS: f64 = 3000.0;
const WRITERS: &str = "64";
/// From an event to a proof of its entry, 99 of 100, in milliseconds.
const PROOF_MS: f64 = 1000.0;

/// What is measured, with how many writers, and what stands in the table for it.
const MEASURED: [(&str, &str, &str); 6] = [
    ("fdatasync", WRITERS, "`fdatasync` of a file, 64 entries at once"),
    ("sqlite", WRITERS, "SQLite, 64 entries in a transaction"),
    ("appends", WRITERS, "ledger: 64 writers, an entry each"),
    ("changes", WRITERS, "ledger: 64 writers, an entry and a record of 1 KiB each"),
    ("sqlite", "1", "SQLite, 1 entry in a transaction"),
    ("appends", "1", "ledger: 1 writer"),
];

pub(super) fn run(options: &Options) -> Result<Report> {
    let program = example("decores-daemon", "bench_log")?;
    let run = |arguments: &[&str]| figures(Command::new(program.get_program()).args(arguments));
    let seconds = if options.quick { "1" } else { "5" };
    let mut runs: Vec<Vec<Value>> = vec![Vec::new(); MEASURED.len()];
    // In turns, so that a busy minute of the machine is everybody's.
    for _ in 0..options.runs {
        for ((what, writers, _), found) in MEASURED.iter().zip(&mut runs) {
            found.extend(run(&[what, writers, seconds])?);
        }
    }
    let mut table = Table::new(&[
        "appends",
        "a second, median",
        "worst",
        "durable p50, ms",
        "durable p99, ms",
        "proof p50, ms",
        "proof p99, ms",
        "worst",
    ]);
    let mut bars = Vec::new();
    for ((what, writers, name), found) in MEASURED.iter().zip(&runs) {
        let of = |figure: &str| found.iter().map(|run| number(run, figure)).collect::<Result<Vec<f64>>>();
        let cost = |figure: &str| of(figure).map_or(f64::NAN, |values| Spread::of_costs(values).median);
        let speed = Spread::of_speeds(of("perSecond")?);
        let proof = of("proofP99").map(Spread::of_costs).ok();
        let proof = proof.unwrap_or(Spread { median: f64::NAN, worst: f64::NAN });
        table.row([
            (*name).into(),
            speed.median.into(),
            speed.worst.into(),
            cost("durableP50").into(),
            cost("durableP99").into(),
            cost("proofP50").into(),
            proof.median.into(),
            proof.worst.into(),
        ]);
        if (*what, *writers) == ("appends", WRITERS) {
            bars.push(Bar::at_least("durable appends, 64 writers", APPENDS, "a second", speed.median));
            bars.push(Bar::at_most("entry to proof, p99, 64 writers", PROOF_MS, "ms", proof.median));
        }
    }
    let sizes: &[&str] = if options.quick { &["1000", "10000"] } else { &["1000", "100000", "1000000"] };
    let proofs = proofs(&run(&[&["proofs"], sizes].concat())?)?;
    let sqlite = output(Command::new("sqlite3").arg("--version")).unwrap_or_default();
    let sqlite = sqlite.split(' ').next().unwrap_or_default();
    let versions = vec![format!("SQLite as the node has it, built in (Debian's is {sqlite})")];
    Ok(Report { tables: vec![table, proofs], bars, versions })
}

fn proofs(found: &[Value]) -> Result<Table> {
    let mut table = Table::new(&[
        "entries",
        "proof, bytes at most",
        "made in, µs, p50",
        "p99",
        "verified in, µs, p50",
        "p99",
        "store opened in, ms",
        "last day checked in, ms",
        "entries of it",
        "log built in, s",
    ]);
    for log in found {
        let figure = |name: &str| number(log, name);
        table.row([
            log.get("entries").and_then(Value::as_u64).context("a log has entries")?.to_string().into(),
            figure("bytes")?.into(),
            figure("makeP50")?.into(),
            figure("makeP99")?.into(),
            figure("verifyP50")?.into(),
            figure("verifyP99")?.into(),
            figure("openMs")?.into(),
            figure("checkMs")?.into(),
            figure("checkedEntries")?.into(),
            figure("buildSeconds")?.into(),
        ]);
    }
    Ok(table)
}
