//! Devices, and what the kernel tells and takes in `/proc` and `/sys`.

use super::mounts::c_path;
use super::plain;
use crate::probe::{FILES, KERNEL_FILES, Probe, ROOTS_FILES, Stops, Tried, World, at, through};
use crate::syscall::{address, address_mut, call, signed, text};
use decores_sandbox::Hole::{Landlock, MaskedPaths, Root, Seccomp, User};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Of Linux 6.5, on all processors.
const SYS_CACHESTAT: libc::c_long = 451;

/// Files that only tell, of the whole machine.
const TOLD: Stops = Stops { wasm: FILES.wasm, container: &[MaskedPaths] };

/// A file of the host's has to be opened first.
const CACHED: Stops = Stops { wasm: &[Landlock, Root, Seccomp], container: &[Root, Seccomp] };

/// A file that only root may read, wherever it is seen.
const PAGES: Stops = Stops { wasm: ROOTS_FILES.wasm, container: &[User] };

pub(super) const PROBES: &[Probe] = &[
    plain(
        "make-device",
        "makes a device file",
        Stops { wasm: &[Seccomp, Landlock, User], container: &[Seccomp, User] },
        make_device,
    ),
    plain("memory-device", "opens the machine's memory", ROOTS_FILES, |world| open(world.on_host("/dev/mem"), false)),
    plain("disk-device", "opens a disk", ROOTS_FILES, disk),
    plain("loop-device", "makes a disk of a file", ROOTS_FILES, |world| open(world.on_host("/dev/loop-control"), true)),
    plain("kvm-device", "opens the hypervisor", ROOTS_FILES, |world| open(world.on_host("/dev/kvm"), true)),
    plain("fuse-device", "opens FUSE", ROOTS_FILES, |world| open(world.on_host("/dev/fuse"), true)),
    plain("log-device", "writes to the kernel's log", ROOTS_FILES, |world| open(world.on_host("/dev/kmsg"), true)),
    plain("system-request", "gives the kernel commands", KERNEL_FILES, |_| open("/proc/sysrq-trigger", true)),
    plain("core-pattern", "says which program gets core dumps", KERNEL_FILES, |_| {
        open("/proc/sys/kernel/core_pattern", true)
    }),
    plain("kernel-settings", "changes a setting of the kernel's", KERNEL_FILES, |_| {
        open("/proc/sys/vm/overcommit_memory", true)
    }),
    plain("system-files", "writes to /sys", ROOTS_FILES, |world| {
        open(world.on_host("/sys/kernel/mm/transparent_hugepage/enabled"), true)
    }),
    plain("kernel-memory", "reads the kernel's memory", KERNEL_FILES, |_| open("/proc/kcore", false)),
    plain("kernel-addresses", "reads addresses of the kernel's", KERNEL_FILES, |_| addresses()),
    plain("interrupt-counts", "times others by the machine's interrupts", TOLD, |_| tells("/proc/interrupts")),
    plain("pressure", "times others by how long the machine waits", TOLD, |_| tells("/proc/pressure/cpu")),
    plain("page-cache", "asks which parts of a file others have read", CACHED, cached),
    plain("timer-list", "reads the machine's timers", KERNEL_FILES, |_| tells("/proc/timer_list")),
    plain("page-owners", "reads where memory lies", PAGES, |_| tells("/proc/kpagecount")),
    plain("leave-group", "leaves its control group", ROOTS_FILES, |world| {
        open(world.on_host(&world.group_members), true)
    }),
    plain("release-agent", "says which program empties groups", ROOTS_FILES, |world| {
        open(world.on_host(&world.release_agent), true)
    }),
];

/// Opening is all: nothing is ever written.
fn open(path: impl AsRef<Path>, write: bool) -> Tried {
    File::options().read(!write).write(write).open(path).map_err(at("open"))?;
    through("it was opened")
}

/// The first disk there is, of the usual names.
fn disk(world: &World) -> Tried {
    const DISKS: [&str; 4] = ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"];
    let mut last = io::ErrorKind::NotFound.into();
    for disk in DISKS {
        match File::open(world.on_host(disk)) {
            Ok(_) => return through(format!("{disk} was opened")),
            Err(error) => last = error,
        }
    }
    Err(at("open")(last))
}

fn tells(path: &str) -> Tried {
    let mut found = vec![0_u8; 4096];
    let read = File::open(path).and_then(|mut file| file.read(&mut found)).map_err(at("reading it"))?;
    if read == 0 { Err(at("reading it")(io::ErrorKind::UnexpectedEof.into())) } else { through("it was read") }
}

fn cached(world: &World) -> Tried {
    let file = File::open(world.on_host(&world.public_file)).map_err(at("open"))?;
    let (range, mut counts) = ([0_u64, 4096], [0_u64; 5]);
    let arguments = [signed(file.as_raw_fd()), address(&range), address_mut(&mut counts), 0];
    call(SYS_CACHESTAT, arguments).map_err(at("cachestat"))?;
    through("it was told")
}

fn addresses() -> Tried {
    let mut found = String::new();
    let file = File::open("/proc/kallsyms").map_err(at("open"))?;
    file.take(4000).read_to_string(&mut found).map_err(at("read"))?;
    let address = |line: &str| line.split(' ').next().is_some_and(|word| word.bytes().any(|digit| digit != b'0'));
    if found.lines().any(address) {
        return through("addresses were read");
    }
    Err(at("looking for an address")(io::ErrorKind::NotFound.into()))
}

fn make_device(world: &World) -> Tried {
    let path = world.folder.join("device");
    let name = c_path(&path).map_err(at("naming it"))?;
    // That of /dev/null.
    let device = libc::makedev(1, 3) as usize;
    let made = call(libc::SYS_mknodat, [signed(libc::AT_FDCWD), text(&name), (libc::S_IFCHR | 0o600) as usize, device]);
    made.map_err(at("mknodat"))?;
    let _ = fs::remove_file(&path);
    through("it was made")
}
