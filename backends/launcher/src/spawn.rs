//! From a checked plan to a running process in its sandbox: an engine, or the server of its scratch.
//!
//! The child does one thing after the other and tells the step that failed. When all is in place
//! but the exec, it says so and waits: the launcher reads back from the kernel what the child really
//! has, and only then lets it go on.

use crate::group::JobCgroup;
use crate::root::{self, ENCRYPTED, PROGRAM, Root, SCRATCH, Scratch};
use crate::server::server;
use crate::socket::Socket;
use crate::swap;
use crate::syscall::{self, Side};
use decores_sandbox::protocol::Given;
use decores_sandbox::{Hole, Namespace, UserPlan};
use decores_types::Scratch as ScratchKind;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// Milliseconds the child may take for its own set-up.
const SETUP_MS: i32 = 20_000;
/// What the child says: it stands ready, or here is the descriptor of its scratch's server, or of its scratch. All else
/// is a failure.
pub(crate) const READY: &[u8] = b"ready";
const SERVE: &[u8] = b"serve";
const SHARE: &[u8] = b"share";
/// Where descriptors are out of the way while others are placed.
const PARKED: RawFd = 100;
/// Memory exhaustion ends jobs before the node; 1,000 is the most.
const OOM_SCORE: i32 = 900;

/// A process, up to its last right.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) name: &'a str,
    pub(crate) user: UserPlan,
    pub(crate) namespaces: &'a [Namespace],
    pub(crate) cgroup: Option<&'a JobCgroup>,
    pub(crate) program: &'a Path,
    /// The folder its own file tree is mounted on, where it has a mount namespace.
    pub(crate) folder: &'a Path,
    pub(crate) scratch: Scratch<'a>,
    /// Where the server of an encrypted scratch keeps its ciphertext.
    pub(crate) cipher: &'a Path,
    /// Whether its scratch is a container's too.
    pub(crate) shares_scratch: bool,
    /// Mechanisms left out.
    pub(crate) holes: &'a [Hole],
    /// Its descriptors, from 0 on.
    pub(crate) fds: &'a [BorrowedFd<'a>],
    pub(crate) arguments: &'a [&'a CStr],
    pub(crate) environment: &'a [&'a CStr],
    pub(crate) open_files: u64,
    pub(crate) largest_file: u64,
    pub(crate) tasks: u32,
}

/// A process that lives, and the server of its scratch.
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) server: Option<Box<Self>>,
}

impl Spawned {
    /// Ends both. The server first: a process that waits for it cannot be ended.
    pub(crate) fn kill(&self) {
        if let Some(server) = &self.server {
            server.kill();
        }
        let _ = syscall::kill_by_pidfd(self.pidfd.as_fd());
    }

    /// Reaps both once this one has ended.
    pub(crate) fn reap(&self) -> io::Result<syscall::Ended> {
        let ended = syscall::reap(self.pid);
        if let Some(server) = &self.server {
            server.kill();
            let _ = server.reap();
        }
        ended
    }
}

/// Starts the process; on failure nothing of it runs any more.
///
/// # Errors
/// The step that failed, and why.
pub(crate) fn spawn(start: &Start<'_>) -> Result<(Spawned, Given), String> {
    let (mut ready, given) = Ready::new(start)?;
    match ready.let_go() {
        Ok(()) => Ok((ready.spawned, given)),
        Err(why) => {
            ready.abandon();
            Err(why)
        }
    }
}

/// A child that has everything but its program.
pub(crate) struct Ready {
    pub(crate) spawned: Spawned,
    go: File,
    report: Socket,
    /// Its scratch, attached nowhere else.
    shared: Option<OwnedFd>,
}

