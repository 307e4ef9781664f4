//! The system calls of an engine, each with its reason.
//!
//! What every locked process may do, what each kind of process may do beyond that, and what
//! libraries ask for without needing it (answered with EPERM). Everything else ends the process.

use libc::c_long;

/// One system call and when it is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: c_long,
    /// Why it is on the list.
    pub why: &'static str,
    /// What its arguments must be.
    pub when: When,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// None.
    Always,
    /// The bits of `mask` in this argument are `value`.
    Bits {
        /// Which argument, from 0.
        argument: u8,
        /// The bits looked at.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// This argument is one of these.
    OneOf {
        /// Which argument, from 0.
        argument: u8,
        /// What it may be.
        values: &'static [u64],
    },
    /// The first argument is this process.
    Own,
}

const fn call(number: c_long, why: &'static str) -> Call {
    Call { number, why, when: When::Always }
}

const fn when(number: c_long, when: When, why: &'static str) -> Call {
    Call { number, why, when }
}

/// The container engine's descriptor of the socket to the helper.
const RUNNER: u64 = 8;
const EXEC: u64 = libc::PROT_EXEC as u64;
/// No new executable memory.
const NOT_EXECUTABLE: When = When::Bits { argument: 2, mask: EXEC, value: 0 };

/// What compile process and running engine share.
pub const SHARED: &[Call] = &[
    call(libc::SYS_read, "program, payload and files are read"),
    call(libc::SYS_write, "results, events and sealed data are written"),
    call(libc::SYS_close, "descriptors are given back"),
    call(libc::SYS_munmap, "memory is given back"),
    call(libc::SYS_mremap, "the allocator grows large blocks in place"),
    call(libc::SYS_madvise, "the allocator and the guest's memory give pages back"),
    call(libc::SYS_brk, "the allocator grows its heap"),
    call(libc::SYS_futex, "locks of the standard library and of the async runtime"),
    call(libc::SYS_rt_sigreturn, "the end of a signal handler: wasm traps are signals"),
    call(libc::SYS_rt_sigprocmask, "abort, and the trap handler"),
    call(libc::SYS_sigaltstack, "the trap handler's own stack"),
    call(libc::SYS_restart_syscall, "the kernel goes on with a call that a signal interrupted"),
    call(libc::SYS_clock_gettime, "clocks, where the vDSO does not answer"),
    call(libc::SYS_getrandom, "keys for hash tables, HPKE and nonces"),
    call(libc::SYS_sched_yield, "spinning locks"),
    call(libc::SYS_getpid, "abort, and fork detection of the cryptographic library"),
    call(libc::SYS_gettid, "abort"),
    when(libc::SYS_tgkill, When::Own, "abort signals the own process"),
    when(
        libc::SYS_prctl,
        When::OneOf { argument: 0, values: &[libc::PR_GET_SECCOMP as u64, libc::PR_GET_NO_NEW_PRIVS as u64] },
        "the lock is read back",
    ),
    call(libc::SYS_exit, "a thread ends"),
    call(libc::SYS_exit_group, "the process ends"),
];

/// The compile process: reads the program, writes the code, nothing more.
pub const COMPILE: &[Call] = &[
    when(libc::SYS_mmap, NOT_EXECUTABLE, "memory for the compiler; it never runs what it makes"),
    when(libc::SYS_mprotect, NOT_EXECUTABLE, "code is laid out read-only before it is copied out"),
];

/// The running engine.
pub const RUN: &[Call] = &[
    call(
        libc::SYS_mmap,
        "memory of engine and guest; compiled code becomes executable, which is what an engine is for",
    ),
    call(libc::SYS_mprotect, "the guest's memory grows, compiled code becomes executable (and unwritable)"),
    call(libc::SYS_openat, "files of the guest; Landlock holds them to the scratch"),
    call(libc::SYS_openat2, "the same, resolved beneath a folder by the kernel"),
    call(libc::SYS_readv, "files of the guest"),
    call(libc::SYS_writev, "files of the guest"),
    call(libc::SYS_pread64, "files of the guest, at an offset"),
    call(libc::SYS_pwrite64, "files of the guest, at an offset"),
    call(libc::SYS_preadv, "files of the guest, at an offset"),
    call(libc::SYS_pwritev, "files of the guest, at an offset"),
    call(libc::SYS_pwritev2, "files of the guest, appended to"),
    call(libc::SYS_lseek, "stdin and stdout are read again from their start"),
    call(libc::SYS_fstat, "kind and size of files"),
    call(libc::SYS_newfstatat, "kind and size of files"),
    call(libc::SYS_statx, "kind and size of files"),
    call(libc::SYS_ftruncate, "files of the guest"),
    call(libc::SYS_fallocate, "files of the guest"),
    call(libc::SYS_fsync, "the guest asks for it"),
    call(libc::SYS_fdatasync, "the guest asks for it"),
    call(libc::SYS_fadvise64, "the guest asks for it"),
    call(libc::SYS_getdents64, "folders of the scratch are listed"),
    call(libc::SYS_mkdirat, "folders of the guest"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_mkdir, "folders of the input: the standard library's older form"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_rmdir, "folders of the scratch are removed at the end: the older form"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_unlink, "streams that lie on the scratch are removed at the end: the older form"),
    call(libc::SYS_unlinkat, "files of the guest are removed, by it and at the end"),
    call(libc::SYS_renameat, "files of the guest"),
    call(libc::SYS_renameat2, "files of the guest"),
    call(libc::SYS_linkat, "files of the guest"),
    call(libc::SYS_readlinkat, "paths of the guest are resolved by hand where openat2 is missing"),
    call(libc::SYS_utimensat, "file times of the guest"),
    when(
        libc::SYS_fcntl,
        When::OneOf {
            argument: 1,
            values: &[
                libc::F_GETFD as u64,
                libc::F_SETFD as u64,
                libc::F_GETFL as u64,
                libc::F_SETFL as u64,
                libc::F_DUPFD_CLOEXEC as u64,
            ],
        },
        "modes of the guest's files, and copies of their descriptors",
    ),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_poll, "the compile process is waited for until its deadline"),
    call(libc::SYS_ppoll, "the same, on processors without poll"),
    call(libc::SYS_wait4, "how the compile process ended"),
    call(libc::SYS_clock_getres, "the guest asks for it"),
    call(libc::SYS_clock_nanosleep, "the thread that ends a guest at its time limit"),
];

