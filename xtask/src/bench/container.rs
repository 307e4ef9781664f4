//! Containers that run `true`: our helper, beside `runc run` and libcontainer alone with the same spec.

use super::{Bar, Options, Report, Spread, Table, cargo, example, figures, number, output};
use anyhow::{Context as _, Result};
use std::process::Command;

/// How much longer than either of the others it may take.
const TIMES: f64 = 1.3;

const MEASURED: [(&str, &str); 5] = [
    ("helper", "helper, libcontainer built in"),
    ("bare", "libcontainer alone, same spec"),
    ("runc", "`runc run`, same spec"),
    ("runcDefault", "`runc run`, the spec of `runc spec`"),
    ("helperRunc", "helper, `runc` by name"),
];

pub(super) fn run(options: &Options) -> Result<Report> {
    output(cargo().args(["build", "-q", "-p", "decores-helper"]))?;
    let bare = example("decores-container", "bare")?;
    let measure = example("decores-helper", "bench_container")?;
    let times = if options.quick { "5" } else { "20" };
    let mut medians = vec![Vec::new(); MEASURED.len()];
    for _ in 0..options.runs {
        let mut command = Command::new(measure.get_program());
        let found = figures(command.arg(bare.get_program()).arg(times))?;
        for ((name, _), medians) in MEASURED.iter().zip(&mut medians) {
            let all = found.iter().map(|run| number(run, name)).collect::<Result<Vec<f64>>>()?;
            medians.push(Spread::of_costs(all).median);
        }
    }
    let spreads: Vec<Spread> = medians.into_iter().map(Spread::of_costs).collect();
    let ours = spreads.first().context("nothing was measured")?.median;
    let mut table = Table::new(&["start to exit of `true`", "ms, median", "worst round", "ours to it"]);
    let mut bars = Vec::new();
    for ((name, what), spread) in MEASURED.iter().zip(spreads) {
        table.row([(*what).into(), spread.median.into(), spread.worst.into(), (ours / spread.median).into()]);
        if ["bare", "runc"].contains(name) {
            bars.push(Bar::at_most(format!("to {}", what.replace('`', "")), TIMES, "times", ours / spread.median));
        }
    }
    let version = output(Command::new("runc").arg("--version"))?.lines().next().unwrap_or_default().to_owned();
    Ok(Report { tables: vec![table], bars, versions: vec![version, "libcontainer 0.7.0".to_owned()] })
}
