//! Whole jobs through a node, beside the same program run bare by the same engine.

use super::{cargo, median_and_worst, output, programs};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const PROGRAM: &str = "examples/weather/program.wasm";
const DATA: &str = "examples/weather/weather.csv";

/// A node in a folder of its own; ended on drop.
struct Node {
    process: Child,
    folder: PathBuf,
    decores: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGTERM by `kill`, so that the node wipes and says goodbye; the folder goes with it.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Node {
    fn start(programs: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("decores-bench-{}", std::process::id()));
        let decores = programs.join("decores");
        let mut process = Command::new(&decores)
            .args(["up", "--listen", "127.0.0.1:0", "--home"])
            .arg(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start `{}`", decores.display()))?;
        let stdout = process.stdout.take().context("the node has no standard output")?;
        let node = Self { process, folder, decores };
        let line = BufReader::new(stdout).lines().map_while(Result::ok).find(|l| l.starts_with("decores login "));
        let line = line.context("the node did not say how to log in")?;
        output(node.decores().args(line.split_whitespace().skip(1)))?;
        Ok(node)
    }

    fn decores(&self) -> Command {
        let mut command = Command::new(&self.decores);
        command.env("DECORES_HOME", &self.folder);
        command
    }

    /// Runs one job from start to checked receipt, in milliseconds; and what its receipt says of itself.
    fn job(&self) -> Result<(f64, Value)> {
        let (out, receipt) = (self.folder.join("out"), self.folder.join("receipt.json"));
        let mut command = self.decores();
        command.args(["job", "run", PROGRAM, "-i", DATA, "-o"]).arg(&out).arg("--receipt").arg(&receipt);
        let elapsed = timed(|| output(command.stderr(Stdio::null())).map(drop))?;
        let list = output(self.decores().args(["job", "list", "--json"]))?;
        let list: Value = serde_json::from_str(&list)?;
        let job = list.pointer("/items/0").or_else(|| list.pointer("/0")).context("no job is listed")?.clone();
        if job.get("state").and_then(Value::as_str) != Some("done") {
            bail!("a job did not end well: {job}");
        }
        Ok((elapsed, job))
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

pub(super) fn run(runs: usize) -> Result<()> {
    let packages = ["-p", "decores-cli", "-p", "decores-daemon", "-p", "decores-engine-wasm"];
    output(cargo().args(["build", "-q"]).args(packages))?;
    let programs = programs()?;
    output(cargo().args(["build", "-q", "-p", "decores-engine-wasm", "--example", "bench_bare"]))?;
    let bare = (0..runs).map(|_| bare(&programs.join("examples/bench_bare"))).collect::<Result<Vec<Value>>>()?;
    let part = |name: &str| -> Result<Vec<f64>> {
        bare.iter()
            .map(|b| b.get(name).and_then(Value::as_f64).with_context(|| format!("`{name}` is missing")))
            .collect()
    };
    let (compile, start, work) = (part("compileMs")?, part("instantiateMs")?, part("runMs")?);
    let whole = compile.iter().zip(&start).zip(&work).map(|((c, s), w)| c + s + w).collect();
    let node = Node::start(&programs)?;
    let (mut elapsed, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (ms, job) = node.job()?;
        elapsed.push(ms);
        inside.push(span(&job)?);
    }
    let (bare, _) = median_and_worst(whole);
    println!("| weather job, 2.3 MB in, {runs} runs | ms, median | worst | to bare |");
    println!("|---|---|---|---|");
    let row = |name: &str, values: Vec<f64>| {
        let (median, worst) = median_and_worst(values);
        println!("| {name} | {median:.0} | {worst:.0} | {:.2} |", median / bare);
    };
    row("bare engine: compile", compile);
    row("bare engine: run", work);
    println!("| bare engine: compile, instantiate, run | {bare:.0} | | 1.00 |");
    row("node: queued to done, wiped, logged", inside);
    row("command line: offer, seal, submit, run, fetch, open, verify", elapsed);
    Ok(())
}

/// Runs the program in one process, without node or sandbox; what took how long.
fn bare(engine: &Path) -> Result<Value> {
    let ran = Command::new(engine).arg(PROGRAM).stdin(std::fs::File::open(DATA)?).output();
    let ran = ran.with_context(|| format!("failed to start `{}`", engine.display()))?;
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
