//! The jail of the wasm engine: the launcher's own code starts this program in the engine's place, under the plan that
//! a wasm job gets here.

use crate::probe::{End, Kind, Mission, Place, Told, World};
use crate::prober::mission_bytes;
use crate::probes;
use crate::stage::Stage;
use crate::table::Finding;
use anyhow::{Context as _, Result, bail};
use decores_launcher::{EngineDescriptors, Launched, LauncherHandle};
use decores_sandbox::plan::plan;
use decores_sandbox::{Hole, HostCapabilities, IsolationPlan, SandboxConfig};
use decores_system::SystemRandom;
use decores_types::job::{EngineKind, OutputKey};
use decores_types::{Attempt, Base64, Commitment, Digest, JobId, JobSpec, KeyId, Limits, Protection, Scratch};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::path::PathBuf;

/// What an engine's process may have open; see `decores_sandbox::protocol`.
const DESCRIPTORS: [i32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
/// The descriptor of its sealed logs.
const LOGS: i32 = 7;
/// How many the launcher lets an engine open.
const OPEN_FILES: u32 = 256;
/// Tasks of an engine: the plan's, or where no control group counts them the user's.
const TASKS: u32 = 16;
/// Looks at whether a neighbour is ready, 5 ms apart.
const LOOKS: u32 = 2000;

/// A launcher and its host, as a node has them.
pub(crate) struct Jails<'a> {
    pub(crate) launcher: &'a LauncherHandle,
    pub(crate) host: &'a HostCapabilities,
    pub(crate) config: &'a SandboxConfig,
    pub(crate) holes: &'a [Hole],
}

/// Small, so that what goes beyond is soon reached.
pub(crate) fn limits() -> Limits {
    Limits {
        memory_bytes: 16 << 20,
        wall_ms: 120_000,
        compile_ms: 1000,
        output_bytes: 4 << 20,
        log_bytes: 64 << 10,
        scratch_bytes: 8 << 20,
    }
}

impl Jails<'_> {
    /// Runs these probes, each that may take its watcher along in a jail of its own.
    ///
    /// # Errors
    /// If a jail cannot be made.
    pub(crate) fn run(&self, world: &World, names: &[&str]) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        for names in in_turns(names) {
            let probes = names.iter().map(|name| (*name).to_owned()).collect();
            found.extend(self.jail(Mission { probes, holes: self.holes.to_vec(), world: world.clone() })?);
        }
        Ok(found)
    }

    fn plan(&self, slot: u32) -> Result<IsolationPlan> {
        let nothing = Commitment::parse(&"0".repeat(64)).context("a commitment")?;
        let spec = JobSpec {
            version: 1,
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            limits: limits(),
            program: nothing,
            input: nothing,
            key_check: Digest::of(b""),
            output_key: OutputKey { id: KeyId::from_bytes([0; 16]), public: Base64(Vec::new()) },
            cache_seconds: 0,
            cache_id: None,
        };
        Ok(plan(JobId::random(&SystemRandom), Attempt(1), &spec, self.host, self.config, slot)?)
    }

    fn start(&self, plan: &IsolationPlan) -> Result<Started> {
        let (job_read, job) = std::io::pipe()?;
        let (events, events_write) = std::io::pipe()?;
        let fds = EngineDescriptors {
            job: job_read.into(),
            events: events_write.into(),
            payload: File::open("/dev/null")?.into(),
            output: tempfile::tempfile()?.into(),
            logs: tempfile::tempfile()?.into(),
            module: None,
        };
        let launched = self.launcher.launch(plan, fds).context("failed to start a jail")?;
        Ok(Started { launched, job, events })
    }

    /// Plants another job, of another user, that holds the secret.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn neighbour(&self, stage: &mut Stage) -> Result<Neighbour> {
        let plan = self.plan(1)?;
        let Started { launched, mut job, events } = self.start(&plan)?;
        let mission = Mission { probes: Vec::new(), holes: Vec::new(), world: stage.world.clone() };
        job.write_all(&mission_bytes(&mission)?)?;
        let ready = (0..LOOKS).any(|_| {
            let is_ready = stage.neighbour_holds_secret(launched.pid);
            // A pause, in which nothing is expected.
            is_ready || crate::syscall::readable(-1, 5).is_err()
        });
        if !ready {
            bail!("another job could not be planted: it does not hold what it was given");
        }
        (stage.world.neighbour, stage.world.neighbour_file) = (launched.pid, PathBuf::from("/scratch/secret"));
        Ok(Neighbour { _held: (job, events) })
    }

    fn jail(&self, mut mission: Mission) -> Result<Vec<Finding>> {
        let plan = self.plan(0)?;
        let Started { launched, mut job, mut events } = self.start(&plan)?;
        let world = &mut mission.world;
        let has_scratch = launched.given.scratch != Scratch::None;
        world.place = Place::Wasm;
        world.folder = if has_scratch { PathBuf::from("/scratch") } else { world.open_folder.clone() };
        // Without a tree of its own it is where it is on the host.
        world.program = if has_scratch { PathBuf::from("/engine") } else { world.program.clone() };
        world.descriptors = DESCRIPTORS.to_vec();
        world.log_descriptor = Some(LOGS);
        world.tasks = plan.cgroup.as_ref().map_or(TASKS, |group| group.tasks);
        world.memory_bytes = plan.cgroup.as_ref().map_or(limits().memory_bytes, |group| group.memory_bytes);
        (world.scratch_bytes, world.open_files) = (plan.scratch_bytes, OPEN_FILES);
        job.write_all(&mission_bytes(&mission)?)?;
        drop(job);
        let mut told = String::new();
        events.read_to_string(&mut told)?;
        let exit = launched.exit.blocking_recv().context("the launcher has ended")?;
        let told: Vec<Told> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let end = |name: &String| {
            let told = told.iter().find(|told| told.probe == *name).map(|told| told.end.clone());
            let lost = || format!("nothing was told of it: the jail's first process ended so: {exit:?}");
            match exit.out_of_memory {
                // The group was ended as a whole.
                true => told.unwrap_or(End::Killed { signal: libc::SIGKILL, dumped: false }),
                false => told.unwrap_or_else(|| End::Unclear { why: lost() }),
            }
        };
        let finding =
            |name: &String| Finding { probe: name.clone(), end: end(name), out_of_memory: exit.out_of_memory };
        Ok(mission.probes.iter().map(finding).collect())
    }
}

struct Started {
    launched: Launched,
    job: PipeWriter,
    events: PipeReader,
}

/// Another job; it ends when this is dropped.
pub(crate) struct Neighbour {
    _held: (PipeWriter, PipeReader),
}

/// First all that can share a jail, then the others one by one.
pub(crate) fn in_turns<'a>(names: &[&'a str]) -> Vec<Vec<&'a str>> {
    let is_alone =
        |name: &&str| probes::named(name).is_some_and(|probe| matches!(probe.kind, Kind::Alone | Kind::Left));
    let (alone, together): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| is_alone(name));
    let turns = std::iter::once(together).chain(alone.into_iter().map(|name| vec![name]));
    turns.filter(|names| !names.is_empty()).collect()
}
