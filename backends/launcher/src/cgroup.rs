//! Control groups, version 1 and 2, each controller where it is really mounted.
//!
//! Hybrid machines mount both; so each controller is looked for by itself, and counts only if a
//! group could be made and a limit set. Every attempt has a group `decores/<job>-<attempt>`.

use crate::syscall;
use decores_sandbox::plan::CgroupPlan;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The folder all groups of the node lie in.
const FOLDER: &str = "decores";
/// The controllers used, sorted.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// A job yields to the node when both want the processor: half the usual weight.
const CPU_SHARES_V1: &str = "512";
const CPU_WEIGHT_V2: &str = "50";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A controller and the folder its groups are made in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Controller {
    name: &'static str,
    version: Version,
    mount: PathBuf,
    folder: PathBuf,
}

/// Every controller of this machine that may be usable.
#[derive(Debug)]
pub(crate) struct Cgroups {
    controllers: Vec<Controller>,
}

impl Cgroups {
    /// Finds the controllers from the kernel's own tables.
    pub(crate) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { controllers: controllers(&mounts, &own) }
    }

    /// Controllers that a limit could be set with just now, sorted.
    pub(crate) fn usable(&self) -> Vec<String> {
        self.controllers.iter().filter(|c| self.try_one(c)).map(|c| c.name.to_owned()).collect()
    }

    fn try_one(&self, controller: &Controller) -> bool {
        let plan = CgroupPlan { controllers: vec![controller.name.to_owned()], memory_bytes: 64 << 20, tasks: 16 };
        let name = format!("probe-{}", std::process::id());
        self.create(&name, &plan).and_then(|group| group.remove()).is_ok()
    }

    /// Whether a group's pages can be kept from swap.
    pub(crate) fn prevents_swap(&self) -> bool {
        let Some(memory) = self.controllers.iter().find(|c| c.name == "memory") else { return false };
        let plan = CgroupPlan { controllers: vec!["memory".to_owned()], memory_bytes: 64 << 20, tasks: 1 };
        let name = format!("probe-swap-{}", std::process::id());
        let Ok(group) = self.create(&name, &plan) else { return false };
        let file = match memory.version {
            Version::V1 => "memory.swappiness",
            Version::V2 => "memory.swap.max",
        };
        let prevented = group.parts.iter().any(|(_, f)| read_number(&f.join(file)) == Some(0));
        group.remove().is_ok() && prevented
    }

    /// Makes the group of one attempt with all limits of the plan.
    pub(crate) fn create(&self, name: &str, plan: &CgroupPlan) -> io::Result<JobCgroup> {
        let mut group = JobCgroup { parts: Vec::new() };
        for wanted in &plan.controllers {
            let controller = self
                .controllers
                .iter()
                .find(|c| c.name == wanted)
                .ok_or_else(|| io::Error::other(format!("no cgroup controller `{wanted}`")))?;
            if let Err(e) = group.add_controller(controller, name, plan) {
                let _ = group.remove();
                return Err(e);
            }
        }
        Ok(group)
    }

    /// Whether a group of this name exists, and whether it holds processes.
    pub(crate) fn leftover(&self, name: &str) -> (bool, bool) {
        let folders = self.controllers.iter().map(|c| c.folder.join(name)).filter(|f| f.exists());
        folders.fold((false, false), |(_, held), folder| (true, held || !members(&folder).is_empty()))
    }

    /// Removes the node's own folders where nothing is left in them.
    pub(crate) fn remove_folders(&self) {
        for controller in &self.controllers {
            let _ = fs::remove_dir(&controller.folder);
        }
    }
}

/// The group of one attempt, in every hierarchy it has a part in.
#[derive(Debug)]
pub(crate) struct JobCgroup {
    parts: Vec<(Controller, PathBuf)>,
}

impl JobCgroup {
    fn add_controller(&mut self, controller: &Controller, name: &str, plan: &CgroupPlan) -> io::Result<()> {
        let folder = controller.folder.join(name);
        if controller.version == Version::V2 {
            enable_below(&controller.mount, &controller.folder, controller.name)?;
        }
        fs::create_dir_all(&controller.folder)?;
        match fs::create_dir(&folder) {
            // One version 2 folder, or one version 1 mount, may serve several controllers.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.parts.iter().any(|(_, f)| *f == folder) => {}
            result => result?,
        }
        self.parts.push((controller.clone(), folder.clone()));
        set_limits(controller, &folder, plan)
    }

