//! Descriptors, memory files, the fork, and the system's randomness.
#![expect(unsafe_code, reason = "takes over numbered descriptors, forks, and asks the kernel for random bytes")]

use decores_sandbox::protocol::{FD_EVENTS, FD_JOB, FD_LOGS, FD_OUTPUT, FD_PAYLOAD};
use decores_types::Random;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The descriptors every engine is started with.
pub(crate) const JOBS: [i32; 5] = [FD_JOB, FD_EVENTS, FD_PAYLOAD, FD_OUTPUT, FD_LOGS];
/// The launcher's limit on open files leaves an engine fewer.
const MOST_DESCRIPTORS: i32 = 1024;

/// The descriptors the engine was started with.
#[derive(Debug)]
pub struct Descriptors {
    /// The job and the offer key's seed, read.
    pub job: File,
    /// Events, written.
    pub events: File,
    /// The sealed payload, read.
    pub payload: File,
    /// The sealed output, written.
    pub output: File,
    /// The sealed logs, written.
    pub logs: File,
}

impl Descriptors {
    /// Takes them over; to be called once, first thing.
    ///
    /// # Errors
    /// If one is missing.
    pub fn take() -> io::Result<Self> {
        let [job, events, payload, output, logs] = JOBS.map(take);
        Ok(Self { job: job?, events: events?, payload: payload?, output: output?, logs: logs? })
    }

    /// Takes over one more that the protocol names; to be called once, right after.
    ///
    /// # Errors
    /// If it is missing.
    pub fn take_also(&self, fd: i32) -> io::Result<File> {
        take(fd)
    }
}

fn take(fd: i32) -> io::Result<File> {
    // SAFETY: only asks whether the descriptor exists.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it exists, the protocol says that it is ours, and nothing else in this process has
    // opened a descriptor yet.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A file in memory, without a name.
///
/// # Errors
/// If there is no memory or no descriptor left.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: `name` is a live C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Whether a folder's file system keeps a limit of its own, as memory does.
///
/// # Errors
/// If it cannot be looked at.
pub fn is_in_memory(folder: &Path) -> io::Result<bool> {
    let path = CString::new(folder.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: all-zero is a valid `statfs`, the path is a live C string, and the result has a valid place.
    let (done, found) = unsafe {
        let mut found: libc::statfs = mem::zeroed();
        (libc::statfs(path.as_ptr(), &raw mut found), found)
    };
    if done == 0 { Ok(found.f_type == libc::TMPFS_MAGIC) } else { Err(io::Error::last_os_error()) }
}

/// Bytes on disk of this process's files on a device that have no name any more.
pub fn unnamed_bytes(device: u64) -> u64 {
    let blocks = |fd| {
        // SAFETY: all-zero is a valid `stat`; a number that is no descriptor only fails.
        let (done, found) = unsafe {
            let mut found: libc::stat = mem::zeroed();
            (libc::fstat(fd, &raw mut found), found)
        };
        let unnamed = done == 0 && found.st_dev == device && found.st_nlink == 0;
        if unnamed { found.st_blocks.unsigned_abs() * 512 } else { 0 }
    };
    (0..MOST_DESCRIPTORS).map(blocks).fold(0, u64::saturating_add)
}

/// Both ends of a stream as plain files: `read` and `write` are all the lock leaves.
///
/// # Errors
/// If there is no descriptor left.
pub fn stream_pair() -> io::Result<(File, File)> {
    let (a, b) = UnixStream::pair()?;
    Ok((File::from(OwnedFd::from(a)), File::from(OwnedFd::from(b))))
}

/// Forks; `None` in the child. To be called before any thread and any secret exists.
pub(crate) fn fork() -> io::Result<Option<i32>> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor that can be read once this child has ended.
pub(crate) fn end_of(pid: i32) -> io::Result<File> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel just made it for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { File::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes this process end with the one that forked it.
///
/// # Errors
/// If that one has ended.
pub fn end_with(parent: u32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // It may have ended before the line above.
    if std::os::unix::process::parent_id() == parent { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
}

/// Lowers a limit of this process, hard and soft.
pub(crate) fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` lives through the call.
    if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process at once, without what its parent registered to run at exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// Waits until `file` can be read; false when the time is over.
///
/// # Errors
/// If it cannot be waited for.
pub fn readable_within(file: &File, ms: u64) -> io::Result<bool> {
    let mut one = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let ms = i32::try_from(ms).unwrap_or(i32::MAX);
    // SAFETY: one live entry.
    match unsafe { libc::poll(&raw mut one, 1, ms) } {
        n if n >= 0 => Ok(n > 0),
        _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(false),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for a child to end; the signal that ended it, if one did.
///
/// # Errors
/// If it is no child of this process.
pub fn ended_by_signal(pid: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)))
}

/// Copies exactly `length` bytes with `read` and `write`: the standard library's own copy uses calls
/// that the lock does not leave.
///
/// # Errors
/// Which side failed.
pub fn pump(from: &mut impl Read, to: &mut impl Write, length: u64) -> Result<(), Pump> {
    let mut buffer = vec![0; 65_536];
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..most) else { break };
        let got = match from.read(part) {
            Ok(0) => return Err(Pump::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Pump::Read(e)),
        };
        to.write_all(part.get(..got).unwrap_or_default()).map_err(Pump::Write)?;
        left -= got as u64;
    }
    Ok(())
}

/// Which side of a copy failed.
#[derive(Debug)]
pub enum Pump {
    /// The source.
    Read(io::Error),
    /// The target.
    Write(io::Error),
}

/// The kernel's random source.
pub(crate) struct KernelRandom;

impl Random for KernelRandom {
    #[expect(clippy::disallowed_methods, reason = "the engine is a process of its own; this is its `Random`")]
    fn fill(&self, out: &mut [u8]) {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|r| !r.is_empty()) {
            // SAFETY: pointer and length belong to one live slice.
            let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            match usize::try_from(got) {
                Ok(n) => done += n,
                // Going on with predictable keys would be worse than ending.
                Err(_) if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted => exit_now(1),
                Err(_) => {}
            }
        }
    }
}

/// Closes descriptors in a forked child, which has no use for them.
pub(crate) fn close_all(descriptors: &[i32]) -> io::Result<()> {
    for fd in descriptors {
        // SAFETY: the child never returns to the code that holds them.
        if unsafe { libc::close(*fd) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A file that would grow too large gives an error instead of a signal.
pub fn ignore_file_size_signal() {
    // SAFETY: sets a constant disposition.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
