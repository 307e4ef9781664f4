//! `cargo xtask bench`: figures beside the bare tools, taken in the same run.
//!
//! Machines differ and are noisy, so every figure stands next to a rival's and the ratio is what counts.
//! Each benchmark is a module that gives a [`Report`]: tables in Markdown, ready for `docs/performance.md`, and the
//! bars that are held to them. The programs that measure are examples of the crates they measure; what is here starts
//! them and sets their figures beside each other. A new one is a module and a line in [`ALL`].

mod container;
mod escape;
mod http;
mod job;
mod load;
mod log;
mod machine;
mod node;
mod report;
mod seal;
mod wasm;

use anyhow::{Context as _, Result, bail};
use clap::Args;
pub(crate) use report::{Bar, Report, Spread, Table};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// One benchmark.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Result<Report>,
}

/// All there are, in the order in which they are listed.
const ALL: [Bench; 10] = [
    Bench { name: "seal", about: "sealing and opening, beside `openssl speed` and AWS-LC alone", run: seal::run },
    Bench { name: "job", about: "whole jobs through a node, beside the bare engine in one process", run: job::run },
    Bench { name: "wasm", about: "jobs of a kept program, beside the bare engine in its jail", run: wasm::run },
    Bench { name: "container", about: "containers, beside `runc run` and libcontainer alone", run: container::run },
    Bench { name: "log", about: "durable appends and proofs, beside SQLite and `fdatasync` alone", run: log::run },
    Bench { name: "http", about: "connections and requests, beside a bare rustls and axum hello", run: http::run },
    Bench { name: "load", about: "10,000 jobs of 200 clients, and what is left of them", run: load::load },
    Bench { name: "fairness", about: "what one consumer's flood of jobs costs another", run: load::fairness },
    Bench { name: "memory", about: "an idle node, and what 1,000 waiting jobs add", run: load::memory },
    Bench { name: "escape", about: "attempts to get out, beside bubblewrap, runc and crun", run: escape::run },
];

/// What a benchmark is told.
#[derive(Args)]
pub(crate) struct Options {
    /// Times that each figure is taken
    #[arg(long, default_value_t = 5)]
    pub(crate) runs: usize,
    /// Smaller sizes and shorter times, for a first look; the bars are not judged
    #[arg(long)]
    pub(crate) quick: bool,
}

/// What to measure.
#[derive(Args)]
pub(crate) struct Selection {
    /// Names of benchmarks; lists them where there is none
    names: Vec<String>,
    /// Prints one JSON object a benchmark instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

/// Runs what was chosen; fails where a bar is missed.
pub(crate) fn run(selection: &Selection) -> Result<ExitCode> {
    let found = |name: &String| {
        let bench = ALL.iter().find(|bench| bench.name == name);
        bench.with_context(|| format!("there is no benchmark `{name}`; `cargo xtask bench` lists them"))
    };
    let chosen = selection.names.iter().map(found).collect::<Result<Vec<&Bench>>>()?;
    if chosen.is_empty() {
        ALL.iter().for_each(|bench| println!("{:<10} {}", bench.name, bench.about));
    }
    let mut missed = false;
    for bench in chosen {
        let machine = machine::describe()?;
        let mut report = (bench.run)(&selection.options).with_context(|| format!("`bench {}` failed", bench.name))?;
        if selection.options.quick {
            report.bars.clear();
        }
        missed |= report.bars.iter().any(|bar| !bar.is_met());
        if selection.json {
            println!("{}", report.to_json(bench.name, &machine));
        } else {
            print!("{}", report.to_markdown(bench.name, &machine));
        }
    }
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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

/// Builds an example of a crate; the command that runs it.
pub(crate) fn example(package: &str, name: &str) -> Result<Command> {
    output(cargo().args(["build", "-q", "-p", package, "--example", name]))?;
    Ok(Command::new(programs()?.join("examples").join(name)))
}

/// Runs a program that prints one JSON object a line.
pub(crate) fn figures(command: &mut Command) -> Result<Vec<Value>> {
    output(command)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A number in a JSON object.
pub(crate) fn number(object: &Value, name: &str) -> Result<f64> {
    object.get(name).and_then(Value::as_f64).with_context(|| format!("the figure `{name}` is missing"))
}

/// Where cargo puts programs of the `dev` profile.
pub(crate) fn programs() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let target = metadata.get("target_directory").and_then(|v| v.as_str()).context("cargo names no target folder")?;
    Ok(PathBuf::from(target).join("debug"))
}

/// How long something takes, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = std::time::Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
