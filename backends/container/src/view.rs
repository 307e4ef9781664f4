//! What the helper itself still sees once it deals with an image: next to nothing.
//!
//! A hostile engine may change the scratch while a runtime works with it, and a runtime may be made to follow a link or
//! mount the wrong folder. So the helper first moves to a file tree of its own, where such a race finds nothing:
//!
//! - `/proc` of the helper's own process namespace, in which there is only the helper and the container;
//! - `/dev` with six devices: `null`, `zero`, `full`, `random`, `urandom`, `tty`;
//! - `/bundle`, the runtime's folder, and `/scratch/{rootfs,in,out,tmp}`, each the very folder that was looked at,
//!   mounted by its descriptor; nosuid and nodev all of them, `in` and `out` noexec too;
//! - `/sys/fs/cgroup`, an empty folder in memory: a runtime that looks for control groups finds none to make, and
//!   leaves the container in the one it was started in, which the launcher has limited;
//! - for `runc` and `runsc`, which are programs, the program and the machine's library folders, read-only;
//! - for `runc`, which insists on a hierarchy of control groups, the machine's, read-only: it goes on without one that
//!   it cannot write to, if told that it is not root.
//!
//! Kata is the exception: its runtime starts a virtual machine and needs the machine's devices, kernel, image and
//! configuration for that. It sees the host's file tree, and the scratch's folders below [`FOLDER`].

use crate::stop::{Stop, at};
use crate::syscall;
use decores_sandbox::container::{MOUNT_POINTS, Runtime};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the tree is put together: a folder that every machine has, and that is covered in this namespace only.
pub(crate) const FOLDER: &str = "/tmp";
/// Where a planted hole shows the host's file tree in a container.
const HOST: &str = "/sys";
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// What the dynamic loader reads; whichever of them exist here.
const LIBRARIES: [&str; 5] = ["usr/lib", "usr/lib64", "lib", "lib64", "nix/store"];
const OPTIONS: &str = "size=16m,nr_inodes=4096,mode=0755";
const RESOLVE: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;

/// The folders a runtime works with, as the helper sees them.
pub(crate) struct View {
    root: PathBuf,
    runtime: Runtime,
    host: Option<OwnedFd>,
}

/// What goes into a view beside the folders that all have.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) runtime: Runtime,
    /// The runtime's program, where it is one.
    pub(crate) program: Option<&'a Path>,
    /// Whether the host's own file tree is to be seen: a planted hole.
    pub(crate) host: bool,
}

