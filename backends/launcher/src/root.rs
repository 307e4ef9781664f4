//! The engine's own file tree: libraries, the engine, an empty scratch, and nothing else.
//!
//! No `/proc`, no `/dev`, no `/etc`, no programs. Everything but the scratch is read-only.

use crate::syscall::{mount, pivot_here, restrict_mount};
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What the dynamic loader reads; whichever of them exist here.
const LIBRARIES: [&str; 5] = ["usr/lib", "usr/lib64", "lib", "lib64", "nix/store"];
/// Where the engine lies inside.
pub(crate) const ENGINE: &str = "/engine";
/// Where the scratch lies inside.
pub(crate) const SCRATCH: &str = "/scratch";
/// The same, as an argument of the engine's.
pub(crate) const SCRATCH_ARGUMENT: &CStr = c"/scratch";

/// One jail.
pub(crate) struct Root<'a> {
    /// Marks its mounts, so that they can be looked for.
    pub(crate) name: &'a str,
    /// The host folder it is mounted on, in its own namespace only.
    pub(crate) folder: &'a Path,
    /// The engine's program.
    pub(crate) engine: &'a Path,
    /// Size of the scratch, in bytes.
    pub(crate) scratch_bytes: u64,
    /// Whether the scratch must never be swapped.
    pub(crate) noswap: bool,
    /// Who owns the scratch.
    pub(crate) uid: u32,
    /// The group of the scratch.
    pub(crate) gid: u32,
}

/// The mount source that marks a jail's mounts.
pub(crate) fn mark(name: &str) -> String {
    format!("decores:{name}")
}

impl Root<'_> {
    /// Builds the tree and moves in; must run in a mount namespace of its own.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(crate) fn enter(&self) -> Result<(), (&'static str, io::Error)> {
        let at = |step| move |e| (step, e);
        let mark = PathBuf::from(mark(self.name));
        let hardened = libc::MS_NOSUID | libc::MS_NODEV;
        // Nothing mounted here may travel back to the host.
        mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, "").map_err(at("making mounts private"))?;
        mount(Some(&mark), self.folder, Some(c"tmpfs"), hardened, "size=1m,nr_inodes=128,mode=0755")
            .map_err(at("mounting the new root"))?;
        std::env::set_current_dir(self.folder).map_err(at("entering the new root"))?;
        LIBRARIES.iter().try_for_each(|path| self.library(path)).map_err(at("mounting libraries"))?;
        self.program().map_err(at("mounting the engine"))?;
        self.scratch(&mark).map_err(at("mounting the scratch"))?;
        pivot_here().map_err(at("changing the root"))?;
        restrict_mount(Path::new("/"), libc::MOUNT_ATTR_RDONLY, false).map_err(at("making the root read-only"))
    }

    /// A library folder: the same link where it is one, else a read-only view.
    fn library(&self, path: &str) -> io::Result<()> {
        let outside = Path::new("/").join(path);
        let Ok(found) = outside.symlink_metadata() else { return Ok(()) };
        let inside = self.folder.join(path);
        if let Some(above) = inside.parent() {
            fs::create_dir_all(above)?;
        }
        if found.is_symlink() {
            return symlink(fs::read_link(&outside)?, inside);
        }
        fs::create_dir(&inside)?;
        mount(Some(&outside), &inside, None, libc::MS_BIND | libc::MS_REC, "")?;
        restrict_mount(&inside, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, true)
    }

    fn program(&self) -> io::Result<()> {
        let inside = self.folder.join(ENGINE.trim_start_matches('/'));
        fs::write(&inside, "")?;
        mount(Some(self.engine), &inside, None, libc::MS_BIND, "")?;
        restrict_mount(&inside, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, false)
    }

    fn scratch(&self, mark: &Path) -> io::Result<()> {
        let inside = self.folder.join(SCRATCH.trim_start_matches('/'));
        fs::create_dir(&inside)?;
        let mut options = format!("size={},mode=0700,uid={},gid={}", self.scratch_bytes, self.uid, self.gid);
        if self.noswap {
            options.push_str(",noswap");
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        mount(Some(mark), &inside, Some(c"tmpfs"), flags, &options)
    }
}
