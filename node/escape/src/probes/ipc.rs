//! Memory and messages that processes share by name.

use super::plain;
use crate::probe::{IPC, Probe, Stops, Tried, World, at, same, through};
use crate::syscall::{address_mut, call, read_mapped, signed, text};
use decores_sandbox::Hole::{IpcNamespace, Landlock, Seccomp};
use std::ffi::CString;

pub(super) const PROBES: &[Probe] = &[
    plain("shared-segment", "reads a System V segment of another's", IPC, segment),
    plain("message-queue", "opens a System V queue of another's", IPC, queue),
    plain(
        "posix-queue",
        "opens a POSIX queue of another's",
        Stops { wasm: &[Seccomp, Landlock, IpcNamespace], container: IPC.container },
        posix_queue,
    ),
    plain("semaphores", "opens System V semaphores of another's", IPC, semaphores),
];

fn segment(world: &World) -> Tried {
    let segment = call(libc::SYS_shmget, [signed(world.ipc_key), 0, 0]).map_err(at("shmget"))?;
    let place = call(libc::SYS_shmat, [segment, 0, libc::SHM_RDONLY as usize]).map_err(at("shmat"))?;
    same(&read_mapped(place, world.secret.len()), world, "the segment")
}

fn queue(world: &World) -> Tried {
    let queue = call(libc::SYS_msgget, [signed(world.ipc_key), 0]).map_err(at("msgget"))?;
    let mut status = [0_u64; 32];
    call(libc::SYS_msgctl, [queue, libc::IPC_STAT as usize, address_mut(&mut status)]).map_err(at("msgctl"))?;
    through("the queue was opened")
}

fn posix_queue(world: &World) -> Tried {
    let name = CString::new(world.queue_name.as_str()).map_err(std::io::Error::from).map_err(at("naming it"))?;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    call(libc::SYS_mq_open, [text(&name), flags, 0, 0]).map_err(at("mq_open"))?;
    through("the queue was opened")
}

fn semaphores(world: &World) -> Tried {
    call(libc::SYS_semget, [signed(world.ipc_key), 0, 0]).map_err(at("semget"))?;
    through("the semaphores were opened")
}
