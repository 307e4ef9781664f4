//! The kernel, asked as native code asks it: by number and plain words.
#![expect(unsafe_code, reason = "a probe makes the calls that a broken engine would make; none has a safe interface")]

use libc::{c_int, c_long, pid_t};
use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Makes a system call. Arguments are numbers, or addresses made with [`address`] of values that outlive the call.
pub(crate) fn call<const N: usize>(number: c_long, arguments: [usize; N]) -> io::Result<usize> {
    let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
    let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(argument);
    // SAFETY: every probe passes either numbers or addresses of live values of the size that the call reads or writes.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Where a value lies.
pub(crate) fn address<T: ?Sized>(value: &T) -> usize {
    (&raw const *value).cast::<()>() as usize
}

/// Where a value lies that the kernel writes to.
pub(crate) fn address_mut<T: ?Sized>(value: &mut T) -> usize {
    (&raw mut *value).cast::<()>() as usize
}

/// A number that the kernel reads with its sign.
pub(crate) const fn signed(number: i32) -> usize {
    number as isize as usize
}

/// A path or name for [`call`].
pub(crate) fn text(value: &CStr) -> usize {
    value.as_ptr() as usize
}

/// Which side of a fork this is.
pub(crate) enum Side {
    Child,
    Parent(pid_t),
}

pub(crate) fn fork() -> io::Result<Side> {
    // SAFETY: the prober has one thread, so the child may go on as usual.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        pid if pid > 0 => Ok(Side::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// How a child ended, as `wait` tells it; a negative number stands for a group.
pub(crate) fn wait(pid: pid_t) -> io::Result<c_int> {
    let mut status = 0;
    loop {
        // SAFETY: the status has a valid place.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } >= 0 {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

pub(crate) fn kill(pid: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: takes only numbers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a process the head of a group of its own.
pub(crate) fn lead_group(pid: pid_t) {
    // SAFETY: takes only numbers; whoever comes second fails without effect.
    unsafe { libc::setpgid(pid, pid) };
}

/// Whether the descriptor becomes readable in time.
pub(crate) fn readable(fd: RawFd, milliseconds: c_int) -> io::Result<bool> {
    let mut list = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live entry.
    match unsafe { libc::poll(&raw mut list, 1, milliseconds) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready == 1),
    }
}

/// Takes over a descriptor that came with the process.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: called once for each descriptor of the protocol, which nothing else in this process owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Whether there is such a descriptor.
pub(crate) fn is_open(fd: RawFd) -> bool {
    call(libc::SYS_fcntl, [signed(fd), libc::F_GETFD as usize, 0]).is_ok()
}

/// Raises a soft limit as far as it goes.
pub(crate) fn raise(resource: libc::__rlimit_resource_t) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place, and lives through both calls.
    let done = unsafe {
        let read = libc::getrlimit(resource, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        read == 0 && libc::setrlimit(resource, &raw const limit) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Memory that is filled with something as soon as it is there.
pub(crate) fn fill_memory(bytes: usize) -> io::Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses where; nothing else uses the place.
    let place = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the whole of the new mapping, which is writable. It stays until the process ends.
    unsafe { ptr::write_bytes(place.cast::<u8>(), 0xA5, bytes) };
    Ok(())
}

/// Puts bytes at this very address.
pub(crate) fn place_memory(at: usize, bytes: &[u8]) -> io::Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let flags = flags | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: with NOREPLACE nothing that is there is touched.
    let place = unsafe { libc::mmap(at as *mut libc::c_void, bytes.len(), protection, flags, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new mapping of that length.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast::<u8>(), bytes.len()) };
    Ok(())
}

/// Reads what a system call has mapped.
pub(crate) fn read_mapped(at: usize, length: usize) -> Vec<u8> {
    // SAFETY: the caller has just had at least that much mapped there by `shmat`.
    unsafe { std::slice::from_raw_parts(at as *const u8, length) }.to_vec()
}

/// The system call of 32-bit programs, which have numbers of their own.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_32(number: u32) -> u32 {
    let mut result = number;
    // SAFETY: `getpid` takes nothing; the kernel gives all other registers back but r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inout("eax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result
}

/// Copies bytes into a System V segment, which has at least a page.
pub(crate) fn write_segment(segment: usize, bytes: &[u8]) -> io::Result<()> {
    let place = call(libc::SYS_shmat, [segment, 0, 0])?;
    let length = bytes.len().min(4096);
    // SAFETY: a page at least was mapped there just now, writable.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place as *mut u8, length) };
    call(libc::SYS_shmdt, [place]).map(drop)
}
