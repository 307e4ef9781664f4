//! Folders below the image's root. Every path is resolved by the kernel inside that root: what leads out of it leads
//! back to its top, and the last part of a path is never followed.

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, fchmod, fstat, futimens, linkat,
    mkdirat, openat, openat2, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);

/// A folder that names are looked up in, one at a time.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// Tells it from all others.
    pub(crate) inode: u64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Folder,
    File,
    SymLink,
    Other,
}

impl Folder {
    /// The top of an image, from outside of it.
    pub(crate) fn top(path: &std::path::Path) -> Result<Self, Errno> {
        Self::of(rustix::fs::open(path, FOLDER | OFlags::NOFOLLOW, Mode::empty())?)
    }

    fn of(fd: OwnedFd) -> Result<Self, Errno> {
        let inode = fstat(&fd)?.st_ino;
        Ok(Self { fd, inode })
    }

    /// A folder that a path leads to; this one must be the top.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Self, Errno> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        Self::of(openat2(&self.fd, path, FOLDER, Mode::empty(), RESOLVE)?)
    }

    /// Opens the plain file that a path leads to; this one must be the top.
    pub(crate) fn read(&self, path: &[u8]) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat2(&self.fd, path, flags, Mode::empty(), RESOLVE)?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::RegularFile {
            Ok(File::from(fd))
        } else {
            Err(Errno::INVAL)
        }
    }

    /// The folder of this very name.
    pub(crate) fn enter(&self, name: &[u8]) -> Result<Self, Errno> {
        Self::of(openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// What stands at a name; none if nothing does.
    pub(crate) fn look(&self, name: &[u8]) -> Result<Option<Found>, Errno> {
        let found = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(Stat { st_mode, .. }) => FileType::from_raw_mode(st_mode),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(Some(match found {
            FileType::Directory => Found::Folder,
            FileType::RegularFile => Found::File,
            FileType::Symlink => Found::SymLink,
            _ => Found::Other,
        }))
    }

    /// The names in it.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(openat(&self.fd, c".", flags, Mode::empty())?)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    pub(crate) fn make_folder(&self, name: &[u8], mode: u32) -> Result<(), Errno> {
        mkdirat(&self.fd, name, Mode::from_raw_mode(0o700))?;
        self.set_folder_mode(name, mode)
    }

    /// What the mask of this process cannot take away.
    pub(crate) fn set_folder_mode(&self, name: &[u8], mode: u32) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fchmod(openat(&self.fd, name, flags, Mode::empty())?, Mode::from_raw_mode(mode))
    }

    /// A new, empty file.
    pub(crate) fn make_file(&self, name: &[u8]) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))?))
    }

    /// Opens the file of this very name, which nobody but this process made.
    pub(crate) fn open_file(&self, name: &[u8]) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.fd, name, flags, Mode::empty())?))
    }

    pub(crate) fn make_link(&self, name: &[u8], target: &[u8]) -> Result<(), Errno> {
        symlinkat(target, &self.fd, name)
    }

    /// Gives what stands at a name in another folder a second name here; a symbolic link there is not followed.
    pub(crate) fn make_hard_link(&self, name: &[u8], of: &Self, its_name: &[u8]) -> Result<(), Errno> {
        linkat(&of.fd, its_name, &self.fd, name, AtFlags::empty())
    }

    pub(crate) fn remove_file(&self, name: &[u8]) -> Result<(), Errno> {
        unlinkat(&self.fd, name, AtFlags::empty())
    }

    pub(crate) fn remove_folder(&self, name: &[u8]) -> Result<(), Errno> {
        unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// Bytes that its file system holds, full or free.
    pub(crate) fn room(&self) -> Result<u64, Errno> {
        let found = rustix::fs::fstatvfs(&self.fd)?;
        Ok(found.f_blocks.saturating_mul(found.f_frsize))
    }
}

/// Gives a finished file its mode and time.
pub(crate) fn seal_file(file: &File, mode: u32, mtime: i64) -> Result<(), Errno> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    futimens(file, &Timestamps { last_access: time, last_modification: time })?;
    fchmod(file, Mode::from_raw_mode(mode))
}