impl Ready {
    /// Gets a child that far; on failure nothing of it runs any more.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(crate) fn new(start: &Start<'_>) -> Result<(Self, Given), String> {
        // A cgroup namespace is made by the child itself, once it is in its group.
        let own = start.namespaces.iter().filter(|n| **n != Namespace::Cgroup);
        let mut ready = Self::fork(own, |go, report| child(start, go, report))?;
        match ready.guide(start) {
            Ok(given) => Ok((ready, given)),
            Err(why) => {
                ready.abandon();
                Err(why)
            }
        }
    }

    /// Makes a child in these namespaces; it gets the ends that are its own, and never returns.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(crate) fn fork<'a>(
        namespaces: impl Iterator<Item = &'a Namespace>,
        child: impl FnOnce(File, Socket),
    ) -> Result<Self, String> {
        let failed = |step: &'static str| move |e: io::Error| format!("{step}: {e}");
        let (go_read, go_write) = syscall::pipe().map_err(failed("making a pipe"))?;
        let (report, theirs) = Socket::pair().map_err(failed("making a socket"))?;
        let flags = namespaces.fold(0, |all, n| all | syscall::namespace_flag(*n));
        match syscall::clone_into(flags).map_err(failed("making namespaces"))? {
            Side::Child => {
                drop(go_write);
                drop(report);
                child(File::from(go_read), theirs);
                syscall::exit_now(127)
            }
            Side::Parent { pid, pidfd } => {
                drop(go_read);
                drop(theirs);
                let spawned = Spawned { pid, pidfd, server: None };
                Ok(Self { spawned, go: File::from(go_write), report, shared: None })
            }
        }
    }

    /// The launcher's side: group, user map, scratch, read-back.
    fn guide(&mut self, start: &Start<'_>) -> Result<Given, String> {
        let pid = self.spawned.pid;
        if let Some(cgroup) = start.cgroup {
            cgroup.add(pid).map_err(|e| format!("entering the control group: {e}"))?;
        }
        if start.namespaces.contains(&Namespace::User) {
            map_user(pid).map_err(|e| format!("mapping the user: {e}"))?;
        }
        self.begin()?;
        if start.is_encrypted() {
            let fuse = match self.next()? {
                (said, mut fds) if said == SERVE => fds.pop().ok_or("the scratch's descriptor did not come along")?,
                (said, _) => return Err(failure(&said)),
            };
            self.spawned.server = Some(Box::new(server(start, fuse)?));
        }
        if start.shares_scratch {
            self.shared = match self.next()? {
                (said, mut fds) if said == SHARE => fds.pop(),
                (said, _) => return Err(failure(&said)),
            };
        }
        self.stands_ready()?;
        read_back(start, pid)
    }

    /// Lets the child begin its set-up: all that others must do for it is done.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        self.go.write_all(b"g").map_err(|e| format!("starting the child: {e}"))
    }

    /// Waits until the child has done its own part.
    pub(crate) fn stands_ready(&self) -> Result<(), String> {
        match self.next()? {
            (said, _) if said == READY => Ok(()),
            (said, _) => Err(failure(&said)),
        }
    }

    /// The scratch that is to be a container's too.
    pub(crate) fn take_shared(&mut self) -> Option<OwnedFd> {
        self.shared.take()
    }

    /// What the child says next; nothing if exec or its end closed its side.
    fn next(&self) -> Result<(Vec<u8>, Vec<OwnedFd>), String> {
        let ready =
            syscall::poll(&[self.report.0.as_fd()], SETUP_MS).map_err(|e| format!("waiting for the child: {e}"))?;
        if ready != [true] {
            return Err("the child took too long for its set-up".to_owned());
        }
        Ok(self.report.receive().map_err(|e| format!("reading the child's report: {e}"))?.unwrap_or_default())
    }

    /// Lets the child go on to its program.
    pub(crate) fn let_go(&mut self) -> Result<(), String> {
        self.go.write_all(b"x").map_err(|e| format!("letting the child go: {e}"))?;
        match self.next()? {
            (said, _) if said.is_empty() => Ok(()),
            (said, _) => Err(failure(&said)),
        }
    }

    /// Ends the child.
    pub(crate) fn abandon(self) {
        self.spawned.kill();
        let _ = self.spawned.reap();
    }
}

