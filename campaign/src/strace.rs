//! `strace` on a running node: calls that fail, calls that take longer, and a record of what was written.

use decores_tests::node::signal_all;
use decores_tests::wait::within;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How long attaching may take, in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// A trace of a process, its threads, and what they start.
#[derive(Debug)]
pub struct Strace(Child);

impl Strace {
    /// Attaches to every thread of a process.
    pub fn attach<A: AsRef<std::ffi::OsStr>>(pid: u32, args: impl IntoIterator<Item = A>) -> Result<Self, String> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-p", &pid.to_string()]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("this needs strace ({e}): apt-get install strace"))?;
        let mut this = Self(child);
        let attached = within(PATIENCE_MS, || (this.has_all_of(pid) || this.is_over()).then_some(()));
        if attached.is_some() && !this.is_over() { Ok(this) } else { Err(format!("strace did not attach to {pid}")) }
    }

    /// Makes every sync of a process take longer by some milliseconds, so that short states can be met.
    pub fn slow_down(pid: u32, ms: u64) -> Result<Self, String> {
        Self::attach(pid, ["-e".to_owned(), "trace=fsync,fdatasync".to_owned(), "-e".to_owned(), delay(ms)])
    }

    fn has_all_of(&self, pid: u32) -> bool {
        let tracer = format!("TracerPid:\t{}\n", self.0.id());
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        threads.all(|thread| fs::read_to_string(thread.path().join("status")).is_ok_and(|s| s.contains(&tracer)))
    }

    fn is_over(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Lets the process go. One that is gone already has let go itself.
    pub fn detach(mut self) {
        if !self.is_over() {
            signal_all("INT", &[self.0.id()]);
        }
        if within(PATIENCE_MS, || self.is_over().then_some(())).is_none() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if !self.is_over() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// The words that make syncs take longer.
pub fn delay(ms: u64) -> String {
    format!("inject=fsync,fdatasync:delay_enter={}", ms * 1000)
}

/// Whether every thread of a process stands still.
pub fn stands_still(pid: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.all(|thread| is_stopped(&thread.path()))
}

fn is_stopped(thread: &Path) -> bool {
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't']))
}
