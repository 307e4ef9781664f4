//! Control groups, version 1 and 2, each controller where it is really mounted.
//!
//! Hybrid machines mount both; so each controller is looked for by itself, and counts only if a
//! group could be made and a limit set. Every attempt has a group `decores/<job>-<attempt>`, and its container one
//! beside it: `decores/<job>-<attempt>.container`. A runtime may make groups of its names in hierarchies that are not
//! used here, so they are looked for in all.

use crate::group::{JobCgroup, PATIENCE, may_exist};
use crate::io_limit::Disk;
use crate::message::{container_name, whose};
use decores_sandbox::plan::CgroupPlan;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder all groups of the node lie in.
const FOLDER: &str = "decores";
/// The controllers used, sorted.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];
/// Limits that only show whether limits hold.
const PROBE: CgroupPlan =
    CgroupPlan { controllers: Vec::new(), memory_bytes: 64 << 20, tasks: 16, io_bytes: 1 << 30, cpu_percent: 100 };

/// How far a group of a former launcher's is looked for.
const MOST_FOLDERS: u32 = 20_000;
const MOST_DEEP: u32 = 12;

/// Which of the kernel's two interfaces a controller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A controller and the folder its groups are made in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) name: &'static str,
    pub(crate) version: Version,
    pub(crate) mount: PathBuf,
    pub(crate) folder: PathBuf,
}

/// Every controller of this machine that may be usable.
#[derive(Debug)]
pub(crate) struct Cgroups {
    controllers: Vec<Controller>,
    /// Hierarchies that no limit is set in.
    others: Vec<Controller>,
    /// Where the node's home lies, if limits can be set for that.
    disk: Option<Disk>,
}

impl Cgroups {
    /// Finds the controllers from the kernel's own tables; `home` lies on the disk that limits are set for.
    pub(crate) fn detect(home: &Path) -> Self {
        // What else is mounted may have any name.
        let read = |file| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let controllers = controllers(&mounts, &own);
        let mut others = others(&mounts, &own);
        others.retain(|other| controllers.iter().all(|c| c.mount != other.mount));
        Self { controllers, others, disk: Disk::of(home) }
    }

    /// A machine without any.
    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Self { controllers: Vec::new(), others: Vec::new(), disk: None }
    }

    /// Controllers that a limit could be set with just now and read back, sorted.
    pub(crate) fn usable(&self, name: &str) -> Vec<String> {
        self.controllers.iter().filter(|c| self.try_one(c, name).is_ok()).map(|c| c.name.to_owned()).collect()
    }

    fn try_one(&self, controller: &Controller, name: &str) -> io::Result<()> {
        let group = self.create(name, &CgroupPlan { controllers: vec![controller.name.to_owned()], ..PROBE })?;
        group.remove(PATIENCE)
    }

    /// Whether a group's pages can be kept from swap.
    pub(crate) fn closes_swap(&self, name: &str) -> bool {
        let plan = CgroupPlan { controllers: vec!["memory".to_owned()], ..PROBE };
        let Ok(group) = self.create(name, &plan) else { return false };
        let closed = group.closed_to_swap();
        group.remove(PATIENCE).is_ok() && closed
    }

    /// Makes the group of one attempt with all limits of the plan.
    ///
    /// # Errors
    /// If a limit cannot be set, or the kernel does not hold it then; what was made is removed, or found by name.
    pub(crate) fn create(&self, name: &str, plan: &CgroupPlan) -> io::Result<JobCgroup> {
        let mut group = JobCgroup::default();
        for wanted in &plan.controllers {
            let found = self.controllers.iter().find(|c| c.name == wanted);
            let added = found
                .ok_or_else(|| io::Error::other(format!("no cgroup controller `{wanted}`")))
                .and_then(|controller| group.add_controller(controller, name, plan, self.disk));
            if let Err(e) = added {
                // The first failure is the one to tell; `existing` finds what this one leaves.
                let _ = group.remove(PATIENCE);
                return Err(e);
            }
        }
        Ok(group)
    }

    /// The group of this name and its container's, as far as they exist.
    pub(crate) fn existing(&self, name: &str) -> JobCgroup {
        let names = [name.to_owned(), container_name(name)];
        let all = self.controllers.iter().chain(&self.others);
        let parts = all.flat_map(|c| names.iter().map(|name| (c.clone(), c.folder.join(name))));
        JobCgroup::of(parts.filter(|(_, folder)| may_exist(folder)).collect())
    }

    /// The groups of this name wherever they lie: a launcher that was started elsewhere made it elsewhere.
    pub(crate) fn everywhere(&self, name: &str) -> JobCgroup {
        let mut parts: Vec<(Controller, PathBuf)> = Vec::new();
        for controller in self.controllers.iter().chain(&self.others) {
            let known = |mount: &Path| parts.iter().any(|(c, _)| c.mount == mount);
            if !known(&controller.mount) {
                parts.extend(find(&controller.mount, name).into_iter().map(|folder| (controller.clone(), folder)));
            }
        }
        JobCgroup::of(parts)
    }

    /// Removes the node's own folders where nothing is left in them.
    pub(crate) fn remove_folders(&self) {
        for controller in &self.controllers {
            let _ = fs::remove_dir(&controller.folder);
        }
    }
}

