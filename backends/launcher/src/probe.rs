//! What this machine can do, found by doing it once in a child.

use crate::cgroup::Cgroups;
use crate::config::LauncherConfig;
use crate::container;
use crate::group::PATIENCE;
use crate::jails;
use crate::message::probe_name;
use crate::root::{Root, Scratch};
use crate::scratch;
use crate::server;
use crate::spawn::{Ready, Start};
use crate::swap;
use crate::syscall::{self, Side};
use decores_sandbox::{HostCapabilities, Namespace, UserPlan};
use std::fs;
use std::io;

const ALL: [Namespace; 6] =
    [Namespace::Cgroup, Namespace::Ipc, Namespace::Mount, Namespace::Net, Namespace::Pid, Namespace::Uts];

/// Tries everything; without the folder that each attempt needs, nothing can be tried.
///
/// # Errors
/// If that folder cannot be made.
pub(crate) fn probe(cgroups: &Cgroups, config: &LauncherConfig) -> io::Result<HostCapabilities> {
    let name = probe_name();
    jails::make(&config.jails, &name)?;
    let host = try_all(&name, cgroups, config);
    // A trial's traces are nobody's; the next start removes what stays.
    let _ = jails::remove(config, &name, &cgroups.existing(&name), PATIENCE);
    Ok(host)
}

fn try_all(name: &str, cgroups: &Cgroups, config: &LauncherConfig) -> HostCapabilities {
    let own_users = syscall::effective_uid() == 0 && in_child(0, || syscall::become_user(config.trial_uid()).is_ok());
    // Without root every other namespace needs a user namespace around it.
    let with_user = !own_users;
    let around = if with_user { libc::CLONE_NEWUSER } else { 0 };
    let mut namespaces: Vec<Namespace> = ALL
        .into_iter()
        .filter(|kind| match kind {
            Namespace::Mount => root_works(config, name, around, false),
            kind => in_child(around | syscall::namespace_flag(*kind), || true),
        })
        .collect();
    if with_user && in_child(libc::CLONE_NEWUSER, || true) {
        namespaces.push(Namespace::User);
    }
    namespaces.sort_unstable();
    let mount = namespaces.contains(&Namespace::Mount);
    let cgroup = cgroups.usable(name);
    let (container, no_container) = match container::probe(config) {
        Ok(container) => (Some(container), None),
        Err(why) => (None, Some(why)),
    };
    let swap = swap::state(|| cgroup.iter().any(|c| c == "memory") && cgroups.closes_swap(name));
    HostCapabilities {
        own_users,
        tmpfs_noswap: mount && root_works(config, name, around, true),
        encrypted_scratch: mount && encrypts(config, name, own_users, &namespaces),
        namespaces,
        cgroup,
        landlock_abi: syscall::landlock_abi(),
        seccomp: syscall::seccomp_available(),
        swap,
        container,
        no_container,
        slots: config.slots,
    }
}

/// Builds a whole jail in a child, up to the point where the engine would start.
fn root_works(config: &LauncherConfig, name: &str, around: i32, noswap: bool) -> bool {
    let Some((_, engine)) = config.engines.first() else { return false };
    let folder = config.jails.join(name);
    let (uid, gid) = (syscall::effective_uid(), syscall::effective_gid());
    in_child(around | libc::CLONE_NEWNS, || {
        let scratch = Scratch::Tmpfs { bytes: 1 << 20, noswap };
        let root = Root { name, folder: &folder, program: engine, scratch, writable: false, uid, gid };
        root.enter().is_ok()
    })
}

/// Gets a child to the point where its engine would start, on an encrypted scratch that it has written to.
fn encrypts(config: &LauncherConfig, name: &str, own_users: bool, namespaces: &[Namespace]) -> bool {
    let Some((_, program)) = config.engines.first() else { return false };
    if server::program().is_none() {
        return false;
    }
    let user = if own_users { UserPlan::Own { uid: config.trial_uid() } } else { UserPlan::Shared };
    let uid = if own_users { config.trial_uid() } else { syscall::effective_uid() };
    let Ok(cipher) = scratch::make(&config.scratch, name, uid) else { return false };
    let start = Start {
        name,
        user,
        namespaces,
        cgroup: None,
        program,
        folder: &config.jails.join(name),
        scratch: Scratch::Encrypted,
        cipher: &cipher,
        shares_scratch: false,
        holes: &[],
        fds: &[],
        arguments: &[],
        environment: &[],
        open_files: 256,
        largest_file: 1 << 20,
        tasks: 64,
    };
    Ready::new(&start).is_ok_and(|(ready, _)| {
        ready.abandon();
        true
    })
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