/// The container engine: reads a sealed input into files, listens to a container, seals what it left. It runs
/// nothing itself, so that nothing becomes executable.
pub const CONTAINER: &[Call] = &[
    when(libc::SYS_mmap, NOT_EXECUTABLE, "memory of the engine"),
    when(libc::SYS_mprotect, NOT_EXECUTABLE, "the allocator's heaps"),
    call(libc::SYS_openat, "files of input and output; Landlock holds them to these two folders"),
    call(libc::SYS_lseek, "stdin and stdout are read again from their start"),
    call(libc::SYS_fstat, "kind and size of files"),
    call(libc::SYS_newfstatat, "kind and size of files"),
    call(libc::SYS_statx, "kind and size of files"),
    call(libc::SYS_getdents64, "the output folder is listed"),
    call(libc::SYS_mkdirat, "folders of the input"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_mkdir, "folders of the input: the standard library's older form"),
    call(libc::SYS_fchmodat, "outputs that the program made unreadable are read all the same"),
    when(
        libc::SYS_fcntl,
        When::OneOf {
            argument: 1,
            values: &[libc::F_GETFD as u64, libc::F_GETFL as u64, libc::F_DUPFD_CLOEXEC as u64],
        },
        "copies of descriptors",
    ),
    when(
        libc::SYS_sendmsg,
        When::OneOf { argument: 0, values: &[RUNNER] },
        "the request to the helper, with the container's three streams",
    ),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_poll, "the unpacking process, then the container's streams and the helper are waited for"),
    call(libc::SYS_ppoll, "the same, on processors without poll"),
    call(libc::SYS_wait4, "how the unpacking process ended"),
];

/// The process that unpacks an image: files and links below two folders.
pub const UNPACK: &[Call] = &[
    when(libc::SYS_mmap, NOT_EXECUTABLE, "memory for unpacking"),
    when(libc::SYS_mprotect, NOT_EXECUTABLE, "the allocator's heaps"),
    call(libc::SYS_openat, "files of the image; Landlock holds them to its folders"),
    call(libc::SYS_openat2, "folders of the image, resolved inside its root by the kernel"),
    call(libc::SYS_fstat, "which folder this is"),
    call(libc::SYS_newfstatat, "what stands at a name already"),
    call(libc::SYS_statx, "the same, as the standard library asks"),
    call(libc::SYS_lseek, "how much of a file there is to read"),
    call(libc::SYS_fstatfs, "how much the scratch holds"),
    call(libc::SYS_getdents64, "what whiteouts hide is listed"),
    call(libc::SYS_mkdirat, "folders of the image"),
    call(libc::SYS_symlinkat, "symbolic links of the image; never followed but inside its root"),
    call(libc::SYS_linkat, "hard links of the image"),
    call(libc::SYS_unlinkat, "what a layer hides or replaces"),
    call(libc::SYS_fchmod, "modes of the image's files, without the bits that make somebody else of who runs them"),
    call(libc::SYS_utimensat, "file times of the image"),
    when(
        libc::SYS_fcntl,
        When::OneOf {
            argument: 1,
            values: &[libc::F_GETFD as u64, libc::F_GETFL as u64, libc::F_DUPFD_CLOEXEC as u64],
        },
        "copies of descriptors",
    ),
];

/// What is asked for without need; EPERM is answer enough.
pub const HARMLESS: &[Call] = &[
    call(libc::SYS_sched_getaffinity, "libraries count processors"),
    call(libc::SYS_prlimit64, "the standard library looks for its stack"),
    call(libc::SYS_ioctl, "the standard library asks whether a file is a terminal"),
    call(libc::SYS_uname, "libraries look for features by kernel version"),
    call(libc::SYS_sysinfo, "libraries look for the size of memory"),
];

/// As [`HARMLESS`], for the running engine and the compile process.
pub const HARMLESS_FILES: &[Call] = &[
    call(libc::SYS_fchmod, "the guest's file modes stay as they are"),
    call(libc::SYS_fchmodat, "the guest's file modes stay as they are"),
    call(libc::SYS_symlinkat, "the guest makes no links that point elsewhere"),
];

/// As [`HARMLESS`], for the compile process only.
pub const HARMLESS_COMPILE: &[Call] = &[
    call(libc::SYS_openat, "the allocator counts processors in /sys"),
    call(libc::SYS_fcntl, "debug builds of the standard library look at a descriptor before they close it"),
];