fn failure(said: &[u8]) -> String {
    if said.is_empty() { "the child ended during its set-up".to_owned() } else { String::from_utf8_lossy(said).into() }
}

impl Start<'_> {
    fn keeps(&self, mechanism: Hole) -> bool {
        !self.holes.contains(&mechanism)
    }

    fn in_root(&self) -> bool {
        self.namespaces.contains(&Namespace::Mount)
    }

    fn is_encrypted(&self) -> bool {
        self.in_root() && matches!(self.scratch, Scratch::Encrypted)
    }
}

/// Maps the node's own user to itself, and no other.
pub(crate) fn map_user(pid: i32) -> io::Result<()> {
    map_user_as(pid, syscall::effective_uid(), syscall::effective_gid())
}

/// Maps the node's own user to this one of the namespace's, and no other.
pub(crate) fn map_user_as(pid: i32, inside: u32, group_inside: u32) -> io::Result<()> {
    let (uid, gid) = (syscall::effective_uid(), syscall::effective_gid());
    fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    fs::write(format!("/proc/{pid}/uid_map"), format!("{inside} {uid} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("{group_inside} {gid} 1"))
}

/// What the waiting child has, as the kernel says; an error if it is not what was planned.
fn read_back(start: &Start<'_>, pid: i32) -> Result<Given, String> {
    let namespaces: Vec<Namespace> = start.namespaces.iter().copied().filter(|n| has_namespace(pid, *n)).collect();
    if namespaces != start.namespaces {
        return Err("a namespace is missing".to_owned());
    }
    let cgroup = start.cgroup.map_or_else(Vec::new, |c| c.holding(pid));
    if start.cgroup.is_some_and(|c| c.controllers() != cgroup) {
        return Err("a control group is missing".to_owned());
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| format!("reading the status: {e}"))?;
    let own_user = match start.user {
        UserPlan::Own { uid } => {
            field(&status, "Uid:").is_some_and(|ids| ids.split_whitespace().all(|i| i == uid.to_string()))
        }
        UserPlan::Shared => false,
    };
    if matches!(start.user, UserPlan::Own { .. }) && start.keeps(Hole::User) && !own_user {
        return Err("the user is not the planned one".to_owned());
    }
    let powerless = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"]
        .iter()
        .all(|set| field(&status, set).is_some_and(|bits| bits.trim().bytes().all(|b| b == b'0')));
    let powerless = powerless || !start.keeps(Hole::User);
    if !powerless || field(&status, "NoNewPrivs:").map(str::trim) != Some("1") {
        return Err("capabilities are left".to_owned());
    }
    if oom_score(pid).is_none_or(|score| score < OOM_SCORE) {
        return Err("memory exhaustion would not end it first".to_owned());
    }
    let scratch = if start.in_root() { scratch(pid)? } else { ScratchKind::None };
    let planned = match start.scratch {
        _ if !start.in_root() => true,
        Scratch::Tmpfs { noswap: true, .. } => scratch == ScratchKind::TmpfsNoswap,
        Scratch::Tmpfs { noswap: false, .. } => matches!(scratch, ScratchKind::Tmpfs | ScratchKind::TmpfsNoswap),
        Scratch::Encrypted => scratch == ScratchKind::EncryptedFile,
        // The ciphertext itself is no scratch.
        Scratch::Folder(_) => scratch == ScratchKind::None,
    };
    if !planned {
        return Err("the scratch is not the planned one".to_owned());
    }
    Ok(Given { namespaces, own_user, cgroup, scratch, swap: swap::state_in(start.cgroup) })
}

pub(crate) fn has_namespace(pid: i32, kind: Namespace) -> bool {
    let file = match kind {
        Namespace::Mount => "mnt".to_owned(),
        other => other.to_string(),
    };
    let link = |who: &str| fs::read_link(format!("/proc/{who}/ns/{file}"));
    matches!((link(&pid.to_string()), link("self")), (Ok(theirs), Ok(ours)) if theirs != ours)
}

/// What is mounted at the scratch; none where it is neither memory nor encrypted.
fn scratch(pid: i32) -> Result<ScratchKind, String> {
    let mounts =
        fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_err(|e| format!("reading the mounts: {e}"))?;
    let line = mounts.lines().find(|l| l.split(' ').nth(4) == Some(SCRATCH)).ok_or("the scratch is not there")?;
    let after = line.split_once(" - ").map_or("", |(_, after)| after);
    Ok(match after.split(' ').next() {
        Some("tmpfs") if after.rsplit(' ').next().is_some_and(|o| o.split(',').any(|o| o == "noswap")) => {
            ScratchKind::TmpfsNoswap
        }
        Some("tmpfs") => ScratchKind::Tmpfs,
        Some(kind) if kind.as_bytes() == ENCRYPTED.to_bytes() => ScratchKind::EncryptedFile,
        _ => ScratchKind::None,
    })
}

fn oom_score(pid: impl std::fmt::Display) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name))
}

