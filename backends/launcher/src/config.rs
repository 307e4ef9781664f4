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
    /// The program that runs jobs of this kind.
    pub(crate) fn engine(&self, kind: EngineKind) -> Option<&Path> {
        self.engines.iter().find(|(k, _)| *k == kind).map(|(_, path)| path.as_path())
    }
}
