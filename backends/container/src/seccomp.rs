//! Which system calls a container's program may make: those that ordinary programs need, and no others.
//!
//! What is in no list fails with `ENOSYS`, as on an older kernel: C libraries fall back then, for calls that did not
//! exist when the lists were written too. Well-known calls that are kept out on purpose fail with `EPERM`.

use serde_json::{Value, json};

/// Files and folders, by name and by descriptor. Who may do what is for the kernel to say: a container's user has no
/// capability.
const FILES: &[&str] = &[
    "access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2",
    "fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr",
    "flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr",
    "lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod",
    "mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead",
    "readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs",
    "statx symlink symlinkat sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat",
    "utimes vmsplice write writev",
];
/// Memory of its own.
const MEMORY: &[&str] = &[
    "brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create memfd_secret mincore mlock mlock2",
    "mlockall mmap mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect",
    "process_madvise process_mrelease remap_file_pages set_mempolicy",
];
/// Its own processes and threads: the process namespace holds no others.
const PROCESSES: &[&str] = &[
    "arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv",
    "futex_wake get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit",
    "getrusage getsid gettid ioprio_get ioprio_set kill pidfd_open pidfd_send_signal prctl prlimit64 rseq",
    "sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam",
    "sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler",
    "sched_yield seccomp set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid",
    "tgkill times tkill vfork wait4 waitid",
    // Narrowing itself further is welcome.
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self",
];
/// Who it is. Other users of the container's map can be had only with capabilities, which it has none of.
const USERS: &[&str] = &[
    "getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups setregid",
    "setresgid setresuid setreuid setuid",
];
const SIGNALS: &[&str] = &[
    "alarm getitimer pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo",
    "rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo setitimer sigaltstack signalfd signalfd4",
];
/// Reading clocks and waiting; setting them is kept out below.
const TIME: &[&str] = &[
    "clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time timer_create timer_delete",
    "timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime",
];
const WAITING: &[&str] = &[
    "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2",
    "inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents",
    "io_pgetevents io_setup io_submit pipe pipe2 poll ppoll pselect6 select",
];
/// On sockets that there are: which may be made stands in [`sockets`]. The network namespace leads nowhere.
const SOCKETS: &[&str] = &[
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg",
    "sendmsg sendto setsockopt shutdown",
];
/// System V and POSIX; of a namespace of its own.
const IPC: &[&str] = &[
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl",
    "semget semop semtimedop shmat shmctl shmdt shmget",
];
const MACHINE: &[&str] = &["getrandom sysinfo uname"];

/// Kept out on purpose.
const DENIED: &[&str] = &[
    // Mounts, and roots other than its own.
    "chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root umount umount2",
    // Namespaces: a new user namespace would bring every capability back.
    "setns unshare",
    // Other processes' memory and descriptors.
    "kcmp pidfd_getfd process_vm_readv process_vm_writev ptrace",
    // Files past their folders, and watching file systems.
    "fanotify_init fanotify_mark name_to_handle_at open_by_handle_at",
    // Programs inside the kernel, and large, young interfaces to it.
    "bpf io_uring_enter io_uring_register io_uring_setup perf_event_open userfaultfd",
    // Keys: not in any namespace.
    "add_key keyctl request_key",
    // Old binaries' quirks switch off address space randomisation.
    "personality",
    // Another kernel, its modules, its log, its clocks, its hardware, its names.
    "acct adjtimex clock_adjtime clock_settime delete_module finit_module init_module ioperm iopl",
    "kexec_file_load kexec_load lookup_dcookie modify_ldt nfsservctl quotactl quotactl_fd reboot setdomainname",
    "sethostname settimeofday stime swapoff swapon sysfs syslog vhangup",
    // Memory that is moved between machine nodes.
    "migrate_pages move_pages",
];
/// New namespaces by way of `clone`: all of `CLONE_NEW…` but time, which `clone` cannot ask for.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
const IOCTL_NUMBER: u64 = 0xffff_ffff;
/// Requests of terminals, descriptors and files that ask or set nothing beyond their own. Pushing input into a
/// terminal is not among them. The kernel looks at the lower half only.
const IOCTLS: &[u64] = &[
    // TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCSPGRP, TIOCOUTQ, TIOCGWINSZ, TIOCSWINSZ, FIONREAD, FIONBIO
    0x5401,
    0x5402,
    0x5403,
    0x5404,
    0x540f,
    0x5410,
    0x5411,
    0x5413,
    0x5414,
    0x541b,
    0x5421,
    // FIONCLEX, FIOCLEX, FIOASYNC, TCGETS2, FS_IOC_GETFLAGS, FICLONE, FICLONERANGE
    0x5450,
    0x5451,
    0x5452,
    0x802c_542a,
    0x8008_6601,
    0x4004_9409,
    0x4020_940d,
    // SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFINDEX
    0x8910,
    0x8912,
    0x8913,
    0x8915,
    0x8933,
];
const SOCKET_TYPE: u64 = 0xf;