/// The child's side; ends in the program or not at all.
fn child(start: &Start<'_>, go: File, report: Socket) -> ! {
    let mut ends = (go, report);
    let Err(failed) = prepare(start, &mut ends);
    give_up(&ends.1, failed)
}

/// Tells the step that failed, and ends.
pub(crate) fn give_up(report: &Socket, (step, error): (&'static str, io::Error)) -> ! {
    let _ = report.send(format!("{step}: {error}").as_bytes(), &[]);
    syscall::exit_now(127)
}

pub(crate) type Step<T> = Result<T, (&'static str, io::Error)>;

fn prepare(start: &Start<'_>, ends: &mut (File, Socket)) -> Step<std::convert::Infallible> {
    let at = |step| move |e| (step, e);
    wait(&mut ends.0).map_err(at("waiting for the launcher"))?;
    if start.namespaces.contains(&Namespace::Cgroup) {
        syscall::unshare(libc::CLONE_NEWCGROUP).map_err(at("making a cgroup namespace"))?;
    }
    syscall::new_session();
    syscall::signals(false);
    go_first().map_err(at("raising the score for memory exhaustion"))?;
    if start.namespaces.contains(&Namespace::Uts) {
        syscall::set_host_name("job").map_err(at("setting the host name"))?;
    }
    if start.in_root() {
        // The engine's own user must be able to enter the folders that root makes.
        syscall::file_mask(0o022);
        if let Some(fuse) = enter_root(start)? {
            ends.1.send(SERVE, &[fuse.as_fd()]).map_err(at("handing over the scratch"))?;
        }
        if start.shares_scratch {
            let scratch = root::share_scratch().map_err(at("sharing the scratch"))?;
            ends.1.send(SHARE, &[scratch.as_fd()]).map_err(at("sharing the scratch"))?;
        }
    }
    syscall::file_mask(0o077);
    // From here on its own descriptors and the two of ours are all there is.
    let placed = place_descriptors(start.fds, ends, start.keeps(Hole::Descriptors));
    let placed = placed.map_err(at("placing descriptors"))?;
    // The old numbers stand for other files now: they must not be closed.
    mem::forget(mem::replace(ends, placed));
    limits(start).map_err(at("setting limits"))?;
    give_up_rights(start).map_err(at("giving up rights"))?;
    if start.is_encrypted() {
        try_scratch().map_err(at("trying the scratch"))?;
    }
    stand_ready(ends)?;
    let program = if start.in_root() { Path::new(PROGRAM) } else { start.program };
    Err(("starting the program", syscall::execute(program, start.arguments, start.environment)))
}

/// Ties the process to the launcher, last of all since a change of user clears that, and waits to be let go.
pub(crate) fn stand_ready(ends: &mut (File, Socket)) -> Step<()> {
    let at = |step| move |e| (step, e);
    syscall::process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
        .map_err(at("tying the process to the launcher"))?;
    // Fails, and ends this process, if the launcher died before the line above.
    ends.1.send(READY, &[]).map_err(at("reporting"))?;
    wait(&mut ends.0).map_err(at("waiting for the launcher"))
}

fn enter_root(start: &Start<'_>) -> Step<Option<File>> {
    let (uid, gid) = match start.user {
        UserPlan::Own { uid } => (uid, uid),
        UserPlan::Shared => (syscall::effective_uid(), syscall::effective_gid()),
    };
    let Start { name, folder, program, scratch, .. } = *start;
    let writable = !start.keeps(Hole::ReadOnly);
    Root { name, folder, program, scratch, writable, uid, gid }.enter()
}

/// Raises the score that the out-of-memory killer goes by; where it is higher already, it stays.
pub(crate) fn go_first() -> io::Result<()> {
    let now = oom_score("self").ok_or(io::ErrorKind::InvalidData)?;
    fs::write("/proc/self/oom_score_adj", now.max(OOM_SCORE).to_string())
}

/// Writes a file and reads it back: the server answers, and lets this user in.
fn try_scratch() -> io::Result<()> {
    // Until it is asked for, the kernel takes the folder's owner for a user that does not exist in a user namespace.
    fs::metadata(SCRATCH)?;
    let file = Path::new(SCRATCH).join("trial");
    fs::write(&file, READY)?;
    let same = fs::read(&file)? == READY;
    fs::remove_file(&file)?;
    if same { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

pub(crate) fn wait(go: &mut File) -> io::Result<()> {
    go.read_exact(&mut [0])
}

/// The process's own from 0 on, then our two ends, closed by exec; nothing else.
pub(crate) fn place_descriptors(
    fds: &[BorrowedFd<'_>],
    ends: &(File, Socket),
    close_others: bool,
) -> io::Result<(File, Socket)> {
    let own = RawFd::try_from(fds.len()).map_err(io::Error::other)?;
    let wanted = fds.iter().map(AsRawFd::as_raw_fd).chain([ends.0.as_raw_fd(), ends.1.0.as_raw_fd()]);
    if !close_others {
        // All that the launcher has; but not those that tell, by being closed, that the program has started.
        let left = (3..PARKED).filter(|fd| ![ends.0.as_raw_fd(), ends.1.0.as_raw_fd()].contains(fd));
        left.filter_map(|fd| syscall::duplicate_above(fd, 2 * PARKED).ok()).for_each(syscall::leave_open);
    }
    // First out of the way, so that no placing overwrites what is still to be placed.
    let parked = wanted.zip(0..).map(|(from, to)| Ok((syscall::duplicate_above(from, PARKED)?, to)));
    for (from, to) in parked.collect::<io::Result<Vec<_>>>()? {
        syscall::place(from, to, to >= own)?;
    }
    if close_others {
        syscall::close_range(own.unsigned_abs() + 2, u32::MAX)?;
    }
    let [go, report] = syscall::adopt([own, own + 1]);
    Ok((File::from(go), Socket(report)))
}

fn limits(start: &Start<'_>) -> io::Result<()> {
    if start.keeps(Hole::ResourceLimits) {
        // Of 0, programs that collect dumps take no notice; of 1, the kernel does.
        syscall::limit(libc::RLIMIT_CORE, 1)?;
        syscall::limit(libc::RLIMIT_NOFILE, start.open_files)?;
        syscall::limit(libc::RLIMIT_FSIZE, start.largest_file)?;
    }
    if matches!(start.user, UserPlan::Own { .. }) {
        // Counted per user: with a user of its own, these are the job's alone.
        syscall::limit(libc::RLIMIT_NPROC, start.tasks.into())?;
    }
    Ok(())
}

fn give_up_rights(start: &Start<'_>) -> io::Result<()> {
    if !start.keeps(Hole::User) {
        return syscall::process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop);
    }
    let own = matches!(start.user, UserPlan::Own { .. });
    if own || start.namespaces.contains(&Namespace::User) {
        syscall::drop_bounding()?;
    }
    if let UserPlan::Own { uid } = start.user {
        syscall::become_user(uid)?;
    }
    syscall::drop_capabilities()?;
    syscall::process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}
