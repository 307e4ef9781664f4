//! On what a benchmark ran.

use super::output;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt;
use std::process::Command;

/// The machine, and what the programs were built with.
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_mib: u64,
    system: String,
    kernel: String,
    /// Of the folder for temporary files, where logs and homes of benchmarks lie.
    file_system: String,
    /// Tasks that wanted to run in the last minute: others' work is in the figures.
    load: String,
    compiler: String,
    commit: String,
}

/// Cargo's profile that all of it is built in.
const PROFILE: &str = "dev (opt-level 1, dependencies 1, cryptography 3)";

/// Looks at this machine.
pub(crate) fn describe() -> Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str, split: char| {
        let line = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(split));
        line.map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
    };
    let memory = after(&read("/proc/meminfo"), "MemTotal", ':');
    let memory: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let folder = std::env::temp_dir();
    let file_system = output(Command::new("findmnt").args(["-no", "FSTYPE,SOURCE", "-T"]).arg(folder))?;
    let changed = !output(Command::new("git").args(["status", "--porcelain"]))?.trim().is_empty();
    let commit = output(Command::new("git").args(["rev-parse", "--short", "HEAD"]))?.trim().to_owned();
    Ok(Machine {
        processor: after(&read("/proc/cpuinfo"), "model name", ':'),
        cores: std::thread::available_parallelism()?.get(),
        memory_mib: memory / 1024,
        system: after(&read("/etc/os-release"), "PRETTY_NAME", '='),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        file_system: file_system.split_whitespace().collect::<Vec<_>>().join(" on "),
        load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        compiler: output(Command::new("rustc").arg("--version"))?.trim().to_owned(),
        commit: if changed { format!("{commit} with changes") } else { commit },
    })
}

impl Machine {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "processor": self.processor, "cores": self.cores, "memoryMiB": self.memory_mib, "system": self.system,
            "kernel": self.kernel, "fileSystem": self.file_system, "load": self.load, "compiler": self.compiler,
            "commit": self.commit, "profile": PROFILE,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_mib, system, kernel, file_system, load, compiler, commit } = self;
        writeln!(
            f,
            "{processor}, {cores} cores, {memory_mib} MiB, {system}, Linux {kernel}, {file_system}, load {load}"
        )?;
        writeln!(f, "Profile {PROFILE}, {compiler}, commit {commit}")
    }
}
