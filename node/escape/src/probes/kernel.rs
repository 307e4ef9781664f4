//! Parts of the kernel that a job has no business with: each has been a way out before.

use super::plain;
use crate::probe::{FILTER, Kind, PRIVILEGE, Probe, Tried, World, at, permitted, through};
use crate::syscall::{address, address_mut, call, signed, text};

pub(super) const PROBES: &[Probe] = &[
    plain("user-namespace", "makes a user namespace", FILTER, user_namespace),
    plain("keyring", "adds a key to the kernel's keyrings", FILTER, keyring),
    plain("bpf", "loads something for BPF", PRIVILEGE, bpf),
    plain("io-uring", "makes an io_uring", FILTER, io_uring),
    plain("perf", "counts events of its own process", FILTER, perf),
    plain("userfaultfd", "handles its own page faults", FILTER, userfaultfd),
    plain("fanotify", "watches and decides on others' files", PRIVILEGE, fanotify),
    plain("segment-table", "changes its segment table", FILTER, modify_ldt),
    plain("io-ports", "asks for the machine's ports", PRIVILEGE, io_ports),
    plain("calls-of-32-bit", "makes a system call of 32-bit programs", FILTER, old_call),
    plain("personality", "switches the layout's randomness off", FILTER, personality),
    plain("load-module", "loads a module", PRIVILEGE, load_module),
    plain("load-kernel", "loads another kernel", PRIVILEGE, load_kernel),
    plain("reboot", "reboots the machine", PRIVILEGE, reboot),
    plain("swap", "adds a swap file", PRIVILEGE, swap),
    plain("accounting", "has the kernel write every process's end", PRIVILEGE, accounting),
    plain("kernel-log", "reads the kernel's log", PRIVILEGE, kernel_log),
    Probe {
        name: "compiler-runs-code",
        tries: "makes memory executable in the compile process",
        stops: crate::probe::Stops { wasm: FILTER.wasm, container: &[] },
        kind: Kind::Compile,
        run: executable_memory,
    },
];

fn user_namespace(_: &World) -> Tried {
    call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize]).map_err(at("unshare"))?;
    through("it has all capabilities of a namespace")
}

fn keyring(_: &World) -> Tried {
    let (kind, name, value) = (c"user", c"decores-escape", [0_u8; 8]);
    let process_keyring = signed(-2);
    let arguments = [text(kind), text(name), address(&value), value.len(), process_keyring];
    call(libc::SYS_add_key, arguments).map_err(at("add_key"))?;
    through("a key was added")
}

fn bpf(_: &World) -> Tried {
    // BPF_MAP_CREATE: an array of one entry.
    let mut attributes = [0_u32; 32];
    attributes.iter_mut().zip([2, 4, 4, 1]).for_each(|(place, value)| *place = value);
    call(libc::SYS_bpf, [0, address(&attributes), size_of_val(&attributes)]).map_err(at("bpf"))?;
    through("a map was made")
}

fn io_uring(_: &World) -> Tried {
    let mut parameters = [0_u32; 30];
    call(libc::SYS_io_uring_setup, [1, address_mut(&mut parameters)]).map_err(at("io_uring_setup"))?;
    through("a ring was made")
}

/// `perf_event_attr`: the clock of a task, outside of the kernel.
pub(super) fn software_clock() -> [u64; 8] {
    const SOFTWARE: u64 = 1;
    const SIZE: u64 = 64;
    const NOT_KERNEL_NOT_HYPERVISOR: u64 = 1 << 5 | 1 << 6;
    [SOFTWARE | SIZE << 32, 0, 0, 0, 0, NOT_KERNEL_NOT_HYPERVISOR, 0, 0]
}

fn perf(_: &World) -> Tried {
    let attributes = software_clock();
    let arguments = [address(&attributes), 0, signed(-1), signed(-1), 0];
    call(libc::SYS_perf_event_open, arguments).map_err(at("perf_event_open"))?;
    through("events are counted")
}

fn userfaultfd(_: &World) -> Tried {
    const USER_MODE_ONLY: usize = 1;
    call(libc::SYS_userfaultfd, [USER_MODE_ONLY | libc::O_CLOEXEC as usize]).map_err(at("userfaultfd"))?;
    through("faults are handled")
}

fn fanotify(_: &World) -> Tried {
    const CONTENT: usize = 4;
    call(libc::SYS_fanotify_init, [CONTENT, 0]).map_err(at("fanotify_init"))?;
    through("files are watched")
}

fn modify_ldt(_: &World) -> Tried {
    let mut table = [0_u64; 8];
    call(libc::SYS_modify_ldt, [0, address_mut(&mut table), size_of_val(&table)]).map_err(at("modify_ldt"))?;
    through("the table was read")
}

fn io_ports(_: &World) -> Tried {
    call(libc::SYS_iopl, [3]).map_err(at("iopl"))?;
    through("ports are open")
}

fn old_call(_: &World) -> Tried {
    const GETPID_32: u32 = 20;
    let (told, own) = (crate::syscall::call_32(GETPID_32), std::process::id());
    if told == own {
        return through("it was answered");
    }
    Err(crate::probe::Stop::Refused("int 0x80", std::io::Error::from_raw_os_error(told.wrapping_neg().cast_signed())))
}

fn personality(_: &World) -> Tried {
    call(libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE as usize]).map_err(at("personality"))?;
    through("it is off")
}

fn load_module(_: &World) -> Tried {
    // What is no module is refused, but only to who may load one.
    let nothing = [0_u8; 8];
    let loaded = call(libc::SYS_init_module, [address(&nothing), nothing.len(), text(c"")]);
    permitted("init_module", loaded, &[libc::ENOEXEC])
}

fn load_kernel(_: &World) -> Tried {
    // More segments than there may be.
    permitted("kexec_load", call(libc::SYS_kexec_load, [0, 1 << 20, 0, 0]), &[libc::EINVAL])
}

fn reboot(_: &World) -> Tried {
    // Without the magic numbers nothing is ever rebooted.
    permitted("reboot", call(libc::SYS_reboot, [0, 0, 0, 0]), &[libc::EINVAL])
}

fn swap(_: &World) -> Tried {
    permitted("swapon", call(libc::SYS_swapon, [text(c"/no/such/file"), 0]), &[libc::ENOENT])
}

fn accounting(_: &World) -> Tried {
    permitted("acct", call(libc::SYS_acct, [text(c"/no/such/file")]), &[libc::ENOENT])
}

fn kernel_log(_: &World) -> Tried {
    const READ_ALL: usize = 3;
    let mut log = vec![0_u8; 4096];
    let log = log.as_mut_slice();
    call(libc::SYS_syslog, [READ_ALL, address_mut(log), log.len()]).map_err(at("syslog"))?;
    through("the log was read")
}

fn executable_memory(_: &World) -> Tried {
    let protection = (libc::PROT_READ | libc::PROT_EXEC) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    call(libc::SYS_mmap, [0, 4096, protection, flags, signed(-1), 0]).map_err(at("mmap"))?;
    through("memory is executable")
}
