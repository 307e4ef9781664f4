//! What was observed on the machine.

use decores_types::{Protection, Swap};
use serde::{Deserialize, Serialize};

/// Observed facts; `None` where something could not be observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whether each job gets a user of its own.
    pub own_users: bool,
    /// Names of the namespaces that can be made.
    pub namespaces: Vec<String>,
    /// Names of the cgroup controllers whose limits hold.
    pub cgroup: Vec<String>,
    /// The kernel's Landlock ABI; 0 where there is none.
    pub landlock_abi: u32,
    /// Whether system call filters can be loaded.
    pub seccomp: bool,
    /// Whether the scratch can be kept from swap.
    pub tmpfs_noswap: bool,
    /// Whether a scratch of encrypted files can be mounted.
    pub encrypted_scratch: bool,
    /// Whether pages can reach a swap device.
    pub swap: Swap,
    /// What is to run containers; absent where nothing is.
    pub containers: Option<Containers>,
    /// Whether the node's secrets lie in `memfd_secret`; else they are locked by `mlock`.
    pub secret_memory: bool,
    /// Bytes that the node may lock.
    pub memlock_bytes: Option<u64>,
    /// Bytes that the node wants to lock.
    pub arena_bytes: u64,
    /// Where the keystore's root lies.
    pub root: RootPlace,
    /// The kernel's `core_pattern`.
    pub core_pattern: Option<String>,
    /// Whether `init_on_free=1` stands on the kernel's command line; a default built into the kernel is not seen.
    pub init_on_free: Option<bool>,
    /// Whether processes may trace others of the same user (`yama/ptrace_scope`; 0 is yes).
    pub ptrace_scope: Option<u32>,
}

/// A program that is to run containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containers {
    /// Its name.
    pub runtime: String,
    /// What jobs that it runs may claim.
    pub protection: Protection,
    /// Its version; absent where it did not run any.
    pub version: Option<String>,
    /// Why it did not.
    pub why: Option<String>,
}

/// Where the keystore's root lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootPlace {
    /// Derived from a passphrase.
    Passphrase,
    /// A systemd credential.
    Credential,
    /// In a file next to the keys.
    BesideData,
}