/// Folders `decores/<name>` and `decores/<name>.…` below a mount.
fn find(mount: &Path, name: &str) -> Vec<PathBuf> {
    let (mut found, mut looked) = (Vec::new(), 0);
    let mut ahead = vec![(mount.to_owned(), 0)];
    while let Some((folder, depth)) = ahead.pop() {
        looked += 1;
        if looked < MOST_FOLDERS && depth < MOST_DEEP {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
            if folder.ends_with(FOLDER) {
                let is_its = |path: &&PathBuf| path.file_name().is_some_and(|n| whose(&n.to_string_lossy()) == name);
                found.extend(folders.iter().filter(is_its).cloned());
            }
            ahead.extend(folders.into_iter().map(|path| (path, depth + 1)));
        }
    }
    found
}

/// Every hierarchy that is mounted, whatever it controls.
fn others(mountinfo: &str, own: &str) -> Vec<Controller> {
    let other = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mount = PathBuf::from(before.split(' ').nth(4)?);
        let (version, options) = match after.split_once(' ')? {
            ("cgroup", rest) => (Version::V1, rest.rsplit(' ').next()?),
            ("cgroup2", _) => (Version::V2, ""),
            _ => return None,
        };
        let inside = options.split(',').find_map(|option| own.lines().find_map(|line| own_group(line, option)));
        let folder = nested(&mount, inside.unwrap_or("/")).join(FOLDER);
        Some(Controller { name: "", version, mount, folder })
    };
    mountinfo.lines().filter_map(other).collect()
}

/// The folder of a group below a mount; the mount itself where that is not there.
fn nested(mount: &Path, group: &str) -> PathBuf {
    let nested = mount.join(group.trim_start_matches('/'));
    if nested.is_dir() { nested } else { mount.to_owned() }
}

/// Reads the controllers from `mountinfo` and the process's own groups.
fn controllers(mountinfo: &str, own: &str) -> Vec<Controller> {
    CONTROLLERS.iter().filter_map(|name| mountinfo.lines().find_map(|line| controller(name, line, own))).collect()
}

fn controller(name: &'static str, mount_line: &str, own: &str) -> Option<Controller> {
    let (before, after) = mount_line.split_once(" - ")?;
    let mount = PathBuf::from(before.split(' ').nth(4)?);
    let mut kind = after.split(' ');
    match kind.next()? {
        "cgroup" => {
            let options = kind.nth(1)?;
            let called = if name == "io" { "blkio" } else { name };
            if !options.split(',').any(|o| o == called) {
                return None;
            }
            // Groups nest below the node's own, so that limits set on the node hold for its jobs too.
            let inside = own.lines().find_map(|line| own_group(line, called)).unwrap_or("/");
            let folder = nested(&mount, inside).join(FOLDER);
            Some(Controller { name, version: Version::V1, mount, folder })
        }
        "cgroup2" => {
            let offered = fs::read_to_string(mount.join("cgroup.controllers")).ok()?;
            // Version 2 lets no group hold both processes and groups, so jobs lie beside the node's own.
            let folder = mount.join(FOLDER);
            let there = offered.split_whitespace().any(|o| o == name);
            there.then_some(Controller { name, version: Version::V2, mount, folder })
        }
        _ => None,
    }
}

