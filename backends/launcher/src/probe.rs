//! What this machine can do, found by doing it once in a child.

use crate::cgroup::Cgroups;
use crate::config::LauncherConfig;
use crate::root::Root;
use crate::syscall::{self, Side};
use decores_sandbox::{HostCapabilities, Namespace, SwapState};
use std::fs;
use std::path::Path;

const ALL: [Namespace; 6] =
    [Namespace::Cgroup, Namespace::Ipc, Namespace::Mount, Namespace::Net, Namespace::Pid, Namespace::Uts];

/// Tries everything.
pub(crate) fn probe(cgroups: &Cgroups, config: &LauncherConfig) -> HostCapabilities {
    let own_users = syscall::effective_uid() == 0 && in_child(0, || syscall::become_user(config.first_uid).is_ok());
    // Without root every other namespace needs a user namespace around it.
    let with_user = !own_users;
    let around = if with_user { libc::CLONE_NEWUSER } else { 0 };
    let mut namespaces: Vec<Namespace> = ALL
        .into_iter()
        .filter(|kind| match kind {
            Namespace::Mount => root_works(config, around, false),
            kind => in_child(around | syscall::namespace_flag(*kind), || true),
        })
        .collect();
    if with_user && in_child(libc::CLONE_NEWUSER, || true) {
        namespaces.push(Namespace::User);
    }
    namespaces.sort_unstable();
    let mount = namespaces.contains(&Namespace::Mount);
    let cgroup = cgroups.usable();
    let swap = match has_swap() {
        false => SwapState::None,
        true if cgroup.iter().any(|c| c == "memory") && cgroups.prevents_swap() => SwapState::Prevented,
        true => SwapState::Possible,
    };
    HostCapabilities {
        own_users,
        tmpfs_noswap: mount && root_works(config, around, true),
        namespaces,
        cgroup,
        landlock_abi: syscall::landlock_abi(),
        seccomp: syscall::seccomp_available(),
        swap,
    }
}

/// Builds a whole jail in a child, up to the point where the engine would start.
fn root_works(config: &LauncherConfig, around: i32, noswap: bool) -> bool {
    let Some((_, engine)) = config.engines.first() else { return false };
    let name = format!("probe-{}", std::process::id());
    let folder = config.jails.join(&name);
    if fs::create_dir_all(&folder).is_err() {
        return false;
    }
    let (uid, gid) = (syscall::effective_uid(), syscall::effective_gid());
    let entered = in_child(around | libc::CLONE_NEWNS, || {
        let root = Root { name: &name, folder: &folder, engine, scratch_bytes: 1 << 20, noswap, uid, gid };
        root.enter().is_ok()
    });
    let _ = fs::remove_dir(&folder);
    entered
}

/// Whether `attempt` succeeds in a child with these namespaces.
fn in_child(namespaces: i32, attempt: impl FnOnce() -> bool) -> bool {
    let Ok((wait, go)) = syscall::pipe() else { return false };
    match syscall::clone_into(namespaces) {
        Err(_) => false,
        Ok(Side::Child) => {
            drop(go);
            // The parent maps the user first; the end of the pipe says it has.
            let _ = std::io::Read::read(&mut fs::File::from(wait), &mut [0]);
            syscall::exit_now(i32::from(!attempt()))
        }
        Ok(Side::Parent { pid, .. }) => {
            drop(wait);
            let mapped = namespaces & libc::CLONE_NEWUSER == 0 || crate::spawn::map_user(pid).is_ok();
            drop(go);
            let ended = syscall::reap(pid);
            mapped && ended.is_ok_and(|e| libc::WIFEXITED(e.status) && libc::WEXITSTATUS(e.status) == 0)
        }
    }
}

fn has_swap() -> bool {
    // The first line is a heading.
    fs::read_to_string(Path::new("/proc/swaps")).is_ok_and(|text| text.lines().count() > 1)
}
