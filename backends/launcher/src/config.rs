//! What the launcher is told once, at fork.

use crate::process::Users;
use decores_sandbox::container::RANGE;
use decores_sandbox::{Hole, IdRange, Runtime, SandboxConfig};
use decores_types::Limits;
use decores_types::job::EngineKind;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How containers are run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containers {
    /// What runs them.
    pub runtime: Runtime,
    /// The program `decores-helper`.
    pub helper: PathBuf,
    /// First user id of the ranges, one for each slot.
    pub first_range: u32,
}

impl Containers {
    /// The range of a slot; the trial's lies behind that of the last one.
    pub(crate) fn range(&self, offset: u32) -> Option<IdRange> {
        let first = offset.checked_mul(RANGE).and_then(|ids| self.first_range.checked_add(ids))?;
        first.checked_add(RANGE).map(|_| IdRange { first, count: RANGE })
    }
}

/// Fixed at fork; no request can change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LauncherConfig {
    /// The program of each engine. Requests name a kind, never a path.
    pub engines: Vec<(EngineKind, PathBuf)>,
    /// How containers are run, or why they are not.
    pub containers: Result<Containers, String>,
    /// Folder that jails are mounted under, in the jail's own mount namespace; made if absent.
    pub jails: PathBuf,
    /// Folder that encrypted scratches lie in, as ciphertext; made if absent.
    pub scratch: PathBuf,
    /// First user id that jobs may get.
    pub first_uid: u32,
    /// How many user ids there are from there on, and how many jobs may live at once.
    pub slots: u32,
    /// The most bytes a second that a plan may let a group read from, and write to, the disk of the scratch folder.
    pub io_bytes: u64,
    /// The largest limits a plan may hold.
    pub max_limits: Limits,
    /// The longest deadline a plan may hold.
    pub max_deadline_ms: u64,
    /// Whether this is a node's launcher: it owns the folder of jails, removes what a killed one left in it, and
    /// serves nothing while another owns it. One that only probes (`doctor`) owns and removes nothing.
    pub owner: bool,
    /// Mechanisms left out, to show that the escape table can fail. An owner with any serves nothing; without ownership
    /// only a launcher with some starts engines.
    pub holes: Vec<Hole>,
}

/// File names of the programs, beside each other.
const WASM_ENGINE: &str = "decores-engine-wasm";
const CONTAINER_ENGINE: &str = "decores-engine-container";
const HELPER: &str = "decores-helper";

impl LauncherConfig {
    /// That of a node: with the programs of this folder, and containers run by `runtime`, if by any.
    ///
    /// # Errors
    /// If the engine is missing that no node is without; one that containers need is only told of.
    pub fn of_node(
        sandbox: &SandboxConfig,
        programs: &Path,
        runtime: Option<Runtime>,
        jails: PathBuf,
        scratch: PathBuf,
    ) -> Result<Self, String> {
        let find = |name: &str| {
            let path = programs.join(name);
            if path.is_file() { Ok(path) } else { Err(format!("`{}` is missing", path.display())) }
        };
        let mut engines = vec![(EngineKind::Wasm, find(WASM_ENGINE)?)];
        let both = runtime
            .ok_or_else(|| "they are switched off".to_owned())
            .and_then(|runtime| Ok((runtime, find(CONTAINER_ENGINE)?, find(HELPER)?)));
        let containers = both.map(|(runtime, engine, helper)| {
            engines.push((EngineKind::Container, engine));
            Containers { runtime, helper, first_range: sandbox.first_range }
        });
        let max = sandbox.max_limits;
        Ok(Self {
            engines,
            containers,
            jails,
            scratch,
            first_uid: sandbox.first_uid,
            slots: u32::try_from(sandbox.slots).unwrap_or(u32::MAX),
            io_bytes: sandbox.io_bytes,
            max_limits: max,
            max_deadline_ms: max.wall_ms.saturating_add(max.compile_ms).saturating_add(sandbox.overhead_ms),
            owner: true,
            holes: Vec::new(),
        })
    }

    /// The folders that an attempt of this name has while it lives; the jail's is made first and removed last.
    pub(crate) fn folders(&self, name: &str) -> [PathBuf; 2] {
        [self.scratch.join(name), self.jails.join(name)]
    }

    /// Whether jobs may get this user id.
    pub(crate) fn is_jobs(&self, uid: u32) -> bool {
        uid != 0 && uid.checked_sub(self.first_uid).is_some_and(|offset| offset < self.slots)
    }

    /// Whether these are a job's and nobody else's.
    pub(crate) fn are_jobs(&self, users: Users) -> bool {
        self.is_jobs(users.uid) && (users.ids.is_none() || users.ids == self.ids_of(users.uid))
    }

    /// The ids that the container of this job's user may have.
    pub(crate) fn ids_of(&self, uid: u32) -> Option<IdRange> {
        let offset = uid.checked_sub(self.first_uid)?;
        self.containers.as_ref().ok()?.range(offset)
    }

    /// The user id that trials run as: no job's.
    pub(crate) const fn trial_uid(&self) -> u32 {
        self.first_uid.saturating_add(self.slots)
    }

    /// Whether it starts engines at all.
    pub(crate) const fn runs_engines(&self) -> bool {
        self.owner || !self.holes.is_empty()
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
            holes: Vec::new(),
            containers: Err("none in this test".to_owned()),
            engines: vec![(EngineKind::Wasm, PathBuf::from("/bin/engine"))],
            jails: home.join("jails"),
            scratch: home.join("scratch"),
            first_uid: 1000,
            slots: 2,
            io_bytes: 1 << 30,
            max_limits: Limits::default(),
            max_deadline_ms: 1_000_000,
        }
    }
}
