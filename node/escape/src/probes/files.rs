//! Files that are not the job's.

use super::mounts::c_path;
use super::plain;
use crate::probe::{
    FILES, LEFT_OPEN, Place, Probe, ROOTS_FILES, Stop, Stops, Tried, WRITABLE, World, at, same, through,
};
use crate::syscall::{call, signed, text};
use decores_sandbox::Hole::{Landlock, ReadOnly, Root, Seccomp, User};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub(super) const PROBES: &[Probe] = &[
    plain("roots-file", "reads a file that only root may read", ROOTS_FILES, |world| {
        read(world, &world.on_host(&world.root_file))
    }),
    plain("public-file", "reads a file of the host's", FILES, |world| read(world, &world.on_host(&world.public_file))),
    plain("public-file-write", "writes to a file of the host's", FILES, |world| {
        write(&world.on_host(&world.public_file))
    }),
    plain("node-folder", "reads a file of the node's", ROOTS_FILES, |world| {
        read(world, &world.on_host(&world.home_file))
    }),
    plain("shared-memory-file", "reads what another left in shared memory", FILES, |world| {
        read(world, &world.on_host(&world.shared_file))
    }),
    plain("password-file", "reads the host's passwords", ROOTS_FILES, shadow),
    plain("dots", "climbs out of its folder", FILES, dots),
    plain("link", "makes a link to a file of the host's", LINKS, link),
    plain("change-library", "changes a library that others use", LIBRARIES, |world| {
        write(&world.on_host(&world.library))
    }),
    plain("change-root", "makes a file at the root", WRITABLE, change_root),
    plain("left-descriptors", "finds descriptors that were left open", LEFT_OPEN, left_descriptors),
];

const LINKS: Stops = Stops { wasm: &[Seccomp, Landlock], container: &[] };
const LIBRARIES: Stops = Stops { wasm: &[Landlock, ReadOnly, User], container: &[Root, User] };

/// More descriptors than any process here has.
const MOST: i32 = 4096;

fn read(world: &World, path: &Path) -> Tried {
    same(&fs::read(path).map_err(at("open"))?, world, "it")
}

/// Nothing is written: that it opens is enough.
fn write(path: &Path) -> Tried {
    File::options().write(true).open(path).map_err(at("open"))?;
    through("it was opened for writing")
}

/// Its own has no passwords in it.
fn shadow(world: &World) -> Tried {
    let found = fs::read(world.on_host("/etc/shadow")).map_err(at("open"))?;
    if world.place == Place::Container && !found.windows(5).any(|part| part == b"root:") {
        return Err(Stop::Refused("looking for root", io::ErrorKind::NotFound.into()));
    }
    through("it was read")
}

fn dots(world: &World) -> Tried {
    let up: PathBuf = std::iter::repeat_n("..", 40).collect();
    let file = world.on_host(&world.public_file);
    read(world, &world.folder.join(up).join(file.strip_prefix("/").unwrap_or(&file)))
}

fn link(world: &World) -> Tried {
    let path = world.folder.join("link");
    let (target, name) = (c_path(&world.public_file), c_path(&path));
    let (target, name) = (target.map_err(at("naming it"))?, name.map_err(at("naming it"))?);
    call(libc::SYS_symlinkat, [text(&target), signed(libc::AT_FDCWD), text(&name)]).map_err(at("symlinkat"))?;
    let _ = fs::remove_file(&path);
    through("it was made")
}

fn change_root(world: &World) -> Tried {
    let path = Path::new("/").join(format!("escape-{}", world.secret));
    File::create_new(&path).map_err(at("create"))?;
    let _ = fs::remove_file(&path);
    through("it was made")
}

fn left_descriptors(world: &World) -> Tried {
    let is_open = |fd: &i32| call(libc::SYS_fcntl, [signed(*fd), libc::F_GETFD as usize, 0]).is_ok();
    let left: Vec<i32> = (0..MOST).filter(|fd| !world.descriptors.contains(fd)).filter(is_open).collect();
    if left.is_empty() {
        return Err(Stop::Refused("looking for more", io::Error::from_raw_os_error(libc::EBADF)));
    }
    through(format!("open beside its own: {left:?}"))
}
