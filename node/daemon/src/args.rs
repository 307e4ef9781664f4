//! The command line of `decoresd`. People use `decores up`, `doctor` and `config check`, which call it.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A DeCores node.
#[derive(Debug, Parser)]
#[command(name = "decoresd", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node in the foreground.
    Run(Run),
    /// Say what this machine can do, what it cannot, and what mends it.
    Doctor(Doctor),
    /// Write damaged files of the log anew from the stored entries; the node must not run.
    MendLog(Common),
    /// Check a configuration file.
    ConfigCheck(Common),
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The node's folder.
    #[arg(long)]
    pub(crate) home: PathBuf,
    /// Configuration file; default: `config.toml` in the node's folder, if it is there.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Wipes that the node of this folder, which runs, says it has not finished.
    #[arg(long)]
    pub(crate) unfinished: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Address and port; overrides the configuration.
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// A name for people; overrides the configuration.
    #[arg(long)]
    pub(crate) name: Option<String>,
}
