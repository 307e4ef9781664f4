//! Hardening of the whole process.

#![expect(unsafe_code, reason = "system calls without a safe wrapper here")]

use std::io;

/// Forbids core dumps of this process, and other processes of the same user to trace it.
///
/// The files under `/proc/self` belong to root afterwards: write the maps of a user namespace first.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads one struct of ours.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets this process have as many files open as it may.
pub fn raise_open_files() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills one struct of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads one struct of ours.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Has the heap's memory shared between threads: each may otherwise keep what it once needed for itself. Where the C
/// library knows no such setting, nothing is changed.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes integers only, and is called before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives memory of the heap that nothing uses back to the machine.
pub fn return_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer only; the C library takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
