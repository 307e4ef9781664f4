//! Looking at processes, their memory, and files: what a thief, or a curious operator, would do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A process and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its program's name.
    pub name: String,
}

/// A process and everything that it started.
pub fn family(pid: u32) -> Vec<Process> {
    let all: Vec<(u32, Process)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            let parent = rest.split(' ').nth(1)?.parse().ok()?;
            Some((parent, Process { pid, name: name.to_owned() }))
        })
        .collect();
    let mut found: Vec<Process> = all.iter().map(|(_, p)| p).filter(|p| p.pid == pid).cloned().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|p| p.pid) {
        found.extend(all.iter().filter(|(of, _)| *of == parent).map(|(_, p)| p.clone()));
        next += 1;
    }
    found
}

/// Resident memory, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Whether the whole memory of a process, as `gcore` dumps it, holds this. One that has ended has none.
pub fn memory_holds(process: &Process, secret: &[u8], folder: &Path) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    if !status.contains("VmSize:") {
        return false;
    }
    let core = folder.join(format!("core.{}", process.pid));
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-p", &process.pid.to_string()])
        .args(["-ex", "set use-coredump-filter off", "-ex", "set dump-excluded-mappings on"])
        .arg("-ex")
        .arg(format!("gcore {}", core.display()))
        .output()
        .unwrap_or_else(|e| panic!("this test needs gdb ({e}): apt-get install --no-install-recommends gdb"));
    assert!(
        core.is_file(),
        "gdb could not dump {process:?} (this test must be root, or allowed to trace): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let holds = file_holds(&core, secret);
    fs::remove_file(&core).unwrap();
    holds
}

/// Files below a folder that hold this.
pub fn files_with(folder: &Path, secret: &[u8]) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| file_holds(path, secret)).collect()
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// Whether a file holds this anywhere, also across the pieces it is read in.
pub fn file_holds(path: &Path, secret: &[u8]) -> bool {
    use std::io::Read as _;
    let mut file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; 4 << 20];
    let (mut kept, first) = (0, secret[0]);
    loop {
        let read = file.read(&mut buffer[kept..]).unwrap();
        if read == 0 {
            return false;
        }
        let filled = &buffer[..kept + read];
        let starts = filled.iter().enumerate().filter(|(_, b)| **b == first);
        if starts.map(|(at, _)| &filled[at..]).any(|rest| rest.starts_with(secret)) {
            return true;
        }
        let overlap = (secret.len() - 1).min(kept + read);
        buffer.copy_within(kept + read - overlap..kept + read, 0);
        kept = overlap;
    }
}
