//! The system calls the launcher needs and the standard library does not have.
#![expect(unsafe_code, reason = "namespaces, mounts and credentials have no safe interface in the standard library")]

use decores_sandbox::Namespace;
use libc::{c_int, c_long, c_ulong, pid_t};
use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// The result of a system call, or its error.
pub(crate) fn done(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Which side of a fork this is.
pub(crate) enum Side {
    /// The new process.
    Child,
    /// The old one; it owns the pidfd.
    Parent { pid: pid_t, pidfd: OwnedFd },
}

/// Forks into new namespaces (`CLONE_NEW…`).
pub(crate) fn clone_into(namespaces: c_int) -> io::Result<Side> {
    let mut pidfd: c_int = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = namespaces.unsigned_abs().into();
    args.flags |= libc::CLONE_PIDFD.unsigned_abs() as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    // SAFETY: without CLONE_VM and with no stack given this is a fork; the process has one thread, so
    // the child may go on as usual. `pidfd` outlives the call.
    let pid = done(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, mem::size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: the kernel made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Side::Parent { pid: pid as pid_t, pidfd })
}

/// Forks through libc, which keeps its own locks usable in the child.
pub(crate) fn fork() -> io::Result<pid_t> {
    // SAFETY: the caller has made sure that no other thread exists.
    done(unsafe { libc::fork() }.into()).map(|pid| pid as pid_t)
}

/// Ends the process without running exit handlers that belong to the parent.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

pub(crate) fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

pub(crate) fn effective_gid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::getegid() }
}

/// The flag of a namespace kind.
pub(crate) const fn namespace_flag(kind: Namespace) -> c_int {
    match kind {
        Namespace::Cgroup => libc::CLONE_NEWCGROUP,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::Mount => libc::CLONE_NEWNS,
        Namespace::Net => libc::CLONE_NEWNET,
        Namespace::Pid => libc::CLONE_NEWPID,
        Namespace::User => libc::CLONE_NEWUSER,
        Namespace::Uts => libc::CLONE_NEWUTS,
    }
}

pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: takes only flags.
    done(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Leaves the node's terminal and process group.
pub(crate) fn new_session() {
    // SAFETY: takes nothing; it fails only for a group leader, which has its own group.
    unsafe { libc::setsid() };
}

/// Which permissions new files do not get.
pub(crate) fn file_mask(mask: libc::mode_t) {
    // SAFETY: takes a plain number, and always succeeds.
    unsafe { libc::umask(mask) };
}

pub(crate) fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length belong to one live string.
    done(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Gives every signal its default action, or ignores those a terminal sends.
pub(crate) fn signals(ignore_terminal: bool) {
    let from_terminal = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];
    for signal in 1..=31 {
        let ignored = ignore_terminal && from_terminal.contains(&signal);
        let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: sets a constant disposition; SIGKILL and SIGSTOP fail without effect.
        unsafe { libc::signal(signal, action) };
    }
    // SAFETY: an empty set is made before it is used.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

pub(crate) fn mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&CStr>,
    flags: c_ulong,
    data: &str,
) -> io::Result<()> {
    let source = source.map(text).transpose()?;
    let target = text(target)?;
    let data = CString::new(data)?;
    // SAFETY: every pointer is null or a live C string.
    done(c_long::from(unsafe {
        libc::mount(
            source.as_ref().map_or(ptr::null(), |s| s.as_ptr()),
            target.as_ptr(),
            kind.map_or(ptr::null(), CStr::as_ptr),
            flags,
            data.as_ptr().cast(),
        )
    }))
    .map(drop)
}

/// Takes a mount out of this process's view, whoever still uses it.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: a live C string, and flags that are numbers.
    done(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }.into()).map(drop)
}

/// Adds attributes (`MOUNT_ATTR_…`) to a mount, and with `whole` to all below it.
pub(crate) fn restrict_mount(target: &Path, attributes: u64, whole: bool) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: all-zero is a valid `mount_attr`.
    let mut attr: libc::mount_attr = unsafe { mem::zeroed() };
    attr.attr_set = attributes;
    let flags = if whole { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a live C string and the size fits the struct.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
            &raw const attr,
            mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Makes a mount of what is mounted here, without these attributes, that is attached nowhere.
pub(crate) fn clone_mount(source: &Path, without: u64) -> io::Result<OwnedFd> {
    let source = text(source)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: a live C string, and flags that are numbers.
    let fd = done(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) })?;
    // SAFETY: the kernel just made it, and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // SAFETY: all-zero is a valid `mount_attr`.
    let mut attr: libc::mount_attr = unsafe { mem::zeroed() };
    attr.attr_clr = without;
    // SAFETY: an empty C string means the descriptor itself; the size fits the struct.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            mem::size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(fd)
}

/// Makes the current folder the root and lets the old root go.
pub(crate) fn pivot_here() -> io::Result<()> {
    let here = c".";
    // SAFETY: constant C strings. Stacking the old root on "." and detaching it is what pivot_root(2) shows.
    unsafe {
        done(libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()))?;
        done(libc::umount2(here.as_ptr(), libc::MNT_DETACH).into())?;
    }
    std::env::set_current_dir("/")
}

