//! What is the machine's and not endless. Each probe goes a little beyond what is promised and no further.

use super::plain;
use crate::probe::{Kind, LIMITS, MEMORY, Probe, SCRATCH, Stop, Stops, TASKS, Tried, World, at, through};
use crate::syscall::{Side, call, fill_memory, fork, kill, readable, signed, wait};
use std::fs::{self, File};

pub(super) const PROBES: &[Probe] = &[
    Probe { name: "fork-bomb", tries: "has more tasks than it may", stops: TASKS, kind: Kind::Alone, run: forks },
    Probe { name: "memory-bomb", tries: "has more memory than it may", stops: MEMORY, kind: Kind::Alone, run: memory },
    plain("descriptor-bomb", "has more descriptors than it may", LIMITS, descriptors),
    Probe {
        name: "fill-scratch",
        tries: "writes more than its scratch holds",
        stops: SCRATCH,
        kind: Kind::Alone,
        run: fill,
    },
    Probe {
        name: "fill-inodes",
        tries: "makes more files than its scratch holds",
        stops: SCRATCH,
        kind: Kind::Alone,
        run: inodes,
    },
    Probe {
        name: "huge-file",
        tries: "makes a file larger than any may be",
        stops: LIMITS,
        kind: Kind::Signalled(libc::SIGXFSZ),
        run: huge_file,
    },
    Probe {
        name: "log-flood",
        tries: "writes more log than there may be",
        stops: Stops { wasm: LIMITS.wasm, container: &[] },
        kind: Kind::Signalled(libc::SIGXFSZ),
        run: log_flood,
    },
    Probe {
        name: "core-dump",
        tries: "leaves its memory on disk as it ends",
        stops: LIMITS,
        kind: Kind::Dumped,
        run: |_| std::process::abort(),
    },
];

/// How far beyond a promise a probe goes.
const BEYOND: u32 = 16;
const CHUNK: usize = 4 << 20;
/// An address that no file here ever reaches.
const FAR: i64 = 1 << 36;

fn forks(world: &World) -> Tried {
    let (wanted, mut children) = (world.tasks + BEYOND, Vec::new());
    let mut result = through(format!("{wanted} tasks lived at once"));
    for _ in 0..wanted {
        match fork() {
            Ok(Side::Child) => loop {
                // Until it is killed.
                let _ = readable(-1, -1);
            },
            Ok(Side::Parent(pid)) => children.push(pid),
            Err(error) => {
                result = Err(Stop::Refused("fork", error));
                break;
            }
        }
    }
    for pid in children {
        let _ = kill(pid, libc::SIGKILL);
        let _ = wait(pid);
    }
    result
}

fn memory(world: &World) -> Tried {
    let wanted = usize::try_from(world.memory_bytes.saturating_mul(2)).unwrap_or(usize::MAX);
    for _ in 0..wanted / CHUNK {
        fill_memory(CHUNK).map_err(at("mmap"))?;
    }
    through(format!("{} MiB were filled", wanted >> 20))
}

fn descriptors(world: &World) -> Tried {
    let wanted = world.open_files + 8 * BEYOND;
    for _ in 0..wanted {
        call(libc::SYS_fcntl, [0, libc::F_DUPFD_CLOEXEC as usize, 0]).map_err(at("fcntl"))?;
    }
    through(format!("{wanted} were open at once"))
}

fn fill(world: &World) -> Tried {
    let wanted = world.scratch_bytes + world.scratch_bytes / 4;
    let chunk = vec![0xA5; 1 << 20];
    // None so large that the limit of a file ends it.
    let paths: Vec<_> = (0..wanted >> 20).map(|number| world.folder.join(format!("fill-{number}"))).collect();
    let written = paths.iter().try_for_each(|path| fs::write(path, &chunk));
    paths.iter().for_each(|path| drop(fs::remove_file(path)));
    written.map_err(at("write"))?;
    through(format!("{} MiB were written", wanted >> 20))
}

fn inodes(world: &World) -> Tried {
    // More than one for each half page.
    let wanted = world.scratch_bytes / 1024;
    let folder = world.folder.join("inodes");
    fs::create_dir(&folder).map_err(at("mkdir"))?;
    let (mut made, mut result) = (0, through(format!("{wanted} files were made")));
    while made < wanted {
        match File::create(folder.join(made.to_string())) {
            Ok(_) => made += 1,
            Err(error) => {
                result = Err(Stop::Refused("create", error));
                break;
            }
        }
    }
    (0..made).for_each(|number| drop(fs::remove_file(folder.join(number.to_string()))));
    let _ = fs::remove_dir(&folder);
    result
}

fn huge_file(world: &World) -> Tried {
    let path = world.folder.join("huge");
    let file = File::create(&path).map_err(at("create"))?;
    let grown = file.set_len(FAR.unsigned_abs());
    let _ = fs::remove_file(&path);
    grown.map_err(at("ftruncate"))?;
    through("it was made, without its content")
}

fn log_flood(world: &World) -> Tried {
    let log = world.log_descriptor.ok_or_else(|| Stop::Unclear("there is no log".to_owned()))?;
    let byte = [b'x'];
    let arguments = [signed(log), crate::syscall::address(&byte), 1, FAR as usize];
    call(libc::SYS_pwrite64, arguments).map_err(at("pwrite64"))?;
    through("its log is larger than any may be")
}
