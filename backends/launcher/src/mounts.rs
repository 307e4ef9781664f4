//! Mounts below our folders, in the launcher's own view. None is ever made there; what is found was put there.

use crate::syscall;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Mount points at or below a folder, the last made first.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    points(&mounts, folder)
}

/// Takes every mount at or below a folder out of this view.
///
/// # Errors
/// If one stays.
pub(crate) fn detach(folder: &Path) -> io::Result<()> {
    below(folder).iter().try_for_each(|point| syscall::unmount(point))
}

fn points(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().rev().filter_map(|line| line.split(' ').nth(4).map(unescaped));
    points.filter(|point| point.starts_with(folder)).collect()
}

/// The kernel writes blanks and the like as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.extend(code);
        bytes.extend_from_slice(part.get(3..).unwrap_or_default().as_bytes());
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_at_or_below_the_folder_counts() {
        let mounts = "\
30 20 0:26 / /a rw - tmpfs tmpfs rw
31 30 0:27 / /a/b\\040c rw shared:1 - tmpfs tmpfs rw
32 30 0:28 / /a/b\\040c/d rw - fuse.x x rw
33 30 0:29 / /a/b\\040cd rw - tmpfs tmpfs rw
";
        assert_eq!(points(mounts, Path::new("/a/b c")), [Path::new("/a/b c/d"), Path::new("/a/b c")]);
        assert_eq!(points(mounts, Path::new("/b")), Vec::<PathBuf>::new());
    }
}
