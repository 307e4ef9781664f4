//! From a checked plan to a running engine.
//!
//! The child does one thing after the other and tells the step that failed. When all is in place
//! but the exec, it says so and waits: the launcher reads back from the kernel what the child really
//! has, and only then lets it go on.

use crate::group::JobCgroup;
use crate::root::{ENGINE, Root, SCRATCH_ARGUMENT};
use crate::swap;
use crate::syscall::{self, Side};
use decores_sandbox::protocol::{FD_EVENTS, FD_JOB, FD_LOGS, FD_OUTPUT, FD_PAYLOAD, Given};
use decores_sandbox::{IsolationPlan, Namespace, UserPlan};
use decores_types::Scratch;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Milliseconds the child may take for its own set-up.
const SETUP_MS: i32 = 20_000;
/// Descriptors an engine may have open: its own, and files of its guest.
const OPEN_FILES: u64 = 256;
/// What sealing adds to an output, and the manifest of one, at most.
const SEALING_OVERHEAD: u64 = 16 << 20;
const READY: u8 = b'R';

/// A started engine.
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) given: Given,
}

/// What is needed beside the plan.
pub(crate) struct Start<'a> {
    pub(crate) plan: &'a IsolationPlan,
    pub(crate) name: &'a str,
    pub(crate) engine: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) cgroup: Option<&'a JobCgroup>,
    /// Job, events, payload, output, logs.
    pub(crate) fds: &'a [OwnedFd],
}

/// Starts the engine; on failure nothing of it runs any more.
///
/// # Errors
/// The step that failed, and why.
pub(crate) fn spawn(start: &Start<'_>) -> Result<Spawned, String> {
    let failed = |step: &'static str| move |e: io::Error| format!("{step}: {e}");
    let (go_read, go_write) = syscall::pipe().map_err(failed("making a pipe"))?;
    let (report_read, report_write) = syscall::pipe().map_err(failed("making a pipe"))?;
    // A cgroup namespace is made by the child itself, once it is in its group.
    let flags = start.plan.namespaces.iter().filter(|n| **n != Namespace::Cgroup);
    let flags = flags.fold(0, |all, n| all | syscall::namespace_flag(*n));
    match syscall::clone_into(flags).map_err(failed("making namespaces"))? {
        Side::Child => {
            drop(go_write);
            drop(report_read);
            child(start, File::from(go_read), File::from(report_write))
        }
        Side::Parent { pid, pidfd } => {
            drop(go_read);
            drop(report_write);
            let guided = guide(start, pid, File::from(go_write), &mut File::from(report_read));
            if guided.is_err() {
                let _ = syscall::kill(pid);
                let _ = syscall::reap(pid);
            }
            guided.map(|given| Spawned { pid, pidfd, given })
        }
    }
}

/// The launcher's side: group, user map, read-back, go.
fn guide(start: &Start<'_>, pid: i32, mut go: File, report: &mut File) -> Result<Given, String> {
    if let Some(cgroup) = start.cgroup {
        cgroup.add(pid).map_err(|e| format!("entering the control group: {e}"))?;
    }
    if start.plan.namespaces.contains(&Namespace::User) {
        map_user(pid).map_err(|e| format!("mapping the user: {e}"))?;
    }
    go.write_all(b"g").map_err(|e| format!("starting the child: {e}"))?;
    match next_byte(report)? {
        Some(READY) => {}
        Some(other) => return Err(failure(other, report)),
        None => return Err("the child ended during its set-up".to_owned()),
    }
    let given = read_back(start, pid)?;
    go.write_all(b"x").map_err(|e| format!("letting the child go: {e}"))?;
    match next_byte(report)? {
        // Exec closed the pipe.
        None => Ok(given),
        Some(other) => Err(failure(other, report)),
    }
}

fn next_byte(report: &mut File) -> Result<Option<u8>, String> {
    let ready = syscall::poll(&[report.as_fd()], SETUP_MS).map_err(|e| format!("waiting for the child: {e}"))?;
    if ready != [true] {
        return Err("the child took too long for its set-up".to_owned());
    }
    let mut byte = [0];
    match report.read(&mut byte) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(byte.first().copied()),
        Err(e) => Err(format!("reading the child's report: {e}")),
    }
}

