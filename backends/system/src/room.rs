//! What the machine has left: on a disk, of memory, of descriptors.

use crate::memory;
use crate::syscall;
use std::fs;
use std::io;
use std::path::Path;

/// Descriptors of this process.
const OWN: &str = "/proc/self/fd";
/// Files open on the whole machine: in use, unused, at most.
const ALL: &str = "/proc/sys/fs/file-nr";

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes that can still be written.
    pub bytes: u64,
    /// Files that can still be made.
    pub files: u64,
}

/// What is left on the file system that holds this path.
///
/// # Errors
/// If it cannot be asked.
pub fn disk_room(path: &Path) -> io::Result<DiskRoom> {
    let (bytes, files) = syscall::file_system(path)?;
    Ok(DiskRoom { bytes, files })
}

/// Bytes of memory that can still be had: by the machine, and by every control group this process is in.
///
/// # Errors
/// If the kernel's tables cannot be read.
pub fn memory_room() -> io::Result<u64> {
    let machine = memory::available(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no `MemAvailable`"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let groups = memory::groups(&mounts, &own);
    Ok(groups.iter().filter_map(memory::Group::room).fold(machine, u64::min))
}

/// Descriptors that can still be had: by this process, and by the machine.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn descriptor_room() -> io::Result<u64> {
    let limit = descriptor_limit()?;
    let open = match fs::read_dir(OWN) {
        // One of them is the folder's own.
        Ok(folder) => folder.count().saturating_sub(1) as u64,
        Err(error) if used_up(&error) => return Ok(0),
        Err(error) => return Err(error),
    };
    let left = limit.saturating_sub(open);
    match fs::read_to_string(ALL) {
        Ok(text) => Ok(machine_left(&text).map_or(left, |machine| machine.min(left))),
        Err(error) if used_up(&error) => Ok(0),
        Err(_) => Ok(left),
    }
}

/// The most descriptors this process may have.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn descriptor_limit() -> io::Result<u64> {
    syscall::descriptor_limit()
}

/// Whether something failed because no descriptor was left for it, of this process or of the machine.
pub fn used_up(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn machine_left(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (used, unused, most) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(most.saturating_sub(used.saturating_sub(unused)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_system_has_room_and_one_that_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let room = disk_room(folder.path()).unwrap();
        assert!(room.bytes > 0 && room.files > 0, "{room:?}");
        assert!(disk_room(&folder.path().join("none")).is_err());
    }

    #[test]
    fn the_machine_has_memory_left() {
        assert!(memory_room().unwrap() > 1 << 20);
    }

    #[test]
    fn every_open_file_is_one_descriptor_less() {
        let limit = descriptor_limit().unwrap();
        let before = descriptor_room().unwrap();
        assert!(before < limit);
        let many: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = descriptor_room().unwrap();
        drop(many);
        // Other tests of this process open and close files meanwhile.
        assert!(after + 40 <= before && before <= after + 60, "{before} {after}");
    }

    #[test]
    fn the_machines_own_table_is_read() {
        assert_eq!(machine_left("992\t0\t1000\n"), Some(8));
        assert_eq!(machine_left("992 2 1000"), Some(10));
        assert_eq!(machine_left("1001 0 1000"), Some(0));
        assert_eq!(machine_left("x 0 1000"), None);
        assert_eq!(machine_left(""), None);
    }
}
