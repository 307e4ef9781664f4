//! Looking at the machine for what an attempt may have left.

use crate::cgroup::Cgroups;
use crate::message::Leftovers;
use crate::root::mark;
use crate::syscall;
use std::fs;
use std::path::Path;

/// Looks in `/proc`, in the control groups and at the jail's folder; believes no record of its own.
pub(crate) fn inspect(name: &str, group: Option<i32>, cgroups: &Cgroups, jails: &Path) -> Leftovers {
    let cgroup = cgroups.existing(name);
    let (in_group, mounts) = seen_by_processes(name);
    Leftovers {
        processes: cgroup.holds_any() || in_group || group.is_some_and(syscall::group_exists),
        cgroup: cgroup.exists(),
        mounts,
        scratch: jails.join(name).exists(),
    }
}

/// Whether any process is in a group of this name, and whether any sees a mount of it.
fn seen_by_processes(name: &str) -> (bool, bool) {
    let group = format!("decores/{name}");
    let mark = format!(" {} ", mark(name));
    let Ok(processes) = fs::read_dir("/proc") else { return (true, true) };
    let folders = processes.flatten().map(|entry| entry.path());
    folders.fold((false, false), |(in_group, mounted), folder| {
        let holds = |file: &str, text: &str| fs::read_to_string(folder.join(file)).is_ok_and(|t| t.contains(text));
        (
            in_group || fs::read_to_string(folder.join("cgroup")).is_ok_and(|t| t.lines().any(|l| l.ends_with(&group))),
            mounted || holds("mountinfo", &mark),
        )
    })
}