fn own_group<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (names, path) = (parts.next()?, parts.next()?);
    names.split(',').any(|n| n == name).then_some(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
33 30 0:29 / /sys/fs/cgroup/nowhere/pids rw,relatime - cgroup cgroup rw,pids
34 30 0:30 / /nonexistent/unified rw,relatime - cgroup2 cgroup rw
";

    #[test]
    fn each_controller_is_found_where_it_is_mounted() {
        let found = controllers(HYBRID, "5:pids:/a/b\n1:cpu:/\n0::/\n");
        assert_eq!(found.iter().map(|c| c.name).collect::<Vec<_>>(), ["cpu", "pids"]);
        assert_eq!(found[0].folder, Path::new("/sys/fs/cgroup/cpu/decores"));
        assert_eq!(
            found[1].folder,
            Path::new("/sys/fs/cgroup/nowhere/pids/decores"),
            "own group is not there: the mount itself"
        );
    }

    #[test]
    fn a_unified_mount_without_the_controller_does_not_count() {
        assert_eq!(controllers("34 30 0:30 / /nonexistent rw - cgroup2 cgroup rw\n", "0::/\n"), []);
    }

    #[test]
    fn version_2_is_driven_through_its_files() {
        let tree = tempfile::tempdir().unwrap();
        let mount = tree.path().to_owned();
        let folder = mount.join(FOLDER);
        fs::create_dir(&folder).unwrap();
        for above in [&mount, &folder] {
            fs::write(above.join("cgroup.subtree_control"), "").unwrap();
        }
        let controller =
            Controller { name: "pids", version: Version::V2, mount: mount.clone(), folder: folder.clone() };
        let groups = Cgroups { controllers: vec![controller], ..Cgroups::none() };
        let plan =
            CgroupPlan { controllers: vec!["pids".to_owned()], memory_bytes: 1, tasks: 7, io_bytes: 1, cpu_percent: 0 };
        groups.create("a-1", &plan).unwrap();
        assert_eq!(fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap(), "+pids");
        assert_eq!(fs::read_to_string(folder.join("a-1/pids.max")).unwrap(), "7");
        assert!(groups.existing("a-1").exists() && !groups.existing("a-1").holds_any());
        assert!(!groups.existing("a-2").exists());
        groups.create("a-1.container", &plan).unwrap();
        fs::create_dir_all(folder.join("a-1.container/x/y")).unwrap();
        assert_eq!(groups.existing("a-1").folders(), [folder.join("a-1"), folder.join("a-1.container")]);
        groups.existing("a-1").folders().iter().for_each(|folder| drop(fs::remove_file(folder.join("pids.max"))));
        assert!(groups.existing("a-1").remove(1).is_ok() && !folder.join("a-1.container").exists());
        groups.create("a-1", &plan).unwrap();
        fs::create_dir_all(mount.join("session/decores/a-1")).unwrap();
        fs::create_dir_all(mount.join("decores/session/decores/a-2.container")).unwrap();
        fs::create_dir_all(mount.join("session/a-3")).unwrap();
        assert_eq!(groups.everywhere("a-1").folders().len(), 2);
        assert_eq!(groups.everywhere("a-2").folders().len(), 1);
        assert!(!groups.everywhere("a-3").exists(), "only groups of ours");
    }

    #[test]
    fn a_plan_with_an_unknown_controller_is_refused() {
        let groups = Cgroups::none();
        let plan = CgroupPlan {
            controllers: vec!["memory".to_owned()],
            memory_bytes: 1,
            tasks: 7,
            io_bytes: 1,
            cpu_percent: 0,
        };
        assert!(groups.create("a-1", &plan).is_err());
    }
}
