//! Jobs of a program that is kept compiled, beside the same launcher and engine started by hand, and wasmtime alone.

use super::{Bar, Options, Report, Spread, Table, example, figures, node, number};
use anyhow::{Context as _, Result};
use std::process::Command;

/// What a node may add to the bare engine beside its syncs, in milliseconds.
const ALLOWANCE_MS: f64 = 5.0;
/// The part of the bare engine's jobs a second that a node must reach.
const PART: f64 = 0.5;

pub(super) fn run(options: &Options) -> Result<Report> {
    node::build()?;
    let jobs = if options.quick { "10" } else { "40" };
    let mut measure = example("decores-tests", "bench_wasm")?;
    let alone = example("decores-engine-wasm", "bench_bare")?;
    let module = std::env::temp_dir().join(format!("decores-bench-{}.wasm", std::process::id()));
    super::output(Command::new(measure.get_program()).arg("--write").arg(&module))?;
    let in_process = (0..options.runs)
        .map(|_| {
            number(
                figures(Command::new(alone.get_program()).arg(&module).arg("200"))?
                    .first()
                    .context("wasmtime gave no figures")?,
                "warmMs",
            )
        })
        .collect::<Result<Vec<f64>>>();
    std::fs::remove_file(&module)?;
    let in_process = Spread::of_costs(in_process?);
    let mut rounds = figures(measure.args(["--jobs", jobs, "--rounds", &options.runs.to_string()]))?;
    let syncs = number(&rounds.pop().context("the benchmark gave no figures")?, "syncs")?;
    let part = |name: &str| rounds.iter().map(|round| number(round, name)).collect::<Result<Vec<f64>>>();
    let (bare, through, sync) = (part("bareOver")?, part("node")?, Spread::of_costs(part("syncMs")?));
    // Of each round its own difference: a busy minute is both sides'.
    let added = Spread::of_costs(through.iter().zip(&bare).map(|(node, bare)| node - bare).collect());
    let (bare, through) = (Spread::of_costs(bare), Spread::of_costs(through));
    let mut table = Table::new(&["one job at a time, p50", "ms, median", "worst", "to bare"]);
    let mut row = |name: &str, spread: Spread| {
        table.row([name.into(), spread.median.into(), spread.worst.into(), (spread.median / bare.median).into()]);
    };
    row("wasmtime in one process: load, instantiate, run", in_process);
    row("bare engine in its jail: started", Spread::of_costs(part("bareLaunched")?));
    row("bare engine in its jail: locked in", Spread::of_costs(part("bareLocked")?));
    row("bare engine in its jail: its last word", Spread::of_costs(part("bareSpoken")?));
    row("bare engine in its jail: nothing of it left", bare);
    row("node: submission to receipt", through);
    row("node, 99th percentile", Spread::of_costs(part("nodeP99")?));
    row("what the node adds", added);
    row("one `fdatasync`", sync);
    let (bare_rate, rate) = (Spread::of_speeds(part("bareRate")?), Spread::of_speeds(part("nodeRate")?));
    let mut rates = Table::new(&["four at a time", "jobs a second, median", "worst", "to bare"]);
    for (name, spread) in [("bare engine in its jail", bare_rate), ("node, clients included", rate)] {
        rates.row([name.into(), spread.median.into(), spread.worst.into(), (spread.median / bare_rate.median).into()]);
    }
    let most = ALLOWANCE_MS + syncs * sync.median;
    let bars = vec![
        Bar::at_most(format!("added to a job, {ALLOWANCE_MS} ms + {syncs:.1} syncs"), most, "ms", added.median),
        Bar::at_least("jobs a second", PART * bare_rate.median, "1/s", rate.median),
    ];
    Ok(Report { tables: vec![table, rates], bars, ..Report::default() })
}
