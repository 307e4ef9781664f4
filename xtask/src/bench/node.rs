//! A node to measure, as anybody starts one.

use super::{cargo, output, programs};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A node in a folder of its own; ended on drop.
pub(crate) struct Node {
    process: Child,
    folder: PathBuf,
    decores: PathBuf,
    /// Its address, `https://…`.
    pub(crate) url: String,
    /// The operator's API key.
    pub(crate) api_key: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGTERM by `kill`, so that the node wipes and says goodbye; the folder goes with it.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Builds the programs of a node, all with one set of features.
pub(crate) fn build() -> Result<()> {
    let packages = ["-p", "decores-cli", "-p", "decores-daemon", "-p", "decores-engine-wasm"];
    output(cargo().args(["build", "-q"]).args(packages)).map(drop)
}

impl Node {
    /// Starts one with what `build` built, and logs in.
    pub(crate) fn start() -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("decores-bench-{}-{number}", std::process::id()));
        let decores = programs()?.join("decores");
        let mut process = Command::new(&decores)
            .args(["up", "--listen", "127.0.0.1:0", "--home"])
            .arg(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start `{}`", decores.display()))?;
        let stdout = process.stdout.take().context("the node has no standard output")?;
        let mut node = Self { process, folder, decores, url: String::new(), api_key: String::new() };
        let line = BufReader::new(stdout).lines().map_while(Result::ok).find(|l| l.starts_with("decores login "));
        let line = line.context("the node did not say how to log in")?;
        output(node.decores().args(line.split_whitespace().skip(1)))?;
        let mut words = line.split_whitespace();
        node.url = words.nth(2).context("the node did not say where it is")?.to_owned();
        node.api_key = words.skip_while(|word| *word != "--api-key").nth(1).unwrap_or_default().to_owned();
        Ok(node)
    }

    /// The command line, logged in.
    pub(crate) fn decores(&self) -> Command {
        let mut command = Command::new(&self.decores);
        command.env("DECORES_HOME", &self.folder);
        command
    }

    /// Its home.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}
