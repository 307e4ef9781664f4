//! The control group of one attempt: its limits, its members, its end.

use crate::cgroup::{Controller, Version};
use crate::io_limit::{self, Disk};
use crate::syscall;
use decores_sandbox::plan::CgroupPlan;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A job yields to the node when both want the processor: half the usual weight.
const CPU_SHARES_V1: u64 = 512;
const CPU_WEIGHT_V2: u64 = 50;
/// The kernel rounds a number of bytes down to whole pages, of at most this size.
const LARGEST_PAGE: u64 = 64 << 10;
/// Groups below a container's that are looked into.
const MOST_BELOW: usize = 4096;
/// How often removing a group is tried: the kernel takes a moment to let go of dead processes.
pub(crate) const PATIENCE: u32 = 200;
/// Milliseconds between two tries.
pub(crate) const PAUSE_MS: i32 = 5;

/// The group of one attempt, in every hierarchy it has a part in.
#[derive(Debug, Default)]
pub(crate) struct JobCgroup {
    parts: Vec<(Controller, PathBuf)>,
}

impl JobCgroup {
    /// The group of these folders.
    pub(crate) const fn of(parts: Vec<(Controller, PathBuf)>) -> Self {
        Self { parts }
    }

    /// Makes the group in one more hierarchy, and sets its limits there.
    pub(crate) fn add_controller(
        &mut self,
        controller: &Controller,
        name: &str,
        plan: &CgroupPlan,
        disk: Option<Disk>,
    ) -> io::Result<()> {
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
        if controller.name == "io" {
            return io_limit::set(disk, controller.version, &folder, plan.io_bytes);
        }
        limits(controller, plan, is_container(&folder))?.iter().try_for_each(|limit| limit.set(&folder))
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

    /// Its folders.
    #[cfg(test)]
    pub(crate) fn folders(&self) -> Vec<&Path> {
        self.parts.iter().map(|(_, folder)| folder.as_path()).collect()
    }

    /// Names of its controllers, in the plan's order.
    pub(crate) fn controllers(&self) -> Vec<&str> {
        self.parts.iter().map(|(c, _)| c.name).collect()
    }

    /// Whether it is there in any hierarchy.
    pub(crate) const fn exists(&self) -> bool {
        !self.parts.is_empty()
    }

    /// As much of it as is still there.
    pub(crate) fn what_exists(&self) -> Self {
        Self::of(self.parts.iter().filter(|(_, folder)| may_exist(folder)).cloned().collect())
    }

    /// Whether any process is in it, as far as can be told: what cannot be read is not empty.
    pub(crate) fn holds_any(&self) -> bool {
        self.trees().iter().any(|folder| match fs::read(folder.join("cgroup.procs")) {
            Ok(members) => !members.is_empty(),
            // The group has gone, before it was opened or after.
            Err(e) => !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)),
        })
    }

    /// Whether its pages are kept from swap. Version 1 cannot: `memory.swappiness` governs only what the group
    /// reclaims of itself, and even a swap limit at the memory limit lets the machine's own reclaim swap it out.
    pub(crate) fn closed_to_swap(&self) -> bool {
        self.memory().is_some_and(|(controller, folder)| {
            controller.version == Version::V2 && read_number(&folder.join("memory.swap.max")) == Some(0)
        })
    }

    /// Kills every process inside.
    pub(crate) fn kill_all(&self) {
        for folder in self.trees() {
            for pid in members(&folder) {
                let _ = syscall::kill(pid);
            }
        }
    }

    /// Its folders, and those that a runtime has made below a container's; a folder comes before what is below it.
    fn trees(&self) -> Vec<PathBuf> {
        self.parts.iter().flat_map(|(_, folder)| tree(folder)).collect()
    }

    /// Whether the out-of-memory killer struck.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.memory().is_some_and(|(controller, folder)| {
            let file = match controller.version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            };
            tree(folder).iter().any(|folder| {
                let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
                text.lines().filter_map(|l| l.strip_prefix("oom_kill ")).any(|n| n.trim() != "0")
            })
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

    /// Ends what is inside and removes the group, with all below where it is a container's; in any other, groups that
    /// something else made inside it stay, and it too.
    ///
    /// # Errors
    /// If a part could not be removed in so many tries; the others are tried still.
    pub(crate) fn remove(&self, tries: u32) -> io::Result<()> {
        let mut result = Ok(());
        for (_, folder) in &self.parts {
            result = result.and(self.remove_part(folder, tries));
        }
        result
    }

    fn remove_part(&self, folder: &Path, tries: u32) -> io::Result<()> {
        for left in (0..tries).rev() {
            let below = tree(folder);
            below.iter().skip(1).rev().for_each(|folder| drop(fs::remove_dir(folder)));
            match fs::remove_dir(folder) {
                Err(e) if e.kind() != io::ErrorKind::NotFound && left == 0 => return Err(e),
                Err(e) if e.kind() != io::ErrorKind::NotFound => {}
                _ => return Ok(()),
            }
            self.kill_all();
            // Version 1 has nothing that tells when a group is empty.
            syscall::poll(&[], PAUSE_MS)?;
        }
        Ok(())
    }
}