fn failure(first: u8, report: &mut File) -> String {
    let mut text = vec![first];
    let _ = report.take(1024).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Maps the node's own user to itself, and no other.
pub(crate) fn map_user(pid: i32) -> io::Result<()> {
    let (uid, gid) = (syscall::effective_uid(), syscall::effective_gid());
    fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    fs::write(format!("/proc/{pid}/uid_map"), format!("{uid} {uid} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("{gid} {gid} 1"))
}

/// What the waiting child has, as the kernel says; an error if it is not what was planned.
fn read_back(start: &Start<'_>, pid: i32) -> Result<Given, String> {
    let plan = start.plan;
    let namespaces: Vec<Namespace> = plan.namespaces.iter().copied().filter(|n| has_namespace(pid, *n)).collect();
    if namespaces != plan.namespaces {
        return Err("a namespace is missing".to_owned());
    }
    let cgroup = start.cgroup.map_or_else(Vec::new, |c| c.holding(pid));
    if plan.cgroup.as_ref().is_some_and(|c| c.controllers != cgroup) {
        return Err("a control group is missing".to_owned());
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| format!("reading the status: {e}"))?;
    let own_user = match plan.user {
        UserPlan::Own { uid } => {
            field(&status, "Uid:").is_some_and(|ids| ids.split_whitespace().all(|i| i == uid.to_string()))
        }
        UserPlan::Shared => false,
    };
    if matches!(plan.user, UserPlan::Own { .. }) && !own_user {
        return Err("the user is not the planned one".to_owned());
    }
    let powerless = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"]
        .iter()
        .all(|set| field(&status, set).is_some_and(|bits| bits.trim().bytes().all(|b| b == b'0')));
    if !powerless || field(&status, "NoNewPrivs:").map(str::trim) != Some("1") {
        return Err("capabilities are left".to_owned());
    }
    let scratch = if plan.namespaces.contains(&Namespace::Mount) { scratch(pid)? } else { Scratch::None };
    if plan.scratch_noswap && scratch != Scratch::TmpfsNoswap {
        return Err("the scratch could be swapped".to_owned());
    }
    Ok(Given { namespaces, own_user, cgroup, scratch, swap: swap::state_in(start.cgroup) })
}

fn has_namespace(pid: i32, kind: Namespace) -> bool {
    let file = match kind {
        Namespace::Mount => "mnt".to_owned(),
        other => other.to_string(),
    };
    let link = |who: &str| fs::read_link(format!("/proc/{who}/ns/{file}"));
    matches!((link(&pid.to_string()), link("self")), (Ok(theirs), Ok(ours)) if theirs != ours)
}

fn scratch(pid: i32) -> Result<Scratch, String> {
    let mounts =
        fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_err(|e| format!("reading the mounts: {e}"))?;
    let line = mounts.lines().find(|l| l.split(' ').nth(4) == Some(crate::root::SCRATCH)).unwrap_or_default();
    match line.split_once(" - ") {
        Some((_, after)) if !after.starts_with("tmpfs ") => Err("the scratch is not in memory".to_owned()),
        Some((_, after)) if after.rsplit(' ').next().unwrap_or_default().split(',').any(|o| o == "noswap") => {
            Ok(Scratch::TmpfsNoswap)
        }
        Some(_) => Ok(Scratch::Tmpfs),
        None => Err("the scratch is not there".to_owned()),
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name))
}

/// The child's side; ends in the engine or not at all.
fn child(start: &Start<'_>, go: File, report: File) -> ! {
    let mut ends = (go, report);
    let Err((step, error)) = prepare(start, &mut ends);
    let _ = ends.1.write_all(format!("{step}: {error}").as_bytes());
    syscall::exit_now(127)
}

type Step<T> = Result<T, (&'static str, io::Error)>;

fn prepare(start: &Start<'_>, ends: &mut (File, File)) -> Step<std::convert::Infallible> {
    let at = |step| move |e| (step, e);
    let plan = start.plan;
    wait(&mut ends.0).map_err(at("waiting for the launcher"))?;
    if plan.namespaces.contains(&Namespace::Cgroup) {
        syscall::unshare(libc::CLONE_NEWCGROUP).map_err(at("making a cgroup namespace"))?;
    }
    syscall::new_session();
    syscall::signals(false);
    let null = File::options().read(true).write(true).open("/dev/null").map_err(at("opening /dev/null"))?;
    if plan.namespaces.contains(&Namespace::Uts) {
        syscall::set_host_name("job").map_err(at("setting the host name"))?;
    }
    let in_root = plan.namespaces.contains(&Namespace::Mount);
    if in_root {
        // The engine's own user must be able to enter the folders that root makes.
        syscall::file_mask(0o022);
        enter_root(start)?;
    }
    syscall::file_mask(0o077);
    // From here on the five descriptors and the two pipes are all there is.
    let placed = place_descriptors(start.fds, &null, ends).map_err(at("placing descriptors"))?;
    // The old numbers stand for other files now: they must not be closed.
    mem::forget(mem::replace(ends, placed));
    mem::forget(null);
    limits(plan).map_err(at("setting limits"))?;
    give_up_rights(plan).map_err(at("giving up rights"))?;
    // Last of all: a change of user clears it.
    syscall::process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
        .map_err(at("tying the engine to the launcher"))?;
    // Fails, and ends this process, if the launcher died before the line above.
    ends.1.write_all(&[READY]).map_err(at("reporting"))?;
    wait(&mut ends.0).map_err(at("waiting for the launcher"))?;
    // Its one argument is the scratch, where it has one.
    let error = if in_root {
        syscall::execute(Path::new(ENGINE), &[c"/engine", SCRATCH_ARGUMENT])
    } else {
        syscall::execute(start.engine, &[c"/engine"])
    };
    Err(("starting the engine", error))
}

fn enter_root(start: &Start<'_>) -> Step<()> {
    let (uid, gid) = match start.plan.user {
        UserPlan::Own { uid } => (uid, uid),
        UserPlan::Shared => (syscall::effective_uid(), syscall::effective_gid()),
    };
    let root = Root {
        name: start.name,
        folder: start.folder,
        engine: start.engine,
        scratch_bytes: start.plan.scratch_bytes,
        noswap: start.plan.scratch_noswap,
        uid,
        gid,
    };
    root.enter()
}

fn wait(go: &mut File) -> io::Result<()> {
    go.read_exact(&mut [0])
}

/// 0 to 2 are `/dev/null` (a Rust program opens it where they are closed, and finds none), 3 to 7 the
/// job's, 8 and 9 our pipes, closed by exec; nothing else.
fn place_descriptors(fds: &[OwnedFd], null: &File, ends: &(File, File)) -> io::Result<(File, File)> {
    const PIPES: [RawFd; 2] = [8, 9];
    let null = null.as_raw_fd();
    let job = [FD_JOB, FD_EVENTS, FD_PAYLOAD, FD_OUTPUT, FD_LOGS];
    let wanted = [(null, 0), (null, 1), (null, 2), (ends.0.as_raw_fd(), PIPES[0]), (ends.1.as_raw_fd(), PIPES[1])];
    let wanted = wanted.into_iter().chain(fds.iter().map(AsRawFd::as_raw_fd).zip(job));
    // First out of the way, so that no placing overwrites what is still to be placed.
    let parked = wanted.map(|(from, to)| Ok((syscall::duplicate_above(from, 100)?, to)));
    for (from, to) in parked.collect::<io::Result<Vec<_>>>()? {
        syscall::place(from, to, PIPES.contains(&to))?;
    }
    syscall::close_range(10, u32::MAX)?;
    Ok(syscall::adopt(PIPES))
}

fn limits(plan: &IsolationPlan) -> io::Result<()> {
    let limits = &plan.limits;
    let largest_file = limits.output_bytes.max(plan.scratch_bytes).max(limits.log_bytes);
    syscall::limit(libc::RLIMIT_CORE, 0)?;
    syscall::limit(libc::RLIMIT_NOFILE, OPEN_FILES)?;
    syscall::limit(
        libc::RLIMIT_FSIZE,
        largest_file.saturating_add(largest_file / 1024).saturating_add(SEALING_OVERHEAD),
    )?;
    if matches!(plan.user, UserPlan::Own { .. }) {
        // Counted per user: with a user of its own, these are the engine's alone.
        syscall::limit(libc::RLIMIT_NPROC, plan.cgroup.as_ref().map_or(16, |c| c.tasks).into())?;
    }
    Ok(())
}

fn give_up_rights(plan: &IsolationPlan) -> io::Result<()> {
    let own = matches!(plan.user, UserPlan::Own { .. });
    if own || plan.namespaces.contains(&Namespace::User) {
        syscall::drop_bounding()?;
    }
    if let UserPlan::Own { uid } = plan.user {
        syscall::become_user(uid)?;
    }
    syscall::drop_capabilities()?;
    syscall::process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}
