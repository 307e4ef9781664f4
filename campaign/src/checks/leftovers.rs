//! Nothing of an ended job may be left on the machine: no process, control group, mount, device, jail or scratch.

use super::super::{Finding, Wrong};
use decores_types::JobId;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a node that is idle may have.
pub struct Idle<'a> {
    /// The node's home.
    pub home: &'a Path,
    /// The disk below it.
    pub image: Option<&'a Path>,
    /// User ids of its jobs.
    pub uids: Range<u32>,
    /// The node's own processes.
    pub family: &'a [u32],
    /// All jobs that it ever had.
    pub jobs: &'a [JobId],
}

/// Everything that is there and should not be.
pub fn look(idle: &Idle<'_>) -> Vec<Finding> {
    let names: Vec<String> =
        idle.jobs.iter().map(|job| job.to_string().trim_start_matches("job_").to_owned()).collect();
    let mut found = processes(idle);
    found.extend(groups(&names));
    found.extend(mounts(&names));
    found.extend(devices(idle, &names));
    found.extend(folders(idle.home));
    found.into_iter().map(|what| Finding::new(Wrong::Leftover, what)).collect()
}

fn processes(idle: &Idle<'_>) -> Vec<String> {
    let home = idle.home.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let text = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let names_home = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(&home);
        let owner = entry.metadata().map(|meta| meta.uid()).unwrap_or_default();
        if idle.uids.contains(&owner) {
            found.push(format!("process {pid} runs as the job user {owner}"));
        } else if !idle.family.contains(&pid) && (names_home(text("cmdline")) || names_home(text("environ"))) {
            found.push(format!("process {pid} of this home is none of the running node's"));
        }
    }
    found
}

fn groups(names: &[String]) -> Vec<String> {
    fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                visit(&entry.path());
                walk(&entry.path(), visit);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &mut |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if names.iter().any(|job| name.contains(job)) {
            found.push(format!("control group `{}`", path.display()));
        }
    });
    found
}

fn mounts(names: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let held = mounts.lines().filter(|line| names.iter().any(|job| line.contains(job)));
        found.extend(held.map(|line| format!("a mount in {}: {line}", entry.path().display())));
    }
    found
}

/// Loop devices on files of the home, and mapped devices named for a job.
fn devices(idle: &Idle<'_>, names: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default().trim().to_owned();
        let (file, name) = (read("loop/backing_file"), read("dm/name"));
        let of_home = Path::new(&file).starts_with(idle.home);
        if of_home && idle.image.is_none_or(|image| image != Path::new(&file)) {
            found.push(format!("loop device {} on `{file}`", entry.path().display()));
        }
        if names.iter().any(|job| name.contains(job)) {
            found.push(format!("mapped device `{name}`"));
        }
    }
    found
}

fn folders(home: &Path) -> Vec<String> {
    let inside = |name: &str| fs::read_dir(home.join(name)).into_iter().flatten().flatten().map(|e| e.path());
    let of_jobs = |path: &PathBuf| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with("probe-"));
    let mut found: Vec<PathBuf> = inside("jails").chain(inside("scratch")).filter(of_jobs).collect();
    let unfinished = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(".tmp") || name.ends_with(".payload")
    };
    found.extend(inside("blobs").filter(unfinished));
    found.into_iter().map(|path| format!("`{}`", path.display())).collect()
}
