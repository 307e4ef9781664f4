//! Output that the program has locked away from everybody, itself included.

use decores_types::bundle::MAX_FILES;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, openat, statat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// As deep as an output's path may be; what lies deeper is refused later.
const MAX_DEPTH: usize = 16;

/// Most files and folders that are looked at.
const MOST: usize = 4 * MAX_FILES;

/// Gives the owner, who is this process's user, the right to read all files and folders; false if they are too many.
pub(crate) fn make_readable(folder: &Path) -> io::Result<bool> {
    let mut left = MOST;
    Ok(open(CWD, folder.as_os_str().as_encoded_bytes(), MAX_DEPTH, &mut left)?)
}

fn open(above: impl AsFd + Copy, name: &[u8], depth: usize, left: &mut usize) -> Result<bool, Errno> {
    chmodat(above, name, Mode::RWXU, AtFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder: OwnedFd = openat(above, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let Some(rest) = left.checked_sub(1) else { return Ok(false) };
        *left = rest;
        // Nobody is left to put a link there between this look and the next line.
        match FileType::from_raw_mode(statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
            FileType::Directory if depth > 0 && !open(folder.as_fd(), name, depth - 1, left)? => return Ok(false),
            FileType::RegularFile => chmodat(&folder, name, Mode::RUSR, AtFlags::empty())?,
            _ => {}
        }
    }
    Ok(true)
}
