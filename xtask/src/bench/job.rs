//! Whole jobs through a node, beside the same program run bare by the same engine.

use super::node::{self, Node};
use super::{Options, Report, Spread, Table, example, number, output, timed};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::process::{Command, Stdio};

const PROGRAM: &str = "examples/weather/program.wasm";
const DATA: &str = "examples/weather/weather.csv";

/// Runs one job from start to checked receipt, in milliseconds; and what its receipt says of itself.
fn job(node: &Node) -> Result<(f64, Value)> {
    let (out, receipt) = (node.folder().join("out"), node.folder().join("receipt.json"));
    let mut command = node.decores();
    command.args(["job", "run", PROGRAM, "-i", DATA, "-o"]).arg(&out).arg("--receipt").arg(&receipt);
    let elapsed = timed(|| output(command.stderr(Stdio::null())).map(drop))?;
    let list = output(node.decores().args(["job", "list", "--json"]))?;
    let list: Value = serde_json::from_str(&list)?;
    let job = list.pointer("/items/0").or_else(|| list.pointer("/0")).context("no job is listed")?.clone();
    if job.get("state").and_then(Value::as_str) != Some("done") {
        bail!("a job did not end well: {job}");
    }
    Ok((elapsed, job))
}

pub(super) fn run(options: &Options) -> Result<Report> {
    node::build()?;
    let engine = example("decores-engine-wasm", "bench_bare")?;
    let bare = (0..options.runs).map(|_| bare(&engine)).collect::<Result<Vec<Value>>>()?;
    let part = |name: &str| bare.iter().map(|figures| number(figures, name)).collect::<Result<Vec<f64>>>();
    let (compile, start, work) = (part("compileMs")?, part("instantiateMs")?, part("runMs")?);
    let whole = compile.iter().zip(&start).zip(&work).map(|((c, s), w)| c + s + w).collect();
    let node = Node::start()?;
    let (mut elapsed, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let (ms, job) = job(&node)?;
        elapsed.push(ms);
        inside.push(span(&job)?);
    }
    let whole = Spread::of_costs(whole);
    let mut table = Table::new(&["weather job, 2.3 MB in", "ms, median", "worst", "to bare"]);
    let mut row = |name: &str, spread: Spread| {
        table.row([name.into(), spread.median.into(), spread.worst.into(), (spread.median / whole.median).into()]);
    };
    row("bare engine: compile", Spread::of_costs(compile));
    row("bare engine: run", Spread::of_costs(work));
    row("bare engine: compile, instantiate, run", whole);
    row("node: queued to done, wiped, logged", Spread::of_costs(inside));
    row("command line: offer, seal, submit, run, fetch, open, verify", Spread::of_costs(elapsed));
    Ok(Report { tables: vec![table], ..Report::default() })
}

/// Runs the program in one process, without node or sandbox; what took how long.
fn bare(engine: &Command) -> Result<Value> {
    let ran = Command::new(engine.get_program()).arg(PROGRAM).stdin(std::fs::File::open(DATA)?).output();
    let ran = ran.with_context(|| format!("failed to start `{}`", engine.get_program().display()))?;
    let said = String::from_utf8(ran.stderr)?;
    let line = said.lines().rfind(|line| line.starts_with('{')).context("the bare engine gave no figures")?;
    Ok(serde_json::from_str(line)?)
}

/// Milliseconds from the first to the last step, by the node's clock.
fn span(job: &Value) -> Result<f64> {
    let steps = job.get("steps").and_then(Value::as_array).context("a job has steps")?;
    let time = |step: Option<&Value>| {
        let text = step.and_then(|s| s.get("time")).and_then(Value::as_str).context("a step has a time")?;
        millisecond_of_day(text).with_context(|| format!("`{text}` is not a time"))
    };
    let (first, last) = (time(steps.first())?, time(steps.last())?);
    // A job that runs over midnight.
    Ok(if last < first { last + 86_400_000.0 - first } else { last - first })
}

/// Of a time such as `2026-01-01T12:34:56.789Z`.
fn millisecond_of_day(text: &str) -> Option<f64> {
    let (_, clock) = text.trim_end_matches('Z').split_once('T')?;
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some((hours * 3600.0 + minutes * 60.0 + seconds) * 1000.0)
}
