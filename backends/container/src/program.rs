//! Runtimes that are programs: `runc`, `runsc`, `kata-runtime`. Started by absolute path, with no environment.

use crate::stop::{Stop, at};
use decores_sandbox::container::Runtime;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ID: &str = "job";
/// Where a program may lie; the first that has it.
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/opt/kata/bin", "/run/current-system/sw/bin"];
/// Of a runtime's own log this much is read, in bytes.
const LONGEST_LOG: u64 = 64 << 10;
/// Of what it says went wrong this much is passed on, in characters.
const LONGEST_REASON: usize = 500;

/// A runtime's program on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    runtime: Runtime,
    path: PathBuf,
}

impl Program {
    /// Looks for it; `None` for a runtime that is no program.
    ///
    /// # Errors
    /// If it is not installed.
    pub(crate) fn find(runtime: Runtime) -> Result<Option<Self>, Stop> {
        let name = match runtime {
            Runtime::Libcontainer => return Ok(None),
            Runtime::Runc => "runc",
            Runtime::Runsc => "runsc",
            Runtime::Kata => "kata-runtime",
        };
        let found = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        let path =
            found.ok_or_else(|| Stop::Failed(format!("`{name}` is not installed: it is in none of {FOLDERS:?}")))?;
        Ok(Some(Self { runtime, path }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, as it says.
    pub(crate) fn version(&self) -> Result<String, Stop> {
        let output = self.command().arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(at("asking the runtime for its version"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default();
        // `runc version 1.1.5`, `runsc version release-…`, `kata-runtime  : 3.2.0`
        let version = first.rsplit([' ', ':']).next().unwrap_or_default();
        if version.is_empty() || version.len() > 100 {
            return Err(Stop::failed("asking the runtime for its version", "it says none"));
        }
        Ok(version.to_owned())
    }

    /// Makes a container of the bundle without starting its program; its init's id.
    pub(crate) fn create(&self, bundle: &Path, standard: [OwnedFd; 3]) -> Result<i32, Stop> {
        let pid_file = bundle.join("pid");
        let mut command = self.with_state(bundle);
        command
            .arg("create")
            .arg("--no-new-keyring")
            .arg("--pid-file")
            .arg(&pid_file)
            .arg("--bundle")
            .arg(bundle)
            .arg(ID);
        let [input, output, error] = standard.map(Stdio::from);
        let status = command.stdin(input).stdout(output).stderr(error).status().map_err(at("starting the runtime"))?;
        if !status.success() {
            return Err(reason(bundle));
        }
        let pid = fs::read_to_string(pid_file).map_err(at("reading the container's process id"))?;
        pid.trim().parse().map_err(at("reading the container's process id"))
    }

    /// Starts the program of a container that was made.
    pub(crate) fn start(&self, bundle: &Path) -> Result<(), Stop> {
        let mut command = self.with_state(bundle);
        let nothing = || Stdio::null();
        command.arg("start").arg(ID).stdin(nothing()).stdout(nothing()).stderr(nothing());
        let status = command.status().map_err(at("starting the runtime"))?;
        if status.success() { Ok(()) } else { Err(reason(bundle)) }
    }

    /// Runs a container of the bundle: the process, which ends as its program does.
    pub(crate) fn run(&self, bundle: &Path, standard: [OwnedFd; 3]) -> Result<i32, Stop> {
        let mut command = self.with_state(bundle);
        command.arg("run").arg("--bundle").arg(bundle).arg(ID);
        let [input, output, error] = standard.map(Stdio::from);
        let child = command.stdin(input).stdout(output).stderr(error).spawn().map_err(at("starting the runtime"))?;
        i32::try_from(child.id()).map_err(at("reading the runtime's process id"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear();
        command
    }

    fn with_state(&self, bundle: &Path) -> Command {
        let mut command = self.command();
        command.arg("--root").arg(bundle.join("state"));
        let log = bundle.join("log");
        command.arg("--log").arg(log).args(["--log-format", "json"]);
        match self.runtime {
            // It may not make control groups in the helper's view, and goes on without only if it is not root.
            Runtime::Runc => command.args(["--rootless", "true"]),
            Runtime::Runsc => command.args(["--network", "none", "--ignore-cgroups"]),
            Runtime::Kata | Runtime::Libcontainer => &mut command,
        };
        command
    }
}

/// What the runtime's log says last.
pub(crate) fn reason(bundle: &Path) -> Stop {
    let mut log = Vec::new();
    let read = File::open(bundle.join("log")).and_then(|file| file.take(LONGEST_LOG).read_to_end(&mut log));
    let entries = serde_json::Deserializer::from_slice(&log).into_iter::<serde_json::Value>().map_while(Result::ok);
    let is = |entry: &serde_json::Value, level: &str| entry.get("level").is_some_and(|l| l == level);
    let last = entries
        .filter(|entry| is(entry, "error") || is(entry, "fatal"))
        .filter_map(|entry| entry.get("msg")?.as_str().map(str::to_owned))
        .last();
    let why = match (read, last) {
        (_, Some(why)) => why.chars().take(LONGEST_REASON).collect(),
        _ => "the runtime does not say why".to_owned(),
    };
    if why.contains("executable file not found") || why.contains("exec: \"") {
        return Stop::Refused(format!("the image's program did not start: {why}"));
    }
    Stop::failed("the runtime", why)
}