/// All lists of what is allowed whatever its arguments are.
const ALLOWED: [&[&str]; 10] = [FILES, MEMORY, PROCESSES, USERS, SIGNALS, TIME, WAITING, SOCKETS, IPC, MACHINE];

/// The filter, as the `linux.seccomp` of a runtime spec.
pub(crate) fn filter() -> Value {
    let mut rules = vec![
        json!({"names": names(&ALLOWED.concat()), "action": "SCMP_ACT_ALLOW"}),
        json!({"names": names(DENIED), "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM}),
        // Asks for all file systems of the machine; it is told that it was done.
        json!({"names": ["sync"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}),
        json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [masked(0, CLONE_NAMESPACES, 0)]}),
        json!({"names": ["socketpair"], "action": "SCMP_ACT_ALLOW", "args": [equal(0, libc::AF_UNIX)]}),
    ];
    rules.extend(sockets());
    rules.extend(IOCTLS.iter().map(
        |request| json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [masked(1, IOCTL_NUMBER, *request)]}),
    ));
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::ENOSYS, "syscalls": rules})
}

/// The names in lines of names.
fn names(lines: &[&'static str]) -> Vec<&'static str> {
    lines.iter().flat_map(|line| line.split(' ')).collect()
}

/// Streams and datagrams, local and of the Internet; nothing raw, no packets, no netlink, no ciphers of the kernel's.
fn sockets() -> impl Iterator<Item = Value> {
    let local = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET].map(|kind| (libc::AF_UNIX, kind, 0));
    // By a protocol's number alone the kernel loads the module that has it.
    let internet = [libc::AF_INET, libc::AF_INET6].into_iter().flat_map(|family| {
        let kinds = [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)];
        kinds.into_iter().flat_map(move |(kind, protocol)| [(family, kind, 0), (family, kind, protocol)])
    });
    local.into_iter().chain(internet).map(|(family, kind, protocol)| {
        let args = [equal(0, family), masked(1, SOCKET_TYPE, kind.unsigned_abs().into()), equal(2, protocol)];
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args})
    })
}

fn equal(index: u32, value: i32) -> Value {
    json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"})
}

fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_kept_out() {
        let other = ["clone", "socket", "socketpair", "ioctl"];
        let mut names = [names(&ALLOWED.concat()), names(DENIED), other.to_vec()].concat();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(!names.contains(&"clone3"), "its flags lie in memory, where no filter looks");
    }

    #[test]
    fn sockets_are_of_two_protocols() {
        let rules: Vec<Value> = sockets().collect();
        assert_eq!(rules.len(), 3 + 2 * 4);
        let protocols = rules.iter().map(|rule| rule["args"][2]["value"].as_i64().unwrap());
        assert!(protocols.into_iter().all(|protocol| [0, 6, 17].contains(&protocol)));
    }

    #[test]
    fn the_machines_file_systems_are_not_written_back() {
        assert!(!names(&ALLOWED.concat()).contains(&"sync"));
        let filter = filter();
        let rules = filter["syscalls"].as_array().unwrap();
        let sync = rules.iter().find(|rule| rule["names"] == json!(["sync"])).unwrap();
        assert_eq!((sync["action"].as_str(), sync["errnoRet"].as_i64()), (Some("SCMP_ACT_ERRNO"), Some(0)));
    }

    #[test]
    fn input_cannot_be_pushed_into_a_terminal() {
        const TIOCSTI: u64 = 0x5412;
        const TIOCLINUX: u64 = 0x541c;
        assert!(IOCTLS.iter().all(|request| ![TIOCSTI, TIOCLINUX].contains(request)));
    }
}
