//! Looking at the machine for what an attempt may have left.

use crate::config::LauncherConfig;
use crate::group::JobCgroup;
use crate::job::Traces;
use crate::message::{Leftovers, is_trace_name};
use crate::mounts;
use crate::root::mark;
use crate::syscall;
use std::fs;
use std::path::{Path, PathBuf};

/// Looks in `/proc`, in the control groups and in our folders; believes no record of its own.
pub(crate) fn inspect(traces: &Traces, cgroup: &JobCgroup, config: &LauncherConfig) -> Leftovers {
    let seen = seen_by_processes(traces);
    let folders = config.folders(&traces.name);
    Leftovers {
        processes: cgroup.holds_any() || seen.processes || traces.group.is_some_and(syscall::group_exists),
        cgroup: cgroup.exists(),
        mounts: seen.mounts || folders.iter().any(|folder| !mounts::below(folder).is_empty()),
        scratch: folders.iter().any(|folder| folder.symlink_metadata().is_ok()),
    }
}

/// Whether any process is in a group of this name or runs as its user, and whether any sees a mount of it.
fn seen_by_processes(traces: &Traces) -> Leftovers {
    let group = format!("decores/{}", traces.name);
    let mark = format!(" {} ", mark(&traces.name));
    let read = |folder: &Path, file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
    let Some(all) = processes() else { return Leftovers { processes: true, mounts: true, ..Leftovers::default() } };
    all.iter().fold(Leftovers::default(), |seen, folder| Leftovers {
        processes: seen.processes
            || read(folder, "cgroup").lines().any(|line| line.ends_with(&group))
            || traces.uid.is_some_and(|uid| runs_as(folder, uid) && !is_anothers(folder, &traces.name)),
        mounts: seen.mounts || read(folder, "mountinfo").contains(&mark),
        ..seen
    })
}

/// Processes that run as this user, but for those of attempts other than `name`: a second node may have the same users.
pub(crate) fn processes_of(uid: u32, name: &str) -> Vec<i32> {
    let all = processes().unwrap_or_default();
    let theirs = all.iter().filter(|folder| runs_as(folder, uid) && !is_anothers(folder, name));
    theirs.filter_map(|folder| folder.file_name()?.to_str()?.parse().ok()).collect()
}

/// Whether a process carries the marks of another attempt than `name`: its control group, or its mounts.
fn is_anothers(process: &Path, name: &str) -> bool {
    let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
    let (cgroup, mounts) = (read("cgroup"), read("mountinfo"));
    let groups = cgroup.lines().filter_map(|line| line.rsplit_once("decores/")?.1.split('/').next());
    let marks = mounts.split(' ').filter_map(|word| word.strip_prefix("decores:"));
    groups.chain(marks).any(|other| is_trace_name(other) && other != name)
}

fn processes() -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let is_process = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    Some(entries.filter(|entry| is_process(&entry.file_name())).map(|entry| entry.path()).collect())
}

/// Whether any of its user ids is this one; the dead hold nothing.
fn runs_as(process: &Path, uid: u32) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let uid = uid.to_string();
    field("Uid:").split_whitespace().any(|id| id == uid) && !field("State:").trim().starts_with(['Z', 'X'])
}