impl View {
    /// Moves this process, which must have a mount namespace of its own, to its new file tree.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn enter(wanted: Wanted<'_>) -> Result<Self, Stop> {
        let root = Path::new(FOLDER);
        let hardened = libc::MS_NOSUID | libc::MS_NOEXEC;
        // Nothing mounted here may travel back to the host.
        syscall::mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, "")
            .map_err(at("making mounts private"))?;
        let host = wanted.host.then(|| syscall::open_whole_tree(Path::new("/"))).transpose();
        let host = host.map_err(at("copying the host's file tree"))?;
        let bare = matches!(wanted.runtime, Runtime::Kata);
        let own = if bare { hardened } else { libc::MS_NOSUID };
        syscall::mount(Some(Path::new("decores")), root, Some(c"tmpfs"), own, OPTIONS)
            .map_err(at("mounting a file tree of its own"))?;
        for folder in ["proc", "dev", "bundle", "sys/fs/cgroup", "scratch", "all", "tmp"] {
            fs::create_dir_all(root.join(folder)).map_err(at("making folders"))?;
        }
        if bare {
            // The process namespace is a new one, and the old `/proc` shows another.
            syscall::mount(None, Path::new("/proc"), Some(c"proc"), hardened | libc::MS_NODEV, "")
                .map_err(at("mounting /proc"))?;
            return Ok(Self { root: root.to_owned(), runtime: wanted.runtime, host: None });
        }
        syscall::mount(None, &root.join("proc"), Some(c"proc"), hardened | libc::MS_NODEV, "")
            .map_err(at("mounting /proc"))?;
        DEVICES.iter().try_for_each(|name| device(root, name)).map_err(at("mounting devices"))?;
        if let Some(program) = wanted.program {
            LIBRARIES.iter().try_for_each(|path| library(root, path)).map_err(at("mounting libraries"))?;
            file(root, program).map_err(at("mounting the runtime's program"))?;
        }
        if matches!(wanted.runtime, Runtime::Runc) {
            read_only(Path::new("/sys/fs/cgroup"), &root.join("sys/fs/cgroup"))
                .map_err(at("mounting the control groups"))?;
        }
        std::env::set_current_dir(root).map_err(at("entering its own file tree"))?;
        syscall::pivot_here().map_err(at("leaving the host's file tree"))?;
        Ok(Self { root: PathBuf::from("/"), runtime: wanted.runtime, host })
    }

    /// The runtime's folder.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }

    /// A folder of the scratch's.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.root.join("scratch").join(name)
    }

    /// Attaches the host's file tree, where it was wanted, in a container that is made. Not before: a runtime that found
    /// control groups there would make some.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) fn show_host(&self, pid: i32) -> Result<(), Stop> {
        let Some(host) = &self.host else { return Ok(()) };
        syscall::attach_in(pid, host.as_fd(), Path::new(HOST)).map_err(at("attaching the host's file tree"))
    }

    /// Mounts the folders of a scratch, which is a mount that is attached nowhere, and looks at what the image must have.
    ///
    /// # Errors
    /// [`Stop::Refused`] if a folder is not there or is none, else the step that failed.
    pub(crate) fn mount_scratch(&self, scratch: &OwnedFd) -> Result<(), Stop> {
        // Kernels before 6.15 make new mounts only of what is attached.
        let all = self.root.join("all");
        syscall::attach(scratch.as_fd(), &all).map_err(at("attaching the scratch"))?;
        let kept = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        for (name, runs) in [("rootfs", true), ("in", false), ("out", false), ("tmp", true)] {
            let folder = real_folder(scratch, Path::new(name))?;
            let mount = syscall::open_tree(folder.as_fd()).map_err(at("mounting a folder of the scratch"))?;
            let (set, clear) = match (name, self.runtime) {
                // It would make it read-only by itself, in a way that the kernel refuses for mounts like these.
                ("rootfs", Runtime::Runsc) => (kept | libc::MOUNT_ATTR_RDONLY, libc::MOUNT_ATTR_NOEXEC),
                _ if runs => (kept, libc::MOUNT_ATTR_NOEXEC),
                _ => (kept | libc::MOUNT_ATTR_NOEXEC, 0),
            };
            syscall::change_mount(mount.as_fd(), set, clear, false).map_err(at("setting what a mount allows"))?;
            let inside = self.scratch(name);
            fs::create_dir(&inside).map_err(at("making folders"))?;
            syscall::attach(mount.as_fd(), &inside).map_err(at("attaching a folder of the scratch"))?;
            if name == "rootfs" {
                MOUNT_POINTS.iter().try_for_each(|point| real_folder(&folder, Path::new(point)).map(drop))?;
            }
        }
        syscall::unmount(&all).map_err(at("letting the scratch go"))
    }
}

/// The folder of this name, if it is one: no link leads there.
fn real_folder(below: &OwnedFd, path: &Path) -> Result<OwnedFd, Stop> {
    syscall::open_folder(below.as_fd(), path, RESOLVE).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV) => {
            Stop::refused(format!("`{}` is not a folder of the image's or the scratch's", path.display()))
        }
        _ => Stop::failed("opening a folder of the scratch", e),
    })
}

fn device(root: &Path, name: &str) -> io::Result<()> {
    let inside = root.join("dev").join(name);
    fs::write(&inside, "")?;
    syscall::mount(Some(&Path::new("/dev").join(name)), &inside, None, libc::MS_BIND, "")
}

/// A library folder: the same link where it is one, else a read-only view.
fn library(root: &Path, path: &str) -> io::Result<()> {
    let outside = Path::new("/").join(path);
    let Ok(found) = outside.symlink_metadata() else { return Ok(()) };
    let inside = root.join(path);
    if let Some(above) = inside.parent() {
        fs::create_dir_all(above)?;
    }
    if found.is_symlink() {
        return symlink(fs::read_link(&outside)?, inside);
    }
    fs::create_dir(&inside)?;
    read_only(&outside, &inside)
}

/// A program at its own path.
fn file(root: &Path, path: &Path) -> io::Result<()> {
    let inside = root.join(path.strip_prefix("/").unwrap_or(path));
    if let Some(above) = inside.parent() {
        fs::create_dir_all(above)?;
    }
    fs::write(&inside, "")?;
    read_only(path, &inside)
}

/// A read-only view of a file or folder and all that is mounted below.
pub(crate) fn read_only(outside: &Path, inside: &Path) -> io::Result<()> {
    syscall::mount(Some(outside), inside, None, libc::MS_BIND | libc::MS_REC, "")?;
    let held = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    syscall::change_mount(syscall::open_place(inside)?.as_fd(), held, 0, true)
}
