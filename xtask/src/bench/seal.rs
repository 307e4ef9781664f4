//! Sealing and opening, beside `openssl speed` and the library alone.

use super::{Bar, Options, Report, Spread, Table, example, figures, number, output};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::process::Command;

/// What must be reached of OpenSSL's own speed, memory to memory, in percent.
const PERCENT: f64 = 80.0;
/// The most memory that sealing or opening any size may take, in MiB.
const MEMORY: f64 = 64.0;
/// Bytes at a time that OpenSSL is measured with.
const BLOCK: &str = "16384";
const SECONDS: &str = "2";

pub(super) fn run(options: &Options) -> Result<Report> {
    let (memory_mib, file_mib) = if options.quick { (64, 128) } else { (256, 1024) };
    let mut sealing = example("decores-keys", "bench_seal")?;
    let mut client = example("decores-client", "bench_files")?;
    let version = output(Command::new("openssl").arg("version"))?.trim().to_owned();
    let (mut openssl, mut runs, mut files) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that a busy minute of the machine is everybody's.
    sealing.arg(memory_mib.to_string());
    client.arg(file_mib.to_string());
    for _ in 0..options.runs {
        openssl.push(openssl_speed().context("failed to read what `openssl speed` printed")?);
        runs.extend(figures(&mut sealing)?);
        files.extend(figures(&mut client)?);
    }
    let openssl = Spread::of_speeds(openssl);
    let mut table = Table::new(&["one thread", "MB/s, median", "worst", "to OpenSSL", "peak MiB"]);
    let mut row = |name: String, speed: Spread, peak: f64| {
        let share = speed.median / openssl.median;
        table.row([name.into(), speed.median.into(), speed.worst.into(), share.into(), peak.into()]);
        share * 100.0
    };
    row("`openssl speed`, AES-256-GCM, 16 KiB blocks".to_owned(), openssl, f64::NAN);
    let speed = |figures: &[Value], name: &str| of(figures, name, "MBps").map(Spread::of_speeds);
    row(format!("AWS-LC alone, 64 KiB chunks, {memory_mib} MiB"), speed(&runs, "aes-256-gcm")?, f64::NAN);
    let seal = row("seal, memory to memory".to_owned(), speed(&runs, "seal")?, f64::NAN);
    let open = row("open, memory to memory".to_owned(), speed(&runs, "open")?, f64::NAN);
    let mut peak: f64 = 0.0;
    for (name, what) in [
        ("copy", "copy, file to file"),
        ("sha256", "SHA-256 of a file"),
        ("seal", "client: hash, then hash and seal, file to file"),
        ("open", "client: open and hash, then open, file to file"),
    ] {
        let memory = Spread::of_costs(of(&files, name, "peakMiB")?).worst;
        peak = peak.max(memory);
        row(format!("{what}, {file_mib} MiB"), speed(&files, name)?, memory);
    }
    let bars = vec![
        Bar::at_least("seal, memory to memory, to `openssl speed`", PERCENT, "%", seal),
        Bar::at_least("open, memory to memory, to `openssl speed`", PERCENT, "%", open),
        Bar::at_most("peak memory of sealing or opening 1 GiB", MEMORY, "MiB", peak),
    ];
    Ok(Report { tables: vec![table], bars, versions: vec![version] })
}

/// One figure of all runs of one measurement.
fn of(figures: &[Value], bench: &str, name: &str) -> Result<Vec<f64>> {
    let named = |figure: &&Value| figure.get("bench").and_then(Value::as_str) == Some(bench);
    figures.iter().filter(named).map(|figure| number(figure, name)).collect()
}

/// MB/s of OpenSSL's own measurement.
fn openssl_speed() -> Result<f64> {
    let arguments = ["speed", "-elapsed", "-seconds", SECONDS, "-bytes", BLOCK, "-evp", "aes-256-gcm", "-mr"];
    let text = output(Command::new("openssl").args(arguments))?;
    // The machine-readable result: `+F:number:name:bytes per second`.
    let line = text.lines().find(|line| line.starts_with("+F:")).context("no result line")?;
    let bytes: f64 = line.rsplit(':').next().context("no figure")?.trim().parse()?;
    Ok(bytes / 1e6)
}