/// One file of a group, and what goes in.
struct Limit {
    file: &'static str,
    value: u64,
    /// Whether kernels may lack the file.
    optional: bool,
}

impl Limit {
    const fn new(file: &'static str, value: u64) -> Self {
        Self { file, value, optional: false }
    }

    const fn optional(file: &'static str, value: u64) -> Self {
        Self { file, value, optional: true }
    }

    /// Sets it and reads it back.
    fn set(&self, folder: &Path) -> io::Result<()> {
        let file = folder.join(self.file);
        if self.optional && !file.exists() {
            return Ok(());
        }
        fs::write(&file, self.value.to_string())?;
        let held = read_number(&file);
        let room = if self.value < LARGEST_PAGE { 0 } else { LARGEST_PAGE };
        if held.is_none_or(|held| held > self.value || self.value - held > room) {
            return Err(io::Error::other(format!("the kernel does not hold `{}` at {}", self.file, self.value)));
        }
        Ok(())
    }
}

fn limits(controller: &Controller, plan: &CgroupPlan, is_container: bool) -> io::Result<Vec<Limit>> {
    Ok(match (controller.name, controller.version) {
        ("memory", Version::V1) => vec![
            Limit::new("memory.limit_in_bytes", plan.memory_bytes),
            Limit::optional("memory.memsw.limit_in_bytes", plan.memory_bytes),
            Limit::optional("memory.swappiness", 0),
        ],
        ("memory", Version::V2) => vec![
            Limit::new("memory.max", plan.memory_bytes),
            Limit::optional("memory.swap.max", 0),
            // An engine ends as a whole; a container's helper has to tell of its end.
            Limit::optional("memory.oom.group", u64::from(!is_container)),
        ],
        ("pids", _) => vec![Limit::new("pids.max", plan.tasks.into())],
        ("cpu", version) => {
            let (share, quota) = match version {
                Version::V1 => (Limit::new("cpu.shares", CPU_SHARES_V1), "cpu.cfs_quota_us"),
                Version::V2 => (Limit::new("cpu.weight", CPU_WEIGHT_V2), "cpu.max"),
            };
            // Of a period of 100 ms, which is the kernel's own; old ones can be built without.
            let quota = Limit::optional(quota, u64::from(plan.cpu_percent) * 1000);
            if plan.cpu_percent == 0 { vec![share] } else { vec![share, quota] }
        }
        (other, _) => return Err(io::Error::other(format!("no limit is known for controller `{other}`"))),
    })
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

/// Whether a folder is there; what cannot be looked at is.
pub(crate) fn may_exist(folder: &Path) -> bool {
    folder.try_exists().unwrap_or(true)
}

/// Whether a group is that of an attempt's container, beside its engine's.
fn is_container(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_encoded_bytes().contains(&b'.'))
}

/// A group's folder and, if it is a container's, all below it.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let is_container = is_container(folder);
    let (mut all, mut next) = (vec![folder.to_owned()], 0);
    while let Some(above) = all.get(next).filter(|_| is_container && next < MOST_BELOW) {
        let entries = fs::read_dir(above).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let below: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        all.extend(below);
        next += 1;
    }
    all
}

fn members(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn memory(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, JobCgroup) {
        let tree = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(tree.path().join(name), text).unwrap());
        let place = tree.path().to_owned();
        let controller = Controller { name: "memory", version, mount: place.clone(), folder: place.clone() };
        (tree, JobCgroup::of(vec![(controller, place)]))
    }

    #[test]
    fn only_version_2_keeps_pages_from_swap() {
        let closed = [("memory.swap.max", "0\n")];
        assert!(memory(Version::V2, &closed).1.closed_to_swap());
        assert!(!memory(Version::V2, &[("memory.swap.max", "max\n")]).1.closed_to_swap());
        assert!(!memory(Version::V2, &[]).1.closed_to_swap());
        let v1 = [("memory.swappiness", "0\n"), ("memory.memsw.limit_in_bytes", "1\n"), closed[0]];
        assert!(!memory(Version::V1, &v1).1.closed_to_swap());
        assert!(!JobCgroup::default().closed_to_swap());
    }

    #[test]
    fn a_limit_that_the_kernel_does_not_hold_is_refused() {
        // What is written here is never read back.
        assert!(Limit::new("null", 7).set(Path::new("/dev")).is_err());
        assert!(Limit::new("absent", 7).set(Path::new("/proc")).is_err());
        assert!(Limit::optional("absent", 7).set(Path::new("/proc")).is_ok());
    }
}
