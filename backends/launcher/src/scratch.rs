//! The folder that encrypted scratches lie in, one folder of ciphertext in it for each attempt.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

const MODE: u32 = 0o700;
/// Bytes that a file takes beside its blocks.
const PER_FILE: u64 = 4096;
/// Files that one look at a scratch counts at most.
const MOST_COUNTED: usize = 10_000;

/// Folders that are looked at together when all are removed.
const AT_ONCE: usize = 1024;
/// What renaming a folder to a name that something has already fails with.
const TAKEN: [io::ErrorKind; 3] =
    [io::ErrorKind::AlreadyExists, io::ErrorKind::DirectoryNotEmpty, io::ErrorKind::NotADirectory];

/// Makes the folder of one attempt, for this user alone.
///
/// # Errors
/// If it cannot be made, or is there already.
pub(crate) fn make(scratches: &Path, name: &str, uid: u32) -> io::Result<PathBuf> {
    let folder = scratches.join(name);
    DirBuilder::new().mode(MODE).recursive(true).create(scratches)?;
    DirBuilder::new().mode(MODE).create(&folder)?;
    chown(&folder, Some(uid), Some(uid))?;
    Ok(folder)
}

/// Removes a folder and all below it. Folders move up before they are emptied: neither how deep they lie nor how long
/// their paths are can stop it. No link is followed, whoever puts one there meanwhile.
///
/// # Errors
/// If anything stays.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let top = match Held::open(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        top => top?,
    };
    let mut number = 0;
    loop {
        let mut names = Vec::new();
        top.empty(|name, _| {
            names.push(name);
            Ok(names.len() < AT_ONCE)
        })?;
        if names.is_empty() {
            return gone(fs::remove_dir(folder));
        }
        for name in names {
            let above = Held::open(&top.path(&name))?;
            above.empty(|_, from| move_up(&from, &top, &mut number).map(|()| true))?;
            fs::remove_dir(top.path(&name))?;
        }
    }
}

/// Moves a folder to the next number that is free; a removal that was cut off has left some that are not.
fn move_up(from: &Path, top: &Held, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        // gocryptfs begins no name with a dot.
        match fs::rename(from, top.path(OsStr::new(&format!(".{number}")))) {
            Err(e) if TAKEN.contains(&e.kind()) => {}
            result => return result,
        }
    }
}

/// An open folder. Paths through its descriptor lead to it and no other, whatever its own path has come to mean.
struct Held(File);

impl Held {
    fn open(folder: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        File::options().read(true).custom_flags(flags).open(folder).map(Self)
    }

    fn path(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string()).join(name)
    }

    /// Removes what is no folder, and hands out the folders, by name and path, until told to stop.
    fn empty(&self, mut folder: impl FnMut(OsString, PathBuf) -> io::Result<bool>) -> io::Result<()> {
        for entry in fs::read_dir(self.path(OsStr::new("")))? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            } else if !folder(entry.file_name(), entry.path())? {
                break;
            }
        }
        Ok(())
    }
}

pub(crate) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Bytes that a folder takes on disk, of as many files as are counted: an engine counts its own exactly.
pub(crate) fn taken(folder: &Path) -> u64 {
    let (mut bytes, mut counted, mut folders) = (0_u64, 0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(meta.blocks() * 512).saturating_add(PER_FILE);
            counted += 1;
            if counted == MOST_COUNTED {
                return bytes;
            }
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_scratch_deeper_than_any_path_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("scratch");
        fs::create_dir(&folder).unwrap();
        // Built from the bottom up, since no path reaches the bottom.
        let name = "n".repeat(200);
        let (top, next) = (folder.join(&name), home.path().join("next"));
        fs::create_dir(&top).unwrap();
        fs::write(top.join("file"), "x").unwrap();
        for _ in 0..60 {
            fs::create_dir(&next).unwrap();
            fs::rename(&top, next.join(&name)).unwrap();
            fs::rename(&next, &top).unwrap();
        }
        fs::write(folder.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(home.path(), folder.join("link")).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists() && home.path().exists());
        remove(&folder).unwrap();
    }

    #[test]
    fn a_removal_that_was_cut_off_is_finished() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("scratch");
        for left in [".1/x/y", ".2/.1/.2", ".3", "a/b/c", "a/d/e", "f/g/h"] {
            fs::create_dir_all(folder.join(left)).unwrap();
            fs::write(folder.join(left).join("file"), "x").unwrap();
        }
        fs::create_dir(folder.join(".5")).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn no_link_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let (outside, folder) = (home.path().join("outside"), home.path().join("scratch"));
        fs::create_dir_all(outside.join("a/b")).unwrap();
        fs::create_dir_all(folder.join("c")).unwrap();
        for link in ["link", "c/link"] {
            std::os::unix::fs::symlink(&outside, folder.join(link)).unwrap();
        }
        // What was a folder when it was looked at may be a link when it is opened.
        assert!(Held::open(&folder.join("link")).is_err());
        remove(&folder).unwrap();
        assert!(!folder.exists());
        std::os::unix::fs::symlink(&outside, &folder).unwrap();
        assert!(remove(&folder).is_err(), "a link is no scratch");
        assert!(outside.join("a/b").exists());
    }

    #[test]
    fn a_folder_that_is_moved_away_is_still_the_one_that_is_emptied() {
        let home = tempfile::tempdir().unwrap();
        let (ours, other) = (home.path().join("ours"), home.path().join("other"));
        for folder in [&ours, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "x").unwrap();
        }
        let held = Held::open(&ours).unwrap();
        fs::rename(&ours, home.path().join("away")).unwrap();
        std::os::unix::fs::symlink(&other, &ours).unwrap();
        held.empty(|_, _| Ok(true)).unwrap();
        assert!(other.join("file").exists() && !home.path().join("away/file").exists());
    }

    #[test]
    fn what_lies_on_disk_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let empty = taken(home.path());
        fs::create_dir(home.path().join("a")).unwrap();
        fs::write(home.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!(taken(home.path()) >= empty + 100_000);
    }
}
