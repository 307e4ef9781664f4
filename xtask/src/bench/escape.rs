//! Attempts to get out of jails, the same under bubblewrap, runc and crun.

use super::{Bar, Options, Report, Table, cargo, output, programs};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// In the order of the table's columns.
const ENGINES: [&str; 5] = ["wasm", "container", "bwrap", "runc", "crun"];
/// Ours come first.
const OURS: usize = 2;
const RESULTS: [&str; 3] = ["contained", "escaped", "absent"];
/// Rows that an engine's table must have.
const ROWS: f64 = 40.0;
/// Exit code of a table with an escape in it.
const ESCAPED: i32 = 3;

/// What came of every probe, by its name and then by engine.
type Results = BTreeMap<String, [Option<String>; ENGINES.len()]>;

pub(super) fn run(_: &Options) -> Result<Report> {
    let packages = ["decores-escape", "decores-engine-container", "decores-helper"];
    output(cargo().args(["build", "-q"]).args(packages.iter().flat_map(|package| ["-p", package])))?;
    let (mut results, mut order) = (Results::new(), Vec::new());
    for (column, engine) in ENGINES.iter().enumerate() {
        for row in rows(engine)? {
            let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
            let (probe, result) = (text("probe").context("a row without a probe")?, text("result"));
            if !results.contains_key(&probe) {
                order.push((probe.clone(), text("tries").unwrap_or_default()));
            }
            if let Some(place) = results.entry(probe).or_default().get_mut(column) {
                *place = result;
            }
        }
    }
    let count = |column: usize, result: Option<&str>| {
        let of = results.values().filter_map(|columns| columns.get(column)?.as_deref());
        of.filter(|found| result.is_none_or(|wanted| *found == wanted)).count() as f64
    };
    let mut bars = Vec::new();
    for (column, engine) in ENGINES.iter().enumerate().take(OURS) {
        bars.push(Bar::at_least(format!("{engine}: probes"), ROWS, "rows", count(column, None)));
        bars.push(Bar::at_most(format!("{engine}: escaped"), 0.0, "rows", count(column, Some("escaped"))));
    }
    let mut sums = Table::new(&["probes", "wasm", "container", "bwrap", "runc", "crun"]);
    for result in RESULTS {
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|column| format!("{:.0}", count(column, Some(result))).into());
        sums.row([result.into(), a, b, c, d, e]);
    }
    let mut table = Table::new(&["probe", "what it tries", "wasm", "container", "bwrap", "runc", "crun"]);
    for (probe, tries) in order {
        let [a, b, c, d, e] = results.remove(&probe).unwrap_or_default().map(|cell| shown(cell.as_deref()).into());
        table.row([format!("`{probe}`").into(), tries.into(), a, b, c, d, e]);
    }
    Ok(Report { tables: vec![sums, table], bars, versions: versions()? })
}

fn rows(engine: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(programs()?.join("decores-escape"));
    let output = command.args(["--json", "--engine", engine]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() && output.status.code() != Some(ESCAPED) {
        bail!("the probes under {engine} ended with {}", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// An engine that a probe means nothing to has an empty cell.
fn shown(result: Option<&str>) -> String {
    match result {
        Some("escaped") => "**escaped**".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    }
}

fn versions() -> Result<Vec<String>> {
    let version = |name: &&str| {
        let said = output(Command::new(name).arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    };
    ENGINES.iter().skip(OURS).map(version).collect()
}
