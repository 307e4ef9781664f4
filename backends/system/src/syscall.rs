//! The system calls that the standard library does not have.
#![expect(unsafe_code, reason = "statvfs, getrlimit and clock_gettime have no safe interface in the standard library")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What a file system has left for anybody: bytes, and files.
pub(crate) fn file_system(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut out = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: reads one C string and fills one struct of ours.
    if unsafe { libc::statvfs(path.as_ptr(), out.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so the struct is filled.
    let out = unsafe { out.assume_init() };
    // Some file systems count no files.
    let files = if out.f_files == 0 { u64::MAX } else { out.f_favail };
    Ok((out.f_bavail.saturating_mul(out.f_frsize), files))
}

/// The soft limit on this process' descriptors.
pub(crate) fn descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills one struct of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Milliseconds since the machine was started, those that it slept included.
pub(crate) fn since_boot_ms() -> io::Result<u64> {
    let mut out = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills one struct of ours.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut out) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (seconds, nanoseconds) = (out.tv_sec.unsigned_abs(), out.tv_nsec.unsigned_abs());
    Ok(seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000))
}
