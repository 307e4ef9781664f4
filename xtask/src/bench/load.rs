//! Many jobs, two consumers, and what a node weighs: the figures of `load/`.

use super::{Bar, Options, Report, Table, cargo, figures, number, output, programs};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::process::Command;

const MIB: f64 = 1024.0;

fn measure(arguments: &[&str]) -> Result<Value> {
    let packages = ["-p", "decores-cli", "-p", "decores-daemon", "-p", "decores-engine-wasm", "-p", "decores-load"];
    output(cargo().args(["build", "-q", "--bins"]).args(packages))?;
    let figures = figures(Command::new(programs()?.join("decores-load")).args(arguments))?;
    figures.into_iter().next().context("the run gave no figures")
}

/// A number some levels down.
fn at(figures: &Value, path: &str) -> Result<f64> {
    figures.pointer(path).and_then(Value::as_f64).with_context(|| format!("the figure `{path}` is missing"))
}

/// Jobs of many clients: each ends once, every receipt verifies, nothing is left. What is not so ends the run.
pub(super) fn load(options: &Options) -> Result<Report> {
    let (jobs, clients) = if options.quick { ("400", "40") } else { ("10000", "200") };
    let found = measure(&["load", jobs, clients])?;
    let mut ends = Table::new(&["jobs of a mix, by how they ended", "jobs"]);
    let counted = found.get("ends").and_then(Value::as_object).context("the ends are missing")?;
    for (end, count) in counted {
        ends.row([end.as_str().into(), count.as_f64().unwrap_or(f64::NAN).into()]);
    }
    let mut run = Table::new(&["the run", "figure"]);
    let (taken, seconds) = (number(&found, "taken")?, number(&found, "seconds")?);
    run.row(["clients, each a consumer".into(), clients.into()]);
    run.row(["attempts, each ended once, its receipt good".into(), number(&found, "attempts")?.into()]);
    run.row(["engines killed meanwhile".into(), number(&found, "killed")?.into()]);
    run.row(["log entries".into(), number(&found, "entries")?.into()]);
    run.row(["seconds".into(), seconds.into()]);
    run.row(["jobs a second, receipts verified".into(), (taken / seconds).into()]);
    let weight = weights(&found, &[("before", "before"), ("most", "at most"), ("after", "after")])?;
    let grown = (at(&found, "/after/nodeRssKiB")? - at(&found, "/before/nodeRssKiB")?) / MIB;
    let bars = vec![Bar::at_most("resident memory after the run, beyond that before", 20.0, "MiB", grown)];
    Ok(Report { tables: vec![ends, run, weight], bars, ..Report::default() })
}

/// What one consumer's flood costs another.
pub(super) fn fairness(options: &Options) -> Result<Report> {
    let jobs = if options.quick { "20" } else { "200" };
    let mut table = Table::new(&["submit → verified receipt, ms", "p50", "p90", "p99", "worst", "p99, to alone"]);
    let mut flood = Table::new(&["the flood meanwhile", "jobs taken", "refused", "waiting at the end"]);
    let mut bars = Vec::new();
    for (name, told) in [("short", "jobs that are over at once"), ("spinning", "jobs that compute for 3 s")] {
        let found = measure(&["fairness", jobs, name])?;
        let growth = number(&found, "growth")?;
        for (row, when, ratio) in
            [("/alone", "alone".to_owned(), 1.0), ("/beside", format!("beside a flood of {told}"), growth)]
        {
            let time = |name: &str| at(&found, &format!("{row}/{name}"));
            let [p50, p90, p99, worst] = [time("p50")?, time("p90")?, time("p99")?, time("worst")?];
            table.row([when.into(), p50.into(), p90.into(), p99.into(), worst.into(), ratio.into()]);
        }
        let count = |name| number(&found, name);
        let [taken, refused, waiting] = [count("floodTaken")?, count("floodRefused")?, count("floodWaiting")?];
        flood.row([told.into(), taken.into(), refused.into(), waiting.into()]);
        bars.push(Bar::at_most(format!("p99 beside a flood of {told}"), 2.0, "times that alone", growth));
    }
    Ok(Report { tables: vec![table, flood], bars, ..Report::default() })
}

/// What a node weighs, idle and with jobs waiting.
pub(super) fn memory(options: &Options) -> Result<Report> {
    let jobs = if options.quick { "100" } else { "1000" };
    let found = measure(&["memory", jobs])?;
    let (queued, finished) = (format!("{jobs} jobs waiting"), format!("{jobs} jobs over"));
    let table = weights(&found, &[("idle", "idle"), ("queued", &queued), ("finished", &finished)])?;
    let both = |when: &str| {
        let part = |of: &str| at(&found, &format!("/{when}/{of}RssKiB"));
        Ok::<_, anyhow::Error>((part("node")? + part("launcher")?) / MIB)
    };
    let bars = vec![
        Bar::at_most("idle node and launcher, resident", 60.0, "MiB", both("idle")?),
        Bar::at_most(format!("{queued}, beyond idle"), 20.0, "MiB", both("queued")? - both("idle")?),
    ];
    Ok(Report { tables: vec![table], bars, ..Report::default() })
}

fn weights(found: &Value, moments: &[(&str, &str)]) -> Result<Table> {
    let mut table = Table::new(&[
        "memory, MiB",
        "`decoresd` RSS",
        "`decoresd` PSS",
        "launcher RSS",
        "launcher PSS",
        "descriptors",
        "threads",
    ]);
    for (moment, name) in moments {
        let figure = |of: &str| at(found, &format!("/{moment}/{of}"));
        let kib = |of: &str| Ok::<_, anyhow::Error>(figure(of)? / MIB);
        table.row([
            (*name).into(),
            kib("nodeRssKiB")?.into(),
            kib("nodePssKiB")?.into(),
            kib("launcherRssKiB")?.into(),
            kib("launcherPssKiB")?.into(),
            figure("descriptors")?.into(),
            figure("threads")?.into(),
        ]);
    }
    Ok(table)
}
