//! A process's own file tree: libraries, its program, a scratch, and nothing else.
//!
//! No `/proc`, no `/dev`, no `/etc`, no other programs. Everything but the scratch is read-only.

use crate::syscall::{clone_mount, mount, pivot_here, restrict_mount};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Bytes of a scratch in memory for each file that it may hold: half a page.
const BYTES_PER_FILE: u64 = 2048;
/// What the dynamic loader reads; whichever of them exist here.
const LIBRARIES: [&str; 5] = ["usr/lib", "usr/lib64", "lib", "lib64", "nix/store"];
/// Where the program lies inside.
pub(crate) const PROGRAM: &str = "/engine";
/// Where the scratch lies inside.
pub(crate) const SCRATCH: &str = "/scratch";
/// The same, as an argument of the program's.
pub(crate) const SCRATCH_ARGUMENT: &CStr = c"/scratch";
/// What the mount of an encrypted scratch is, as `mountinfo` shows it.
pub(crate) const ENCRYPTED: &CStr = c"fuse.gocryptfs";

/// One tree.
pub(crate) struct Root<'a> {
    /// Marks its mounts, so that they can be looked for.
    pub(crate) name: &'a str,
    /// The host folder it is mounted on, in its own namespace only.
    pub(crate) folder: &'a Path,
    /// The program.
    pub(crate) program: &'a Path,
    /// What lies at `/scratch`.
    pub(crate) scratch: Scratch<'a>,
    /// Whether all else stays as writable as its owners let it.
    pub(crate) writable: bool,
    /// Who owns the scratch.
    pub(crate) uid: u32,
    /// The group of the scratch.
    pub(crate) gid: u32,
}

/// What lies at `/scratch`.
#[derive(Clone, Copy)]
pub(crate) enum Scratch<'a> {
    /// Memory.
    Tmpfs { bytes: u64, noswap: bool },
    /// Files that a server behind a descriptor encrypts.
    Encrypted,
    /// A folder of the host's: where that server keeps the ciphertext.
    Folder(&'a Path),
}

/// The mount source that marks a jail's mounts.
pub(crate) fn mark(name: &str) -> String {
    format!("decores:{name}")
}

/// The scratch of this tree as a mount that is attached nowhere; programs may be run from it there.
///
/// # Errors
/// If the kernel makes none.
pub(crate) fn share_scratch() -> io::Result<OwnedFd> {
    clone_mount(Path::new(SCRATCH), libc::MOUNT_ATTR_NOEXEC)
}

impl Root<'_> {
    /// Builds the tree and moves in; must run in a mount namespace of its own. Gives the descriptor that the server of
    /// an encrypted scratch is to have.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(crate) fn enter(&self) -> Result<Option<File>, (&'static str, io::Error)> {
        let at = |step| move |e| (step, e);
        let mark = PathBuf::from(mark(self.name));
        let hardened = libc::MS_NOSUID | libc::MS_NODEV;
        // Nothing mounted here may travel back to the host.
        mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, "").map_err(at("making mounts private"))?;
        mount(Some(&mark), self.folder, Some(c"tmpfs"), hardened, "size=1m,nr_inodes=128,mode=0755")
            .map_err(at("mounting the new root"))?;
        std::env::set_current_dir(self.folder).map_err(at("entering the new root"))?;
        LIBRARIES.iter().try_for_each(|path| self.library(path)).map_err(at("mounting libraries"))?;
        self.program().map_err(at("mounting the program"))?;
        let server = self.scratch(&mark).map_err(at("mounting the scratch"))?;
        pivot_here().map_err(at("changing the root"))?;
        restrict_mount(Path::new("/"), self.read_only(), false).map_err(at("making the root read-only"))?;
        Ok(server)
    }

    fn read_only(&self) -> u64 {
        if self.writable { 0 } else { libc::MOUNT_ATTR_RDONLY }
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
        restrict_mount(&inside, self.read_only() | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, true)
    }

    fn program(&self) -> io::Result<()> {
        let inside = self.folder.join(PROGRAM.trim_start_matches('/'));
        fs::write(&inside, "")?;
        mount(Some(self.program), &inside, None, libc::MS_BIND, "")?;
        restrict_mount(&inside, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, false)
    }

    /// The one device that gocryptfs opens before all else.
    fn null(&self) -> io::Result<()> {
        fs::create_dir(self.folder.join("dev"))?;
        let inside = self.folder.join("dev/null");
        fs::write(&inside, "")?;
        mount(Some(Path::new("/dev/null")), &inside, None, libc::MS_BIND, "")?;
        restrict_mount(&inside, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC, false)
    }

    fn scratch(&self, mark: &Path) -> io::Result<Option<File>> {
        let inside = self.folder.join(SCRATCH.trim_start_matches('/'));
        fs::create_dir(&inside)?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let (uid, gid) = (self.uid, self.gid);
        match self.scratch {
            Scratch::Tmpfs { bytes, noswap } => {
                let noswap = if noswap { ",noswap" } else { "" };
                // A file without content takes memory too, which no size counts.
                let files = bytes / BYTES_PER_FILE;
                let options = format!("size={bytes},nr_inodes={files},mode=0700,uid={uid},gid={gid}{noswap}");
                mount(Some(mark), &inside, Some(c"tmpfs"), flags, &options)?;
                Ok(None)
            }
            Scratch::Encrypted => {
                let server = File::options().read(true).write(true).open("/dev/fuse")?;
                // Nobody but this user gets in, root neither.
                let options = format!("fd={},rootmode=40000,user_id={uid},group_id={gid}", server.as_raw_fd());
                mount(Some(mark), &inside, Some(ENCRYPTED), flags, &options)?;
                Ok(Some(server))
            }
            Scratch::Folder(folder) => {
                mount(Some(folder), &inside, None, libc::MS_BIND, "")?;
                let held = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
                restrict_mount(&inside, held, false)?;
                self.null()?;
                Ok(None)
            }
        }
    }
}
