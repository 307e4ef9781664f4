//! The system calls that running a container needs and the standard library does not have.
#![expect(unsafe_code, reason = "mounts, namespaces and descriptors that travel have no safe interface in std")]

use libc::{c_int, c_long, c_ulong, pid_t};
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// The result of a system call, or its error.
fn done(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Takes over a descriptor that whoever started this program left at a fixed number; closed by exec from now on.
///
/// # Errors
/// If nothing is there.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes only numbers, and fails where no such descriptor is open.
    done(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and this program takes each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts a copy of a descriptor at this number, whatever was there; exec leaves it open.
pub(crate) fn place(fd: RawFd, at: RawFd) -> io::Result<()> {
    // SAFETY: takes only numbers.
    done(unsafe { libc::dup2(fd, at) }.into()).map(drop)
}

/// A copy of a descriptor with a number of at least `least`; closed by exec.
pub(crate) fn duplicate_above(fd: RawFd, least: RawFd) -> io::Result<RawFd> {
    // SAFETY: takes only numbers.
    done(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) }.into()).map(|fd| fd as RawFd)
}

/// Which side of a fork this is.
pub(crate) enum Side {
    /// The new process.
    Child,
    /// The old one, and the new one's id and pidfd.
    Parent(pid_t, OwnedFd),
}

/// Forks, into new namespaces (`CLONE_NEW…`) if asked to.
pub(crate) fn fork_into(namespaces: c_int) -> io::Result<Side> {
    let mut pidfd: c_int = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = u64::from((namespaces | libc::CLONE_PIDFD).unsigned_abs());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    // SAFETY: without CLONE_VM this is a fork, and this program has one thread. `pidfd` outlives the call.
    let pid = done(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, mem::size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: the kernel made this descriptor for us.
    Ok(Side::Parent(pid as pid_t, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Ends this process at once.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// Waits for signals until one ends the process.
pub(crate) fn wait_for_ever() -> ! {
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

/// A descriptor that becomes readable when this process ends.
pub(crate) fn pidfd(pid: pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes only numbers; the kernel makes the descriptor for us.
    unsafe { done(libc::syscall(libc::SYS_pidfd_open, pid, 0)).map(|fd| OwnedFd::from_raw_fd(fd as RawFd)) }
}

/// Waits for a child to end; its raw status.
pub(crate) fn reap(pid: pid_t) -> io::Result<c_int> {
    let mut status = 0;
    loop {
        // SAFETY: the status has a valid place.
        match done(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into()) {
            Ok(_) => return Ok(status),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Ends every other process of this process namespace; refused outside of one of our own.
pub(crate) fn kill_all_others() -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // SAFETY: takes only numbers. As process 1 this reaches only the namespace it is the first of.
    match done(unsafe { libc::kill(-1, libc::SIGKILL) }.into()) {
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
        _ => Ok(()),
    }
}

/// Ends one process.
pub(crate) fn kill(pid: pid_t) -> io::Result<()> {
    // SAFETY: takes only numbers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) }.into()).map(drop)
}

/// Forbids this process and all its children what set-user-id programs give.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes only numbers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// Dies with the process that started this one.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes only numbers.
    done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into()).map(drop)
}

/// The hard limit of a resource.
pub(crate) fn hard_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for the result.
    done(unsafe { libc::getrlimit(resource, &raw mut now) }.into())?;
    Ok(now.rlim_max)
}

pub(crate) fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

pub(crate) fn effective_gid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::getegid() }
}

/// Milliseconds that never go back; this program is one-shot, and nobody hands it a clock.
pub(crate) fn monotonic_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Waits until one of these is readable or has hung up; which ones are. With nothing to wait for it is a pause.
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

/// Runs what looks for `args[0]` along `PATH` of this process's environment; returns only on failure.
pub(crate) fn execute(args: &[CString]) -> io::Error {
    let Some(program) = args.first() else { return io::ErrorKind::InvalidInput.into() };
    let list: Vec<_> = args.iter().map(|a| a.as_ptr()).chain([ptr::null()]).collect();
    // SAFETY: the list ends with null and holds live C strings.
    unsafe { libc::execvp(program.as_ptr(), list.as_ptr()) };
    io::Error::last_os_error()
}

/// Receives up to `N` descriptors with the bytes they came with; `None` at the end of the stream.
///
/// # Errors
/// If reading fails, or more descriptors came.
pub(crate) fn receive<const N: usize>(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    // Room for the header and eight descriptors; what does not fit is closed by the kernel and reported.
    let mut control = [0_u64; 8];
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: the message points at live buffers of the lengths given.
    let got = done(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) } as c_long)?;
    let mut fds = Vec::new();
    // SAFETY: the kernel filled in the control buffer that `message` describes; each header is looked at before its
    // data, and the descriptors in it are ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(this) = header.as_ref() {
            if this.cmsg_level == libc::SOL_SOCKET && this.cmsg_type == libc::SCM_RIGHTS {
                let size = this.cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                fds.extend(
                    (0..size / mem::size_of::<RawFd>()).map(|at| OwnedFd::from_raw_fd(data.add(at).read_unaligned())),
                );
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 || fds.len() > N {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than expected came along"));
    }
    let got = usize::try_from(got).map_err(io::Error::other)?;
    Ok((got > 0).then_some((got, fds)))
}

/// Sends bytes and descriptors in one message.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let size = mem::size_of_val(numbers.as_slice()) as u32;
    let mut control = [0_u64; 8];
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid `msghdr`; the control buffer has room for the header and the few descriptors here.
    let sent = unsafe {
        let space = libc::CMSG_SPACE(size) as usize;
        if space > mem::size_of_val(&control) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = space;
        if let Some(header) = libc::CMSG_FIRSTHDR(&raw const message).as_mut() {
            header.cmsg_level = libc::SOL_SOCKET;
            header.cmsg_type = libc::SCM_RIGHTS;
            header.cmsg_len = libc::CMSG_LEN(size) as usize;
            ptr::copy_nonoverlapping(numbers.as_ptr(), libc::CMSG_DATA(header).cast(), numbers.len());
        }
        done(libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) as c_long)?
    };
    if sent.unsigned_abs() == bytes.len() as u64 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
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

