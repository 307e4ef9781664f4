//! Looking at the machine for what an attempt may have left.

use crate::config::LauncherConfig;
use crate::group::JobCgroup;
use crate::job::Traces;
use crate::message::Leftovers;
use crate::mounts;
use crate::process::Process;
use crate::syscall;
use std::collections::HashSet;
use std::io;

/// Looks in `/proc`, in the control groups and in our folders; believes no record of its own. What cannot be looked at
/// counts as left.
pub(crate) fn inspect(traces: &Traces, cgroup: &JobCgroup, config: &LauncherConfig) -> Leftovers {
    let seen = seen_by_processes(traces);
    let folders = config.folders(&traces.name);
    Leftovers {
        processes: cgroup.holds_any() || seen.processes || traces.group.is_some_and(syscall::group_exists),
        cgroup: cgroup.exists(),
        mounts: seen.mounts || folders.iter().any(|folder| mounts::below(folder).map_or(true, |all| !all.is_empty())),
        scratch: folders.iter().any(|folder| !is_nothing(&folder.symlink_metadata())),
    }
}

fn is_nothing<T>(found: &io::Result<T>) -> bool {
    found.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// Whether any process is in a group of this name or runs as its user, and whether any sees a mount of it.
fn seen_by_processes(traces: &Traces) -> Leftovers {
    let Ok(all) = Process::all() else { return Leftovers { processes: true, mounts: true, ..Leftovers::default() } };
    let (name, unknown) = (&traces.name, |_| true);
    let mut views = HashSet::new();
    all.iter().fold(Leftovers::default(), |seen, process| Leftovers {
        processes: seen.processes
            || process.is_in_group(name).unwrap_or_else(unknown)
            || traces.users.is_some_and(|users| process.is_of(users, name).unwrap_or_else(unknown)),
        // Looked at once for all that share a view.
        mounts: seen.mounts
            || (process.view().is_none_or(|view| views.insert(view))
                && process.sees_mount(name).unwrap_or_else(unknown)),
        ..seen
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const NAME: &str = "job_0102030405060708090a0b0c0d0e0f10-1";

    #[test]
    fn what_cannot_be_looked_at_counts_as_left() {
        let traces = Traces { name: NAME.to_owned(), users: None, group: None };
        let look = |home: &Path| inspect(&traces, &JobCgroup::default(), &LauncherConfig::in_home(home));
        assert_eq!(look(Path::new("/nonexistent")), Leftovers::default());
        // No folder can lie in a file.
        let blind = look(Path::new("/proc/self/mountinfo"));
        assert!(blind.scratch && blind.mounts && !blind.processes);
    }
}
