//! What this machine can do for isolation, as found by really trying it.

use crate::container::Runtime;
use decores_types::Swap;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the launcher found by trying; never assumed from a version number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostCapabilities {
    /// Whether the launcher can give each job its own user (it runs as root).
    pub own_users: bool,
    /// Namespaces that can be made, sorted.
    pub namespaces: Vec<Namespace>,
    /// Controllers that limits can be set with: `cpu`, `io`, `memory`, `pids`; sorted.
    pub cgroup: Vec<String>,
    /// The kernel's Landlock ABI; 0 where there is none.
    pub landlock_abi: u32,
    /// Whether seccomp filters can be loaded.
    pub seccomp: bool,
    /// Whether tmpfs takes `noswap`.
    pub tmpfs_noswap: bool,
    /// Whether a scratch of encrypted files can be mounted.
    pub encrypted_scratch: bool,
    /// Whether pages can reach a swap device.
    pub swap: Swap,
    /// What runs containers; absent where they are not run.
    #[serde(default)]
    pub container: Option<ContainerHost>,
    /// Why they are not, for people; absent where they are.
    #[serde(default)]
    pub no_container: Option<String>,
    /// Jobs that may live at once, by the launcher's own configuration.
    #[serde(default)]
    pub slots: u32,
}

/// The program that runs containers here, as a container of its own has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerHost {
    /// What it is.
    pub runtime: Runtime,
    /// Its version, as it says.
    pub version: String,
}

/// A kind of Linux namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// Control groups.
    Cgroup,
    /// System V and POSIX IPC.
    Ipc,
    /// Mounts.
    Mount,
    /// Network: without any interface up.
    Net,
    /// Process ids.
    Pid,
    /// Users.
    User,
    /// Host name.
    Uts,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mount",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::User => "user",
            Self::Uts => "uts",
        })
    }
}
