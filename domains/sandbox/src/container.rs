//! Containers: what the launcher, the helper that runs one, and the engine say to each other.
//!
//! The helper is started once for each container, as `decores-helper container`, in process and mount namespaces of its
//! own and in the container's control group, with these descriptors and nothing else:
//!
//! | fd | |
//! |---|---|
//! | 3 | canonical JSON [`RunTask`] of the launcher's, read to its end |
//! | 4 | stream socket to the engine: one request, answers |
//! | 5 | one JSON [`RunReport`] for the launcher, written before the container's program starts |
//! | 6 | the scratch: a mount that is attached nowhere, made with `open_tree` |
//!
//! The engine finds its end of the socket at [`FD_RUNNER`]. It sends length (4 bytes, big-endian) and JSON of one
//! [`RunRequest`]; with the first byte come three descriptors: the program's standard input, output and error. The helper
//! answers with JSON lines: [`RunAnswer::Started`], then one of the others. If the engine closes its side, the container ends.
//!
//! The engine has unpacked the image to `rootfs` below the scratch, and made the folders `in`, `out` and `tmp` beside it.

use crate::host::Namespace;
use crate::plan::ContainerPlan;
use decores_types::Protection;
use decores_types::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The engine's descriptor of the socket to the helper.
pub const FD_RUNNER: i32 = 8;
/// The helper's descriptor of its task.
pub const FD_TASK: i32 = 3;
/// The helper's descriptor of the socket to the engine.
pub const FD_ENGINE: i32 = 4;
/// The helper's descriptor for its report.
pub const FD_REPORT: i32 = 5;
/// The helper's descriptor of the scratch.
pub const FD_SCRATCH: i32 = 6;
/// Largest [`RunTask`] and [`RunReport`], in bytes.
pub const MAX_TASK: usize = 64 << 10;
/// Largest [`RunRequest`], in bytes; arguments and environment have a limit of the kernel's too.
pub const MAX_REQUEST: usize = 2 << 20;
/// Largest [`RunAnswer`] line, in bytes.
pub const MAX_ANSWER: usize = 4096;
/// How many user ids a job's range has.
pub const RANGE: u32 = 1 << 16;
/// Tasks a container may have.
pub const CONTAINER_TASKS: u32 = 512;
/// Longest version of a runtime, in characters.
pub const MAX_VERSION: usize = 100;
/// Namespaces that a container has of its own, sorted.
pub const NAMESPACES: [Namespace; 7] = [
    Namespace::Cgroup,
    Namespace::Ipc,
    Namespace::Mount,
    Namespace::Net,
    Namespace::Pid,
    Namespace::User,
    Namespace::Uts,
];
/// Folders that an image's root must have as real folders; the engine makes them, the helper looks again.
pub const MOUNT_POINTS: [&str; 6] = ["dev", "in", "out", "proc", "sys", "tmp"];

/// The programs that can run a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// The library, inside the helper.
    Libcontainer,
    /// `runc`.
    Runc,
    /// gVisor.
    Runsc,
    /// Kata Containers.
    Kata,
}

impl Runtime {
    /// What a job that it runs may claim.
    pub const fn protection(self) -> Protection {
        match self {
            Self::Libcontainer | Self::Runc | Self::Runsc => Protection::Container,
            Self::Kata => Protection::Vm,
        }
    }

    /// Whether it runs programs on a kernel of its own, whose hold on them cannot be read from this machine's.
    #[must_use]
    pub const fn own_kernel(self) -> bool {
        matches!(self, Self::Runsc | Self::Kata)
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Libcontainer => "libcontainer",
            Self::Runc => "runc",
            Self::Runsc => "runsc",
            Self::Kata => "kata",
        })
    }
}

/// User ids of the host's that nothing else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What the launcher tells the helper about one container. Nothing in it comes from the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunTask {
    /// The name of the attempt's traces.
    pub name: String,
    /// What runs it.
    pub runtime: Runtime,
    /// The job's own user on the host: owns the files; the container's user is mapped to it.
    pub uid: u32,
    /// What the container's other users are mapped to; absent without root: it has one user then, 0.
    pub ids: Option<IdRange>,
    /// Milliseconds after which the helper ends the container.
    pub wall_ms: u64,
    /// Tasks the container may have.
    pub tasks: u32,
    /// Bytes of memory the container may have; its files included.
    pub memory_bytes: u64,
    /// Controllers whose limits hold for the helper's own control group, which the container must stay in or below.
    pub cgroup: Vec<String>,
    /// Mechanisms left out, to show that the escape table can fail. Always empty in a node.
    pub holes: Vec<crate::Hole>,
}

impl RunTask {
    /// Its one encoding.
    ///
    /// # Errors
    /// If it does not serialise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_vec(self)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If it is anything but a task in its one encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, CanonicalError> {
        canonical::from_slice(bytes, MAX_TASK)
    }
}

/// What the engine asks the helper for: the container's program. Checked as what a stranger sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunRequest {
    /// Program and arguments; the program is looked for along the container's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The folder it starts in, absolute.
    pub cwd: String,
    /// Its user inside the container.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What the helper answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "answer")]
