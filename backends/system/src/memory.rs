//! Memory as the kernel's tables tell of it: the machine's, and that of control groups of both versions.

use std::fs;
use std::path::{Path, PathBuf};

/// `MemAvailable` of `/proc/meminfo`, in bytes.
pub(crate) fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Which of the kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A control group that may bound this process' memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    folder: PathBuf,
    version: Version,
}

impl Group {
    /// Bytes that can still be had under its limit; `None` where it has none, or is not shown here.
    pub(crate) fn room(&self) -> Option<u64> {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let (limit, used, cached) = match self.version {
            Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            Version::Two => ("memory.max", "memory.current", "inactive_file"),
        };
        // Version 2 says `max` where there is no limit.
        let (limit, used) = (number(limit)?, number(used)?);
        let cached = read("memory.stat").and_then(|stat| entry(&stat, cached)).unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    }
}

/// A number of a table of names and numbers.
fn entry(table: &str, name: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The groups this process is in, and all above them, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(crate) fn groups(mountinfo: &str, own: &str) -> Vec<Group> {
    let mut out = Vec::new();
    for line in mountinfo.lines() {
        let Some(mount) = Mount::parse(line) else { continue };
        let Some(own) = own.lines().find_map(|line| own_path(line, mount.version)) else { continue };
        // In a container the mount may begin below the root that the path is counted from.
        let below = Path::new(own).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let below = below.strip_prefix("/").unwrap_or(below);
        for ancestor in below.ancestors() {
            out.push(Group { folder: Path::new(mount.at).join(ancestor), version: mount.version });
        }
    }
    out
}

struct Mount<'a> {
    root: &'a str,
    at: &'a str,
    version: Version,
}

impl<'a> Mount<'a> {
    /// `36 35 0:31 /root /at options [tags] - type source options`
    fn parse(line: &'a str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, at) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let version = match kind.next()? {
            "cgroup2" => Version::Two,
            "cgroup" if kind.nth(1)?.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        Some(Self { root, at, version })
    }
}

/// The path of `hierarchy:controllers:/path`, if that is the one that bounds memory.
fn own_path(line: &str, version: Version) -> Option<&str> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = match version {
        Version::One => controllers.split(',').any(|name| name == "memory"),
        Version::Two => hierarchy == "0" && controllers.is_empty(),
    };
    fits.then_some(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const HYBRID: &str = "\
24 23 0:22 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
25 23 0:23 / /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids
26 23 0:24 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw
27 23 0:25 / /tmp rw - tmpfs memory rw,memory
";

    fn folders(mounts: &str, own: &str) -> Vec<String> {
        groups(mounts, own).into_iter().map(|group| group.folder.display().to_string()).collect()
    }

    #[test]
    fn reads_what_the_machine_has() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:     123 kB\n"), Some(123 * 1024));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        assert_eq!(available("MemAvailable: many kB\n"), None);
        assert_eq!(available("MemAvailable: 18446744073709551615 kB\n"), None);
    }

    #[test]
    fn finds_its_own_groups_and_those_above_in_both_versions() {
        let own = "9:name=systemd:/x\n8:pids:/p\n4:cpu,memory:/a/b\n0::/u\n";
        let expected = [
            "/sys/fs/cgroup/memory/a/b",
            "/sys/fs/cgroup/memory/a",
            "/sys/fs/cgroup/memory/",
            "/sys/fs/cgroup/unified/u",
            "/sys/fs/cgroup/unified/",
        ];
        assert_eq!(folders(HYBRID, own), expected);
        assert_eq!(folders("", own), [""; 0]);
        assert_eq!(folders(HYBRID, "nonsense"), [""; 0]);
    }

    #[test]
    fn finds_its_group_where_only_a_part_is_mounted() {
        let mounts = "30 29 0:26 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(folders(mounts, "0::/docker/1/in\n"), ["/sys/fs/cgroup/in", "/sys/fs/cgroup/"]);
        assert_eq!(folders(mounts, "0::/elsewhere\n"), ["/sys/fs/cgroup/"]);
    }

    #[test]
    fn a_groups_room_is_its_limit_without_what_cannot_be_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let group = |version| Group { folder: folder.path().to_owned(), version };
        assert_eq!(group(Version::Two).room(), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(group(Version::Two).room(), None);
        write("memory.max", "1000\n");
        assert_eq!(group(Version::Two).room(), Some(300));
        write("memory.stat", "inactive_file_x 1\ninactive_file 200\ntotal_inactive_file 400\n");
        assert_eq!(group(Version::Two).room(), Some(500));
        write("memory.current", "2000\n");
        assert_eq!(group(Version::Two).room(), Some(0));
        write("memory.limit_in_bytes", "1000\n");
        write("memory.usage_in_bytes", "900\n");
        assert_eq!(group(Version::One).room(), Some(500));
    }
}