/// Lowers a resource limit, hard and soft.
pub(crate) fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for the result.
    done(unsafe { libc::getrlimit(resource, &raw mut now) }.into())?;
    let value = value.min(now.rlim_max);
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` lives through the call.
    done(unsafe { libc::setrlimit(resource, &raw const limit) }.into()).map(drop)
}

pub(crate) fn process_control(option: c_int, argument: c_ulong) -> io::Result<c_int> {
    // SAFETY: only options that take numbers are used here.
    done(unsafe { libc::prctl(option, argument, 0, 0, 0) }.into()).map(|v| v as c_int)
}

/// Takes these signals as something to be read, instead of by their actions.
pub(crate) fn signal_descriptor(signals: &[c_int]) -> io::Result<OwnedFd> {
    // SAFETY: the set is made empty before it is used, and lives through every call; the descriptor is new.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            done(libc::sigaddset(&raw mut set, *signal).into())?;
        }
        done(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()).into())?;
        let fd = done(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

pub(crate) fn set_process_name(name: &CStr) {
    // SAFETY: `name` is a live C string; the kernel copies at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Becomes this user, alone: no supplementary groups, no way back.
pub(crate) fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: plain numbers, and an empty list that is never read.
    unsafe {
        done(libc::setgroups(0, ptr::null()).into())?;
        done(libc::setresgid(uid, uid, uid).into())?;
        done(libc::setresuid(uid, uid, uid).into())?;
    }
    Ok(())
}

/// Empties the bounding set; without the capability to do so, it is left as it is.
pub(crate) fn drop_bounding() -> io::Result<()> {
    for capability in 0..64 {
        match process_control(libc::PR_CAPBSET_DROP, capability) {
            Ok(_) => {}
            // The first number the kernel does not know.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Empties the permitted, effective, inheritable and ambient sets.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let data = [0_u32; 6];
    process_control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong)?;
    // SAFETY: header (version, pid 0 = self) and the two data triples of version 3 are laid out as capset(2) says.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// Duplicates to the lowest free descriptor from `least` on; closed by exec.
pub(crate) fn duplicate_above(fd: RawFd, least: RawFd) -> io::Result<RawFd> {
    // SAFETY: takes only numbers.
    done(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) }.into()).map(|fd| fd as RawFd)
}

/// Puts a copy of `from` at `to`, whatever was there.
pub(crate) fn place(from: RawFd, to: RawFd, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: takes only numbers.
    done(unsafe { libc::dup3(from, to, flags) }.into()).map(drop)
}

/// Closes every descriptor from `first` to `last`.
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the caller owns every descriptor in the range and uses none of them afterwards.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Has a descriptor stay open in the program that this process becomes; what is not open stays so.
pub(crate) fn leave_open(fd: RawFd) {
    // SAFETY: takes only numbers.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
}

/// A pipe, read end first; both ends closed by exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for both descriptors.
    done(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    // SAFETY: the kernel just made them, and nobody else owns them.
    let [read, write] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((read, write))
}

/// Replaces this process; returns only on failure. The environment is this and no more.
pub(crate) fn execute(path: &Path, arguments: &[&CStr], environment: &[&CStr]) -> io::Error {
    let Ok(path) = text(path) else { return io::ErrorKind::InvalidInput.into() };
    let list = |of: &[&CStr]| of.iter().map(|a| a.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (list(arguments), list(environment));
    // SAFETY: both lists end with null and hold live C strings.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Fills a buffer from the kernel's random source.
#[expect(clippy::disallowed_methods, reason = "the launcher is a process of its own, and nobody hands it a `Random`")]
pub(crate) fn random(out: &mut [u8]) -> io::Result<()> {
    // SAFETY: pointer and length belong to one live slice. As many bytes as are asked for here never come in parts.
    let got = done(unsafe { libc::getrandom(out.as_mut_ptr().cast(), out.len(), 0) } as c_long)?;
    if got.unsigned_abs() == out.len() as u64 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(crate) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no siginfo is given.
    done(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// Kills a process, or with a negative id a whole group.
pub(crate) fn kill(pid: pid_t) -> io::Result<()> {
    // SAFETY: takes only numbers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) }.into()).map(drop)
}

/// Whether a process group has any member, ours to end or not.
pub(crate) fn group_exists(group: pid_t) -> bool {
    // SAFETY: signal 0 only asks.
    let asked = done(unsafe { libc::kill(-group, 0) }.into());
    asked.err().is_none_or(|e| e.raw_os_error() != Some(libc::ESRCH))
}

/// How a child ended: raw status, user and system time in milliseconds, peak memory in bytes.
pub(crate) struct Ended {
    pub(crate) status: c_int,
    pub(crate) cpu_ms: u64,
    pub(crate) memory_bytes: u64,
}

/// Waits for a child, or with a negative id for any of a group, to end and reaps it.
pub(crate) fn reap(pid: pid_t) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    loop {
        // SAFETY: both results have valid places.
        match done(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) }.into()) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let ms = |t: libc::timeval| t.tv_sec.unsigned_abs() * 1000 + t.tv_usec.unsigned_abs() / 1000;
    Ok(Ended {
        status,
        cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime),
        memory_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
    })
}

/// Waits until one of these is readable; which ones are.
pub(crate) fn poll(fds: &[BorrowedFd<'_>], timeout_ms: c_int) -> io::Result<Vec<bool>> {
    let mut list: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: pointer and length belong to one live vector.
    match done(unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, timeout_ms) }.into()) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        Err(_) => Ok(vec![false; fds.len()]),
        Ok(_) => Ok(list.iter().map(|p| p.revents != 0).collect()),
    }
}

/// Milliseconds that never go back. The launcher is a process of its own, without the node's clock.
pub(crate) fn monotonic_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// The kernel's Landlock ABI; 0 where there is none.
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: c_int = 1;
    // SAFETY: with the version flag the attribute must be null and of size zero.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// Whether a filter that kills the process can be loaded.
pub(crate) fn seccomp_available() -> bool {
    const GET_ACTION_AVAIL: c_int = 2;
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: `action` lives through the call.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Takes over two descriptors that were placed by number.
pub(crate) fn adopt(fds: [RawFd; 2]) -> [OwnedFd; 2] {
    // SAFETY: both were made by `place` just before, and no other owner exists in this process: the
    // objects they were copied from lost their descriptors to `close_range`.
    fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}
