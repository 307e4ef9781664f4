//! Files that are not the job's.

use super::mounts::c_path;
use super::plain;
use crate::probe::{
    FILES, LEFT_OPEN, Place, Probe, ROOTS_FILES, Stop, Stops, Tried, WRITABLE, World, at, same, through,
};
use crate::syscall::{Side, call, fork, is_open, kill, signed, text, wait};
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
    plain("link-race", "exchanges a folder for a link between check and use", LINK_RACES, link_race),
    plain("change-input", "adds to its input while it is read", Stops { wasm: &[], container: &[ReadOnly] }, |world| {
        make(&if world.place == Place::Outside { world.folder.clone() } else { PathBuf::from("/in") }, world)
    }),
    plain("change-root", "makes a file at the root", WRITABLE, |world| make(Path::new("/"), world)),
    plain("left-descriptors", "finds descriptors that were left open", LEFT_OPEN, left_descriptors),
];

const LINKS: Stops = Stops { wasm: &[Seccomp, Landlock], container: &[] };
const LINK_RACES: Stops = Stops { wasm: &[Seccomp, Landlock, Root], container: &[Root] };
const LIBRARIES: Stops = Stops { wasm: &[Landlock, ReadOnly, User], container: &[Root, User] };

/// Tries to read while somebody else exchanges what is read; a few are enough.
const RACES: u32 = 20_000;
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
    if world.place.is_container() && !found.windows(5).any(|part| part == b"root:") {
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

/// Reads a file of its own, through a folder that is at some moments a link to one of the host's.
fn link_race(world: &World) -> Tried {
    let (own, other) = (world.folder.join("race"), world.folder.join("race-other"));
    let public = world.on_host(&world.public_file);
    let (Some(name), Some(above)) = (public.file_name(), public.parent()) else {
        return Err(Stop::Unclear("a planted file has no name".to_owned()));
    };
    fs::create_dir(&own).and_then(|()| fs::write(own.join(name), "its own")).map_err(at("mkdir"))?;
    let (above, own_name, other_name) = (c_path(above), c_path(&own), c_path(&other));
    let naming = at("naming it");
    let (above, own_name, other_name) =
        (above.map_err(&naming)?, own_name.map_err(&naming)?, other_name.map_err(&naming)?);
    let here = signed(libc::AT_FDCWD);
    call(libc::SYS_symlinkat, [text(&above), here, text(&other_name)]).map_err(at("symlinkat"))?;
    let exchange = [here, text(&own_name), here, text(&other_name), libc::RENAME_EXCHANGE as usize];
    let exchanger = match fork().map_err(at("fork"))? {
        Side::Child => loop {
            let _ = call(libc::SYS_renameat2, exchange);
        },
        Side::Parent(pid) => pid,
    };
    let found = (0..RACES).find(|_| fs::read(own.join(name)).is_ok_and(|found| found == world.secret.as_bytes()));
    let _ = kill(exchanger, libc::SIGKILL).and_then(|()| wait(exchanger));
    // Of a link only itself.
    [&own, &other].into_iter().for_each(|path| drop(fs::remove_dir_all(path)));
    match found {
        Some(tries) => through(format!("it was read, at try {tries}")),
        None => Err(Stop::Refused("looking for the secret", io::ErrorKind::NotFound.into())),
    }
}

fn make(folder: &Path, world: &World) -> Tried {
    let path = folder.join(format!("escape-{}", world.secret));
    File::create_new(&path).map_err(at("create"))?;
    let _ = fs::remove_file(&path);
    through("it was made")
}

fn left_descriptors(world: &World) -> Tried {
    let left: Vec<i32> = (0..MOST).filter(|fd| !world.descriptors.contains(fd)).filter(|fd| is_open(*fd)).collect();
    if left.is_empty() {
        return Err(Stop::Refused("looking for more", io::Error::from_raw_os_error(libc::EBADF)));
    }
    through(format!("open beside its own: {left:?}"))
}