pub enum RunAnswer {
    /// The program is running.
    Started,
    /// It ended.
    Ended {
        /// Its exit code, if it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Whether the time limit ended it.
        late: bool,
        /// Milliseconds it ran.
        #[serde(rename = "wallMs")]
        wall_ms: u64,
    },
    /// The request is not one that is carried out, or the image has no such program.
    Refused {
        /// Why.
        why: String,
    },
    /// The machine did not do it.
    Failed {
        /// Why.
        why: String,
    },
}

/// What holds a container, as the helper read it back from the kernel before the program started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunReport {
    /// What runs it.
    pub runtime: Runtime,
    /// Its version, as it says.
    pub version: String,
    /// Namespaces of its own, sorted. Those of a runtime that keeps a kernel of its own are that runtime's.
    pub namespaces: Vec<Namespace>,
    /// Whether a seccomp filter is in force.
    pub seccomp: bool,
    /// Whether it has no capabilities and can get none.
    pub powerless: bool,
    /// Whether its users are mapped to a range that no other job has.
    pub own_ids: bool,
    /// Controllers whose limits hold for it, sorted.
    pub cgroup: Vec<String>,
}

/// What the helper tells the launcher, beside or instead of a report, of a container that the machine did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunFailure {
    /// Why, for the operator.
    pub failed: String,
}

impl RunReport {
    /// Reads one, with or without a line's end.
    ///
    /// # Errors
    /// If it is no report, or longer than [`MAX_TASK`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CanonicalError> {
        canonical::from_json(bytes.trim_ascii_end(), MAX_TASK)
    }

    /// Whether it says just what was planned, in words that stand in a receipt. What a runtime with a kernel of its own
    /// holds its program with cannot be read from this machine's, so nothing is to be said of that.
    #[must_use]
    pub fn is_of(&self, plan: &ContainerPlan) -> bool {
        let read = !plan.runtime.own_kernel();
        let namespaces = if read { NAMESPACES.as_slice() } else { &[] };
        let mut controllers = plan.cgroup.as_ref().map_or_else(Vec::new, |cgroup| cgroup.controllers.clone());
        controllers.sort();
        self.runtime == plan.runtime
            && (1..=MAX_VERSION).contains(&self.version.len())
            && self.version.bytes().all(|b| b.is_ascii_graphic())
            && self.namespaces == namespaces
            && self.seccomp == read
            && self.powerless == read
            && self.own_ids == (read && plan.ids.is_some())
            && self.cgroup == controllers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::CgroupPlan;

    fn plan(runtime: Runtime) -> ContainerPlan {
        let controllers = ["memory", "pids"].map(str::to_owned).to_vec();
        let cgroup = CgroupPlan { controllers, memory_bytes: 1, tasks: 1, io_bytes: 1, cpu_percent: 1 };
        ContainerPlan { runtime, ids: Some(IdRange { first: 1, count: 1 }), cgroup: Some(cgroup) }
    }

    fn report() -> RunReport {
        RunReport {
            runtime: Runtime::Runc,
            version: "1.1.5+ds1".to_owned(),
            namespaces: NAMESPACES.to_vec(),
            seccomp: true,
            powerless: true,
            own_ids: true,
            cgroup: ["memory", "pids"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn a_report_that_says_anything_but_the_plan_is_not_of_it() {
        let plan = plan(Runtime::Runc);
        assert!(report().is_of(&plan));
        let changes: [fn(&mut RunReport); 15] = [
            |r| r.runtime = Runtime::Libcontainer,
            |r| r.version = String::new(),
            |r| r.version = "1\u{1b}[2J".to_owned(),
            |r| r.version = "1".repeat(101),
            |r| r.namespaces.clear(),
            |r| r.namespaces.reverse(),
            |r| r.namespaces.truncate(6),
            |r| r.namespaces.push(Namespace::Uts),
            |r| r.seccomp = false,
            |r| r.powerless = false,
            |r| r.own_ids = false,
            |r| r.cgroup.truncate(1),
            |r| r.cgroup.push("X Y".to_owned()),
            |r| r.cgroup.reverse(),
            |r| r.cgroup.push("pids".to_owned()),
        ];
        for change in changes {
            let mut report = report();
            change(&mut report);
            assert!(!report.is_of(&plan), "{report:?}");
        }
        assert!(!report().is_of(&ContainerPlan { ids: None, ..plan.clone() }));
        assert!(!report().is_of(&ContainerPlan { cgroup: None, ..plan }));
    }

    #[test]
    fn of_a_kernel_of_its_own_nothing_is_said_but_its_control_groups() {
        let plan = plan(Runtime::Runsc);
        let nothing =
            RunReport { seccomp: false, powerless: false, own_ids: false, namespaces: Vec::new(), ..report() };
        let nothing = RunReport { runtime: Runtime::Runsc, ..nothing };
        assert!(nothing.is_of(&plan));
        assert!(!RunReport { seccomp: true, ..nothing.clone() }.is_of(&plan));
        assert!(!RunReport { own_ids: true, ..nothing.clone() }.is_of(&plan));
        assert!(!RunReport { namespaces: NAMESPACES.to_vec(), ..nothing.clone() }.is_of(&plan));
        assert!(!RunReport { cgroup: Vec::new(), ..nothing }.is_of(&plan));
    }
}
