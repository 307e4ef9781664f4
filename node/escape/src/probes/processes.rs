//! Other processes: the node, its launcher, another job.

use super::plain;
use crate::probe::{
    FILES, PROCESS_FILES, PROCESSES, Place, Probe, SIGNALS, Stops, TRACING, Tried, World, at, same, through,
};
use crate::stage::NEIGHBOUR_MEMORY;
use crate::syscall::{address, address_mut, call, kill, signed};
use decores_sandbox::Hole::PidNamespace;
use std::fs::{self, File};
use std::io;

pub(super) const PROBES: &[Probe] = &[
    plain("trace-neighbour", "traces another job's process", TRACING, trace),
    plain("read-neighbour", "reads another job's memory", TRACING, read_memory),
    plain("take-descriptor", "takes a descriptor of another job's", TRACING, take_descriptor),
    plain("join-namespaces", "enters the namespaces of the node", TRACING, join_namespaces),
    plain("watch-neighbour", "counts events of another job's process", PROCESSES, watch),
    plain("limit-node", "sets limits of the node's process", PROCESSES, limits),
    plain("slow-node", "sets the node's priority", PROCESSES, priority),
    plain("signal-node", "sends the node a signal", SIGNALS, |world| signal(world.node)),
    plain("signal-launcher", "sends the launcher a signal", SIGNALS, |world| signal(world.launcher)),
    plain("signal-neighbour", "sends another job a signal", SIGNALS, |world| signal(world.neighbour)),
    plain("signal-all", "sends everybody a signal", SIGNALS, |_| signal(-1)),
    plain("neighbour-memory-file", "reads another job's memory through /proc", PROCESS_FILES, memory_file),
    plain("neighbour-scratch", "reads another job's scratch through /proc", PROCESS_FILES, scratch),
    plain("node-environment", "reads the node's environment", PROCESS_FILES, environment),
    plain("neighbour-times", "times another job by its process", SEEN, |world| {
        fs::read(format!("/proc/{}/stat", world.neighbour)).map_err(at("opening it"))?;
        through("its times were read")
    }),
    plain("process-list", "sees processes of the host's", SEEN, list),
];

const SEEN: Stops = Stops { wasm: FILES.wasm, container: &[PidNamespace] };
const PTRACE_SEIZE: usize = 0x4206;

fn trace(world: &World) -> Tried {
    call(libc::SYS_ptrace, [PTRACE_SEIZE, signed(world.neighbour), 0, 0]).map_err(at("ptrace"))?;
    through("the process is traced")
}

fn read_memory(world: &World) -> Tried {
    let mut found = vec![0_u8; world.secret.len()];
    let local = [address_mut(found.as_mut_slice()), found.len()];
    let remote = [NEIGHBOUR_MEMORY, found.len()];
    let arguments = [signed(world.neighbour), address(&local), 1, address(&remote), 1, 0];
    match call(libc::SYS_process_vm_readv, arguments) {
        // Of a process that has nothing there: who may not look is told so first.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => through("its memory may be read"),
        read => {
            read.map_err(at("process_vm_readv"))?;
            same(&found, world, "another job's memory")
        }
    }
}

fn open_process(pid: i32) -> std::io::Result<usize> {
    call(libc::SYS_pidfd_open, [signed(pid), 0])
}

fn take_descriptor(world: &World) -> Tried {
    let process = open_process(world.neighbour).map_err(at("pidfd_open"))?;
    call(libc::SYS_pidfd_getfd, [process, 0, 0]).map_err(at("pidfd_getfd"))?;
    through("a descriptor was taken")
}

fn join_namespaces(world: &World) -> Tried {
    let process = open_process(world.node).map_err(at("pidfd_open"))?;
    call(libc::SYS_setns, [process, libc::CLONE_NEWNET as usize]).map_err(at("setns"))?;
    through("the network namespace of the node was entered")
}

fn watch(world: &World) -> Tried {
    let attributes = super::kernel::software_clock();
    let arguments = [address(&attributes), signed(world.neighbour), signed(-1), signed(-1), 0];
    call(libc::SYS_perf_event_open, arguments).map_err(at("perf_event_open"))?;
    through("events are counted")
}

fn limits(world: &World) -> Tried {
    let mut now = [0_u64; 2];
    let asked = [signed(world.node), libc::RLIMIT_NOFILE as usize, 0, address_mut(&mut now)];
    call(libc::SYS_prlimit64, asked).map_err(at("prlimit64"))?;
    // The same again: nothing changes.
    let set = [signed(world.node), libc::RLIMIT_NOFILE as usize, address(&now), 0];
    call(libc::SYS_prlimit64, set).map_err(at("prlimit64"))?;
    through("its limits were set")
}

fn priority(world: &World) -> Tried {
    let whom = signed(world.node);
    // The call answers 20 less the value.
    let now = call(libc::SYS_getpriority, [0, whom]).map_err(at("getpriority"))?;
    let value = 20 - i32::try_from(now).unwrap_or(20);
    call(libc::SYS_setpriority, [0, whom, signed(value)]).map_err(at("setpriority"))?;
    through("its priority was set")
}

/// Signal 0 asks for the permission and is never delivered.
fn signal(whom: i32) -> Tried {
    kill(whom, 0).map_err(at("kill"))?;
    through("it can be signalled")
}

fn memory_file(world: &World) -> Tried {
    // Who may not read it may not open it.
    File::open(format!("/proc/{}/mem", world.neighbour)).map_err(at("opening its memory"))?;
    through("another job's memory may be read")
}

fn scratch(world: &World) -> Tried {
    let root = format!("/proc/{}/root", world.neighbour);
    fs::read_dir(&root).map_err(at("opening its root"))?;
    if world.place == Place::Container {
        // Its nearest neighbour there is the helper, which has no scratch.
        return through("another's root was opened");
    }
    let path = format!("{root}{}", world.neighbour_file.display());
    same(&fs::read(path).map_err(at("opening its scratch"))?, world, "another job's scratch")
}

fn environment(world: &World) -> Tried {
    let found = fs::read(format!("/proc/{}/environ", world.node)).map_err(at("opening its environment"))?;
    if found.is_empty() { Err(at("reading it")(io::ErrorKind::UnexpectedEof.into())) } else { through("it was read") }
}

fn list(world: &World) -> Tried {
    let found = fs::read(format!("/proc/{}/cmdline", world.node)).map_err(at("opening the process"))?;
    if found.is_empty() { Err(at("reading it")(io::ErrorKind::UnexpectedEof.into())) } else { through("it was seen") }
}
