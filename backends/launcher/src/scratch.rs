//! The folder that encrypted scratches lie in, one folder of ciphertext in it for each attempt.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

const MODE: u32 = 0o700;
/// Bytes that a file takes beside its blocks.
const PER_FILE: u64 = 4096;
/// Files that one look at a scratch counts at most.
const MOST_COUNTED: usize = 10_000;

/// Folders that are looked at together when all are removed.
const AT_ONCE: usize = 1024;

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
/// their paths are can stop it.
///
/// # Errors
/// If anything stays.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut folders = Vec::new();
        for entry in entries(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path())
            } else {
                fs::remove_file(entry.path())?
            }
            if folders.len() == AT_ONCE {
                break;
            }
        }
        if folders.is_empty() {
            return gone(fs::remove_dir(folder));
        }
        for above in folders {
            for entry in entries(&above)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    moved += 1;
                    // gocryptfs begins no name with a dot.
                    fs::rename(entry.path(), folder.join(format!(".{moved}")))?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            fs::remove_dir(above)?;
        }
    }
}

/// What is in a folder; nothing in one that is not there.
fn entries(folder: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<fs::DirEntry>>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Box::new(entries)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(e) => Err(e),
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
    fn what_lies_on_disk_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let empty = taken(home.path());
        fs::create_dir(home.path().join("a")).unwrap();
        fs::write(home.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!(taken(home.path()) >= empty + 100_000);
    }
}