/// A new mount of a folder, attached nowhere.
pub(crate) fn open_tree(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.unsigned_abs();
    // SAFETY: an empty C string; the kernel makes the descriptor for us.
    unsafe {
        done(libc::syscall(libc::SYS_open_tree, folder.as_raw_fd(), c"".as_ptr(), flags))
            .map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Leaves all supplementary groups.
pub(crate) fn leave_groups() -> io::Result<()> {
    // SAFETY: an empty list that is never read.
    done(unsafe { libc::setgroups(0, ptr::null()) }.into()).map(drop)
}

/// A copy of a mount and all that is mounted below, attached nowhere.
pub(crate) fn open_whole_tree(path: &Path) -> io::Result<OwnedFd> {
    let path = text(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE.unsigned_abs();
    // SAFETY: a live C string; the kernel makes the descriptor for us.
    unsafe {
        done(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags))
            .map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Attaches a detached mount in the mount namespace of a process.
pub(crate) fn attach_in(pid: i32, mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    let (child, ended) = match fork_into(0)? {
        Side::Child => {
            // SAFETY: takes only numbers.
            let entered = done(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }.into());
            let attached = entered.and_then(|_| attach(mount, target));
            exit_now(attached.err().and_then(|e| e.raw_os_error()).unwrap_or(0))
        }
        Side::Parent(child, ended) => (child, ended),
    };
    let status = reap(child)?;
    drop(ended);
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Attaches a detached mount.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: live C strings and numbers.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Sets and clears attributes (`MOUNT_ATTR_…`) of a mount that a descriptor stands for, and with `whole` of all below.
pub(crate) fn change_mount(mount: BorrowedFd<'_>, set: u64, clear: u64, whole: bool) -> io::Result<()> {
    // SAFETY: all-zero is a valid `mount_attr`.
    let mut attr: libc::mount_attr = unsafe { mem::zeroed() };
    attr.attr_set = set;
    attr.attr_clr = clear;
    let flags = libc::AT_EMPTY_PATH | if whole { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty C string, and the size fits the struct.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Opens a folder that takes part in no reading or writing: only a place.
pub(crate) fn open_place(path: &Path) -> io::Result<OwnedFd> {
    let path = text(path)?;
    // SAFETY: a live C string; the kernel makes the descriptor for us.
    unsafe {
        done(libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW).into())
            .map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Opens a folder below another one; `resolve` says what on the way is an error (`RESOLVE_…`).
pub(crate) fn open_folder(below: BorrowedFd<'_>, path: &Path, resolve: u64) -> io::Result<OwnedFd> {
    let path = text(path)?;
    // SAFETY: all-zero is a valid `open_how`.
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).unsigned_abs().into();
    how.resolve = resolve;
    let size = mem::size_of::<libc::open_how>();
    // SAFETY: a live C string, and the size fits the struct; the kernel makes the descriptor for us.
    unsafe {
        done(libc::syscall(libc::SYS_openat2, below.as_raw_fd(), path.as_ptr(), &raw const how, size))
            .map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
    }
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

/// Takes a mount out of this process's view.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: a live C string, and flags that are numbers.
    done(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }.into()).map(drop)
}

/// A user namespace with these maps, alive as long as its descriptor.
///
/// The maps are written from outside: only there may they have more than one line.
pub(crate) fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let (pid, ended) = match fork_into(libc::CLONE_NEWUSER)? {
        Side::Child => wait_for_ever(),
        Side::Parent(pid, ended) => (pid, ended),
    };
    let made = fs::write(format!("/proc/{pid}/uid_map"), uid_map)
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), gid_map))
        .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")))
        .map(OwnedFd::from);
    kill(pid)?;
    reap(pid)?;
    drop(ended);
    made
}

/// Two connected stream sockets, closed by exec.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    std::os::unix::net::UnixStream::pair().map(|(a, b)| (a.into(), b.into()))
}

/// Writes to a descriptor that another process's copy of this one closes; what cannot be written is lost.
pub(crate) fn tell(fd: RawFd, bytes: &[u8]) {
    // SAFETY: pointer and length belong to one live slice; a closed descriptor only fails.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// A pipe, read end first; both ends closed by exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((read.into(), write.into()))
}

/// Reaps every child that is left, until there is none.
pub(crate) fn reap_all() {
    while reap(-1).is_ok() {}
}
