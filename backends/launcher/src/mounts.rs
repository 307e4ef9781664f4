//! Mounts below our folders, in the launcher's own view. None is ever made there; what is found was put there.

use crate::syscall;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Mount points at or below a folder, the last made first.
///
/// # Errors
/// If that cannot be told.
pub(crate) fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    // The kernel tells paths without links. The folder itself may be a mount that nobody answers for any more.
    let resolved = match folder.parent().zip(folder.file_name()) {
        Some((above, name)) => above.canonicalize().map(|above| above.join(name)),
        None => folder.canonicalize(),
    };
    match resolved {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        resolved => Ok(points(&fs::read("/proc/self/mountinfo")?, &resolved?)),
    }
}

/// Takes every mount at or below a folder out of this view.
///
/// # Errors
/// If one stays, or may.
pub(crate) fn detach(folder: &Path) -> io::Result<()> {
    below(folder)?.iter().try_for_each(|point| syscall::unmount(point))?;
    if below(folder)?.is_empty() { Ok(()) } else { Err(io::ErrorKind::ResourceBusy.into()) }
}

fn points(mountinfo: &[u8], folder: &Path) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n').rev();
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4).map(unescaped));
    points.filter(|point| point.starts_with(folder)).collect()
}

/// The kernel writes blanks and the like as a backslash and three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut parts = text.split(|byte| *byte == b'\\');
    let mut bytes = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(3));
        bytes.extend(std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok()));
        bytes.extend_from_slice(rest);
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_lies_at_or_below_the_folder_counts() {
        let mounts = b"\
30 20 0:26 / /a rw - tmpfs tmpfs rw
31 30 0:27 / /a/b\\040c rw shared:1 - tmpfs tmpfs rw
32 30 0:28 / /a/b\\040c/d rw - fuse.x x rw
33 30 0:29 / /\xff\xfe rw - tmpfs \xff rw
34 30 0:30 / /a/b\\040cd rw - tmpfs tmpfs rw
";
        assert_eq!(points(mounts, Path::new("/a/b c")), [Path::new("/a/b c/d"), Path::new("/a/b c")]);
        assert_eq!(points(mounts, Path::new("/b")), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_folder_behind_a_link_is_looked_for_where_it_lies() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", home.path().join("link")).unwrap();
        assert!(below(&home.path().join("link/proc")).unwrap().contains(&PathBuf::from("/proc")));
        assert!(below(&home.path().join("absent/folder")).unwrap().is_empty());
        std::os::unix::fs::symlink("round", home.path().join("round")).unwrap();
        assert!(below(&home.path().join("round/folder")).is_err(), "what cannot be told is no answer");
    }
}
