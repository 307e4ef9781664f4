//! What the launcher is told once, at fork.

use decores_types::Limits;
use decores_types::job::EngineKind;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Fixed at fork; no request can change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LauncherConfig {
    /// The program of each engine. Requests name a kind, never a path.
    pub engines: Vec<(EngineKind, PathBuf)>,
    /// Folder that jails are mounted under, in the jail's own mount namespace; made if absent.
    pub jails: PathBuf,
    /// Folder that encrypted scratches lie in, as ciphertext; made if absent.
    pub scratch: PathBuf,
    /// First user id that jobs may get.
    pub first_uid: u32,
    /// How many user ids there are from there on, and how many jobs may live at once.
    pub slots: u32,
    /// The largest limits a plan may hold.
    pub max_limits: Limits,
    /// The longest deadline a plan may hold.
    pub max_deadline_ms: u64,
    /// Whether this is a node's launcher: it owns the folder of jails, removes what a killed one left in it, and
    /// serves nothing while another owns it. One that only probes (`doctor`) owns and removes nothing.
    pub owner: bool,
}

impl LauncherConfig {
    /// The folders that an attempt of this name has while it lives; the jail's is made first and removed last.
    pub(crate) fn folders(&self, name: &str) -> [PathBuf; 2] {
        [self.scratch.join(name), self.jails.join(name)]
    }

    /// Whether jobs may get this user id.
    pub(crate) fn is_jobs(&self, uid: u32) -> bool {
        uid != 0 && uid.checked_sub(self.first_uid).is_some_and(|offset| offset < self.slots)
    }

    /// The user id that trials run as: no job's.
    pub(crate) const fn trial_uid(&self) -> u32 {
        self.first_uid.saturating_add(self.slots)
    }

    /// The program that runs jobs of this kind.
    pub(crate) fn engine(&self, kind: EngineKind) -> Option<&Path> {
        self.engines.iter().find(|(k, _)| *k == kind).map(|(_, path)| path.as_path())
    }
}

#[cfg(test)]
impl LauncherConfig {
    /// One whose folders lie in `home`.
    pub(crate) fn in_home(home: &Path) -> Self {
        Self {
            owner: true,
            engines: vec![(EngineKind::Wasm, PathBuf::from("/bin/engine"))],
            jails: home.join("jails"),
            scratch: home.join("scratch"),
            first_uid: 1000,
            slots: 2,
            max_limits: Limits::default(),
            max_deadline_ms: 1_000_000,
        }
    }
}
