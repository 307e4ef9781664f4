//! The command line. People use `decores doctor --escape`, which calls it.

use crate::table::Engine;
use clap::Parser;
use decores_sandbox::Hole;

/// Try to get out of the jails of this machine, and tell.
#[derive(Debug, Parser)]
#[command(name = "decores-escape", version)]
pub(crate) struct Arguments {
    /// Print JSON: one array of rows.
    #[arg(long)]
    pub(crate) json: bool,
    /// One engine only, or another program beside ours; both engines where none is named.
    #[arg(long, value_enum)]
    pub(crate) engine: Option<Engine>,
    /// Leave a mechanism out, to see that the table notices; may be given more than once.
    #[arg(long = "hole", value_name = "NAME", value_parser = hole)]
    pub(crate) holes: Vec<Hole>,
    /// Run this probe only; may be given more than once.
    #[arg(long = "probe", value_name = "NAME", value_parser = probe)]
    pub(crate) probes: Vec<&'static str>,
    /// Print each probe with the mechanisms that stop it, and run none.
    #[arg(long, conflicts_with_all = ["holes", "probes"])]
    pub(crate) list: bool,
}

fn hole(name: &str) -> Result<Hole, String> {
    let names = || Hole::ALL.iter().map(|hole| hole.as_str()).collect::<Vec<_>>().join(", ");
    let found = Hole::ALL.iter().find(|hole| hole.as_str() == name);
    found.copied().ok_or_else(|| format!("no such mechanism; there are {}", names()))
}

fn probe(name: &str) -> Result<&'static str, String> {
    let found = crate::probes::named(name);
    found.map(|probe| probe.name).ok_or_else(|| "no such probe; `--list` shows them".to_owned())
}
