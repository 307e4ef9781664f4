//! Limits on reading from and writing to the disk that the node's home lies on.

use crate::cgroup::Version;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A whole disk, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    major: u32,
    minor: u32,
}

impl Disk {
    /// The disk that a folder lies on, made already or not; none for what is no disk, as memory or a network.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let device = folder.ancestors().find_map(|folder| folder.metadata().ok())?.dev();
        let known = Path::new("/sys/dev/block").join(format!("{}:{}", libc::major(device), libc::minor(device)));
        let known = known.canonicalize().ok()?;
        // Limits are set for whole disks.
        let disk = if known.join("partition").exists() { known.parent()? } else { &known };
        let numbers = fs::read_to_string(disk.join("dev")).ok()?;
        let (major, minor) = numbers.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// Limits a group to so many bytes a second read, and as many written, and reads that back.
///
/// # Errors
/// If the kernel does not hold it.
pub(crate) fn set(disk: Option<Disk>, version: Version, group: &Path, bytes: u64) -> io::Result<()> {
    let Disk { major, minor } = disk.ok_or_else(|| io::Error::other("the node's home lies on no disk"))?;
    let one = format!("{major}:{minor} {bytes}");
    let (files, line): (&[&str], String) = match version {
        Version::V1 => (&["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"], one),
        Version::V2 => (&["io.max"], format!("{major}:{minor} rbps={bytes} wbps={bytes}")),
    };
    for file in files {
        let file = group.join(file);
        fs::write(&file, &line)?;
        // Version 2 shows more limits behind these.
        if !fs::read_to_string(&file)?.lines().any(|held| held.starts_with(&line)) {
            return Err(io::Error::other(format!("the kernel does not hold `{line}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const DISK: Option<Disk> = Some(Disk { major: 254, minor: 16 });

    #[test]
    fn each_version_is_told_in_its_own_words() {
        let group = tempfile::tempdir().unwrap();
        set(DISK, Version::V1, group.path(), 7).unwrap();
        set(DISK, Version::V2, group.path(), 7).unwrap();
        let held = |file| fs::read_to_string(group.path().join(file)).unwrap();
        assert_eq!(held("blkio.throttle.read_bps_device"), "254:16 7");
        assert_eq!(held("blkio.throttle.write_bps_device"), "254:16 7");
        assert_eq!(held("io.max"), "254:16 rbps=7 wbps=7");
    }

    #[test]
    fn a_limit_that_is_not_held_or_has_no_disk_is_refused() {
        let group = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", group.path().join("io.max")).unwrap();
        assert!(set(DISK, Version::V2, group.path(), 7).is_err());
        assert!(set(None, Version::V1, group.path(), 7).is_err());
        assert_eq!(Disk::of(Path::new("/proc/self")), None);
    }
}
