//! Nothing of an ended job may be left on the machine: no process, control group, mount, device, jail or scratch, and
//! nothing that a runtime remembers of a container.

use super::super::{Finding, Wrong};
use decores_types::JobId;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where runtimes keep what they know of containers, unless they are told otherwise.
pub const STATES: [&str; 8] = [
    "/run/youki",
    "/run/libcontainer",
    "/run/runc",
    "/run/crun",
    "/run/runsc",
    "/var/run/runsc",
    "/run/vc/sbs",
    "/run/kata-containers",
];
/// What a helper calls its container.
const CONTAINER: &str = "job";

/// What a node that is idle may have.
pub struct Idle<'a> {
    /// The node's home.
    pub home: &'a Path,
    /// Folders with its jails and scratches.
    pub places: &'a [&'a Path],
    /// Folders of runtimes' states.
    pub states: &'a [&'a Path],
    /// The disk below it.
    pub image: Option<&'a Path>,
    /// User ids of its jobs.
    pub uids: &'a [Range<u32>],
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
    found.extend(folders(idle));
    found.extend(states(idle, &names));
    found.into_iter().map(|what| Finding::new(Wrong::Leftover, what)).collect()
}

fn processes(idle: &Idle<'_>) -> Vec<String> {
    let home = idle.home.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let text = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let names_home = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(&home);
        // The folder itself is root's for one that hides its memory.
        let status = String::from_utf8_lossy(&text("status")).into_owned();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        let mut users = line.split_ascii_whitespace().filter_map(|uid| uid.parse::<u32>().ok());
        if let Some(user) = users.find(|uid| idle.uids.iter().any(|range| range.contains(uid))) {
            found.push(format!("process {pid} runs as the job user {user}"));
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

fn states(idle: &Idle<'_>, names: &[String]) -> Vec<String> {
    let entries = idle.states.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let ours = |name: &str| name == CONTAINER || names.iter().any(|job| name.contains(job));
    let left = entries.filter(|entry| ours(&entry.file_name().to_string_lossy()));
    left.map(|entry| format!("a container's state `{}`", entry.path().display())).collect()
}

fn folders(idle: &Idle<'_>) -> Vec<String> {
    let all = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_jobs = |path: &PathBuf| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with("probe-"));
    let jobs = idle.places.iter().flat_map(|place| ["jails", "scratch"].map(|name| place.join(name)));
    let mut found: Vec<PathBuf> = jobs.flat_map(all).filter(of_jobs).collect();
    let unfinished = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(".tmp") || name.ends_with(".payload")
    };
    found.extend(all(idle.home.join("blobs")).filter(unfinished));
    found.into_iter().map(|path| format!("`{}`", path.display())).collect()
}