    /// Puts a process in.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        self.parts.iter().try_for_each(|(_, folder)| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    /// Controllers whose group the process is in, read back from the kernel; sorted.
    pub(crate) fn holding(&self, pid: i32) -> Vec<String> {
        let inside = |folder: &Path| members(folder).contains(&pid);
        self.parts.iter().filter(|(_, f)| inside(f)).map(|(c, _)| c.name.to_owned()).collect()
    }

    /// Kills every process inside.
    pub(crate) fn kill_all(&self) {
        for (_, folder) in &self.parts {
            for pid in members(folder) {
                let _ = syscall::kill(pid);
            }
        }
    }

    /// Whether the out-of-memory killer struck.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.memory().is_some_and(|(controller, folder)| {
            let file = match controller.version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            };
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            text.lines().filter_map(|l| l.strip_prefix("oom_kill ")).any(|n| n.trim() != "0")
        })
    }

    /// The most memory the group ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let (controller, folder) = self.memory()?;
        read_number(&folder.join(match controller.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        }))
    }

    fn memory(&self) -> Option<&(Controller, PathBuf)> {
        self.parts.iter().find(|(c, _)| c.name == "memory")
    }

    /// Removes the group; waits a moment for the kernel to let go of dead processes.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for (_, folder) in &self.parts {
            for attempt in 0..200 {
                result = match fs::remove_dir(folder) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                    _ => Ok(()),
                };
                if result.is_ok() || attempt == 199 {
                    break;
                }
                self.kill_all();
                thread::sleep(Duration::from_millis(5));
            }
            if result.is_err() {
                break;
            }
        }
        result
    }
}

fn set_limits(controller: &Controller, folder: &Path, plan: &CgroupPlan) -> io::Result<()> {
    let set = |file: &str, value: &str| fs::write(folder.join(file), value);
    let set_if_there = |file: &str, value: &str| if folder.join(file).exists() { set(file, value) } else { Ok(()) };
    let memory = plan.memory_bytes.to_string();
    match (controller.name, controller.version) {
        ("memory", Version::V1) => {
            set("memory.limit_in_bytes", &memory)?;
            set_if_there("memory.memsw.limit_in_bytes", &memory)?;
            set_if_there("memory.swappiness", "0")
        }
        ("memory", Version::V2) => {
            set("memory.max", &memory)?;
            set_if_there("memory.swap.max", "0")?;
            set_if_there("memory.oom.group", "1")
        }
        ("pids", _) => set("pids.max", &plan.tasks.to_string()),
        ("cpu", Version::V1) => set("cpu.shares", CPU_SHARES_V1),
        ("cpu", Version::V2) => set("cpu.weight", CPU_WEIGHT_V2),
        (other, _) => Err(io::Error::other(format!("no limit is known for controller `{other}`"))),
    }
}

/// Lets the folders from the mount down to `folder` hand a version 2 controller on.
fn enable_below(mount: &Path, folder: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for above in [mount, folder] {
        let control = above.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&control)?;
        if !enabled.split_whitespace().any(|c| c == name) {
            fs::write(&control, format!("+{name}"))?;
        }
    }
    Ok(())
}

fn members(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
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
            if !options.split(',').any(|o| o == name) {
                return None;
            }
            // Groups nest below the node's own, so that limits set on the node hold for its jobs too.
            let inside = own.lines().find_map(|line| own_group(line, name)).unwrap_or("/");
            let nested = mount.join(inside.trim_start_matches('/'));
            let parent = if nested.is_dir() { nested } else { mount.clone() };
            Some(Controller { name, version: Version::V1, mount, folder: parent.join(FOLDER) })
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
        let groups = Cgroups { controllers: vec![controller] };
        let plan = CgroupPlan { controllers: vec!["pids".to_owned()], memory_bytes: 1, tasks: 7 };
        groups.create("a-1", &plan).unwrap();
        assert_eq!(fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap(), "+pids");
        assert_eq!(fs::read_to_string(folder.join("a-1/pids.max")).unwrap(), "7");
        assert_eq!(groups.leftover("a-1"), (true, false));
        assert_eq!(groups.leftover("a-2"), (false, false));
    }

    #[test]
    fn a_plan_with_an_unknown_controller_is_refused() {
        let groups = Cgroups { controllers: Vec::new() };
        let plan = CgroupPlan { controllers: vec!["memory".to_owned()], memory_bytes: 1, tasks: 7 };
        assert!(groups.create("a-1", &plan).is_err());
    }
}
