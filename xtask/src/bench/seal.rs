//! Sealing, beside the library alone and `openssl speed`.

use super::{cargo, output};
use anyhow::{Context as _, Result};
use std::process::Command;

pub(super) fn run(mib: usize) -> Result<()> {
    let own = output(
        cargo()
            .args(["run", "-q", "-p", "decores-keys", "--example", "bench_seal", "--", "--json"])
            .arg(mib.to_string()),
    )?;
    let openssl = openssl().context("failed to read what `openssl speed` printed; is openssl installed?")?;
    let mut rows = vec![("`openssl speed` AES-256-GCM, 64 KiB blocks".to_owned(), openssl, openssl)];
    for line in own.lines() {
        let row: serde_json::Value = serde_json::from_str(line)?;
        let number = |name: &str| row.get(name).and_then(serde_json::Value::as_f64).context("a figure is missing");
        let name = match row.get("bench").and_then(|v| v.as_str()) {
            Some("aes-256-gcm") => "AWS-LC alone, 64 KiB chunks",
            Some("seal") => "seal (STREAM)",
            Some("open") => "open (STREAM)",
            _ => continue,
        };
        rows.push((name.to_owned(), number("medianMBps")?, number("worstMBps")?));
    }
    let bare = rows.get(1).map_or(openssl, |row| row.1);
    println!("| {mib} MiB, one thread | MB/s, median of 5 | worst | to AWS-LC alone |");
    println!("|---|---|---|---|");
    for (name, median, worst) in rows {
        println!("| {name} | {median:.0} | {worst:.0} | {:.2} |", median / bare);
    }
    Ok(())
}

/// MB/s of OpenSSL's own measurement.
fn openssl() -> Result<f64> {
    let arguments = ["speed", "-elapsed", "-seconds", "3", "-bytes", "65536", "-evp", "aes-256-gcm", "-mr"];
    let text = output(Command::new("openssl").args(arguments))?;
    // The machine-readable result: `+F:number:name:bytes per second`.
    let line = text.lines().find(|line| line.starts_with("+F:")).context("no result line")?;
    let bytes: f64 = line.rsplit(':').next().context("no figure")?.trim().parse()?;
    Ok(bytes / 1e6)
}
