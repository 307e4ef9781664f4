//! The file tree: what is mounted where.

use super::plain;
use crate::probe::{MOUNTS, PRIVILEGE, Probe, Stops, Tried, World, at, permitted, through};
use crate::syscall::{address, call, signed, text};
use decores_sandbox::Hole::{Root, Seccomp, User};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) const PROBES: &[Probe] = &[
    plain("mount", "mounts a file system", MOUNTS, mount),
    plain("remount-writable", "makes the root writable", MOUNTS, remount),
    plain("pivot-root", "changes the root of all", MOUNTS, pivot_root),
    plain("new-mount-calls", "makes a file system with fsopen", PRIVILEGE, fsopen),
    plain("chroot", "changes its own root", PRIVILEGE, chroot),
    plain("open-by-handle", "opens a file of the host's by its handle", HANDLES, by_handle),
];

/// A handle needs a folder of the same file system.
const HANDLES: Stops = Stops { wasm: MOUNTS.wasm, container: &[Seccomp, Root, User] };

/// A path as the kernel reads it.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

fn mount(world: &World) -> Tried {
    let folder = world.folder.join("mount-point");
    let made = fs::create_dir(&folder);
    let target = c_path(&folder).map_err(at("naming a folder"))?;
    let flags = (libc::MS_NOSUID | libc::MS_NODEV) as usize;
    let tmpfs = text(c"tmpfs");
    let mounted = call(libc::SYS_mount, [tmpfs, text(&target), tmpfs, flags, 0]);
    if mounted.is_ok() {
        let _ = call(libc::SYS_umount2, [text(&target), libc::MNT_DETACH as usize]);
    }
    if made.is_ok() {
        let _ = fs::remove_dir(&folder);
    }
    mounted.map_err(at("mount"))?;
    through("a file system was mounted")
}

fn remount(_: &World) -> Tried {
    let flags = (libc::MS_REMOUNT | libc::MS_BIND) as usize;
    call(libc::SYS_mount, [0, text(c"/"), 0, flags, 0]).map_err(at("mount"))?;
    through("the root is writable")
}

fn pivot_root(_: &World) -> Tried {
    // The root in its own place is refused, but only to who may.
    let root = text(c"/");
    permitted("pivot_root", call(libc::SYS_pivot_root, [root, root]), &[libc::EBUSY, libc::EINVAL])
}

fn fsopen(_: &World) -> Tried {
    call(libc::SYS_fsopen, [text(c"tmpfs"), 1]).map_err(at("fsopen"))?;
    through("a file system was made")
}

fn chroot(_: &World) -> Tried {
    call(libc::SYS_chroot, [text(c"/")]).map_err(at("chroot"))?;
    through("the root was changed")
}

fn by_handle(world: &World) -> Tried {
    let Some((kind, bytes)) = &world.handle else {
        return Err(crate::probe::Stop::Refused("making a handle", io::ErrorKind::Unsupported.into()));
    };
    let mut handle = [0_u8; 136];
    let parts = [&(bytes.len() as u32).to_ne_bytes()[..], &kind.to_ne_bytes(), bytes];
    handle.iter_mut().zip(parts.concat()).for_each(|(place, byte)| *place = byte);
    let library = world.on_host(&world.library);
    let beside =
        fs::File::open(library.parent().unwrap_or(Path::new("/"))).map_err(at("opening the folder of libraries"))?;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let opened = call(libc::SYS_open_by_handle_at, [signed(beside.as_raw_fd()), address(&handle), flags]);
    opened.map_err(at("open_by_handle_at"))?;
    through("a file outside was opened")
}
