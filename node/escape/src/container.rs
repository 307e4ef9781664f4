//! Containers: the launcher's own code, the real engine and the real helper, with this program as the container's.

use crate::probe::{End, Mission, Place, Told, World};
use crate::prober::mission_bytes;
use crate::table::Finding;
use crate::wasm::{Jails, in_turns};
use anyhow::{Context as _, Result, bail};
use decores_keys::payload::{Head, JobBinding, ResultBinding, SectionKind, StreamOpener, StreamSealer, seal_job};
use decores_keys::{Recipient, XWingKey};
use decores_launcher::{EngineDescriptors, Launched};
use decores_sandbox::container::CONTAINER_TASKS;
use decores_sandbox::plan::plan;
use decores_sandbox::protocol::{EngineEvent, EngineJob, Exit};
use decores_sandbox::{Hole, IsolationPlan};
use decores_system::SystemRandom;
use decores_types::bundle::{self, InputManifest, Item, Manifest as _, OutputManifest, PRELUDE};
use decores_types::job::EngineKind;
use decores_types::{Attempt, CommitmentKey, ConsumerId, Digest, JobId, JobSpec, Limits, Protection};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

/// What a container's program has open.
const DESCRIPTORS: [i32; 3] = [0, 1, 2];
/// How many a container's program may open.
const OPEN_FILES: u32 = 4096;
/// Where a planted hole shows the host's files.
const HOST: &str = "/sys";
/// The process of the helper, which a container without a process namespace of its own sees as the first.
const HELPER: i32 = 1;

fn limits() -> Limits {
    Limits { memory_bytes: 64 << 20, scratch_bytes: 64 << 20, compile_ms: 60_000, ..crate::wasm::limits() }
}

/// Runs these probes in containers, each that may take its watcher along in one of its own.
///
/// # Errors
/// If a container cannot be run.
pub(crate) fn run(jails: &Jails<'_>, image: &[u8], world: &World, names: &[&str]) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for names in in_turns(names) {
        let probes = names.iter().map(|name| (*name).to_owned()).collect();
        found.extend(container(jails, image, Mission { probes, holes: jails.holes.to_vec(), world: world.clone() })?);
    }
    Ok(found)
}

/// A world as a container's program sees it.
fn from_inside(world: &mut World, plan: &IsolationPlan, holes: &[Hole]) {
    world.place = Place::Container;
    (world.folder, world.program) = (PathBuf::from("/tmp"), PathBuf::from(crate::image::PROGRAM));
    (world.descriptors, world.log_descriptor) = (DESCRIPTORS.to_vec(), None);
    if holes.contains(&Hole::Root) {
        world.host = PathBuf::from(HOST);
    }
    if holes.contains(&Hole::PidNamespace) {
        // The helper's own namespace stays: nearer than that is nobody else.
        (world.node, world.launcher, world.neighbour) = (HELPER, HELPER, HELPER);
    }
    let group = plan.container.as_ref().and_then(|container| container.cgroup.as_ref());
    world.tasks = CONTAINER_TASKS;
    world.memory_bytes = group.map_or(limits().memory_bytes, |group| group.memory_bytes);
    (world.scratch_bytes, world.open_files) = (plan.scratch_bytes, OPEN_FILES);
}

/// One job, sealed as a client seals it.
struct Sealed {
    job: EngineJob,
    plan: IsolationPlan,
    payload: Vec<u8>,
    offer_key: XWingKey,
    output_key: XWingKey,
}

fn sealed(jails: &Jails<'_>, image: &[u8], mut mission: Mission) -> Result<Sealed> {
    let random = SystemRandom;
    let (offer_key, output_key) = (XWingKey::generate(1, &random)?, XWingKey::generate(1, &random)?);
    let commitment = CommitmentKey::random(&random);
    let mut spec = JobSpec {
        version: 1,
        engine: EngineKind::Container,
        protection: Protection::Container,
        limits: limits(),
        program: commitment.commit("program", &Digest::of(image)),
        // Told once the mission is complete, which the plan is part of.
        input: commitment.commit("input", &Digest::of(b"")),
        key_check: commitment.check(),
        output_key: output_key.recipient().to_output_key(),
        cache_seconds: 0,
        cache_id: None,
    };
    let job = JobId::random(&random);
    let plan = plan(job, Attempt(1), &spec, jails.host, jails.config, 0)?;
    from_inside(&mut mission.world, &plan, &mission.holes);
    let stdin = mission_bytes(&mission)?;
    let item = Item { sha256: Digest::of(&stdin).into(), size: stdin.len() as u64 };
    let manifest = InputManifest { args: Vec::new(), env: BTreeMap::new(), files: Vec::new(), stdin: item };
    spec.input = commitment.commit("input", &manifest.digest()?);
    let consumer = ConsumerId::random(&random);
    let offer = Digest::of(b"no offer");
    let binding = JobBinding { consumer, offer, output_key: spec.output_key.id, spec: spec.digest()? };
    let recipient: &Recipient = offer_key.recipient();
    let head = seal_job(recipient, &binding.digest()?, image.len() as u64, None, &commitment, &random)?;
    let mut payload = head.head;
    let mut sealer = StreamSealer::new(&head.program, Some(image.len() as u64), &mut payload)?;
    sealer.write_all(image)?;
    sealer.finish()?;
    let mut sealer = StreamSealer::new(&head.input, None, &mut payload)?;
    sealer.write_all(&[manifest.prelude()?, stdin].concat())?;
    sealer.finish()?;
    let job = EngineJob {
        version: 1,
        job,
        attempt: Attempt(1),
        consumer,
        offer,
        offer_key: recipient.id(),
        offer_epoch: recipient.epoch(),
        spec,
        scratch: Some("/scratch".to_owned()),
        compile_address_space: plan.compile_address_space,
        module: None,
    };
    Ok(Sealed { job, plan, payload, offer_key, output_key })
}

/// What came back of a job.
struct Outcome {
    end: String,
    exit: Exit,
    stdout: Vec<u8>,
}

fn container(jails: &Jails<'_>, image: &[u8], mission: Mission) -> Result<Vec<Finding>> {
    let probes = mission.probes.clone();
    let Outcome { end, exit, stdout } = carry_out(jails, sealed(jails, image, mission)?)?;
    let told = String::from_utf8(stdout)?;
    let told: Vec<Told> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if told.is_empty() && !exit.out_of_memory {
        bail!("a container with probes did not run: {end}");
    }
    let of = |name: &String| told.iter().find(|told| told.probe == *name).map(|told| told.end.clone());
    let lost = || match exit.out_of_memory {
        true => End::Killed { signal: libc::SIGKILL, dumped: false },
        false => End::Unclear { why: format!("nothing was told of it: {end}") },
    };
    let finding = |name: &String| Finding {
        probe: name.clone(),
        end: of(name).unwrap_or_else(lost),
        out_of_memory: exit.out_of_memory,
    };
    Ok(probes.iter().map(finding).collect())
}

fn carry_out(jails: &Jails<'_>, sealed: Sealed) -> Result<Outcome> {
    let Sealed { job, plan, payload: bytes, offer_key, output_key } = sealed;
    let (mut payload, output, mut logs) = (tempfile::tempfile()?, tempfile::tempfile()?, tempfile::tempfile()?);
    payload.write_all(&bytes)?;
    payload.seek(SeekFrom::Start(0))?;
    let (job_read, mut job_write) = std::io::pipe()?;
    let (mut events_read, events) = std::io::pipe()?;
    let fds = EngineDescriptors {
        job: job_read.into(),
        events: events.into(),
        payload: payload.into(),
        output: output.try_clone()?.into(),
        logs: logs.try_clone()?.into(),
        module: None,
    };
    let Launched { exit, .. } = jails.launcher.launch(&plan, fds).context("failed to start a container's engine")?;
    job_write.write_all(&job.to_bytes()?)?;
    job_write.write_all(offer_key.seed().expose())?;
    drop(job_write);
    let mut events = String::new();
    events_read.read_to_string(&mut events)?;
    let exit = exit.blocking_recv().context("the launcher has ended")?;
    let last = events.lines().last().map(|line| EngineEvent::parse(line.as_bytes())).transpose()?;
    let binding =
        ResultBinding { attempt: job.attempt, consumer: job.consumer, job: job.job, spec: job.spec.digest()? };
    let binding = binding.digest()?;
    let stdout = open(output, SectionKind::Output, &output_key, &binding)?.map(|plain| stdout(&plain)).transpose()?;
    logs.seek(SeekFrom::Start(0))?;
    let logs = open(logs, SectionKind::Logs, &output_key, &binding)?.unwrap_or_default();
    let logs = String::from_utf8_lossy(&logs).into_owned();
    let end = format!("last event {last:?}, {exit:?}, logs `{}`", logs.trim());
    Ok(Outcome { end, exit, stdout: stdout.unwrap_or_default() })
}

/// The plaintext of a result; `None` where the engine wrote none.
fn open(mut file: File, section: SectionKind, key: &XWingKey, binding: &Digest) -> Result<Option<Vec<u8>>> {
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(0))?;
    let head = Head::read(&mut file)?;
    let section_key = head.open_single(section, key, binding)?;
    let length = head.header().sections.first().context("a result without a section")?.length;
    let mut opener = StreamOpener::new(&section_key, length, &mut file)?;
    let mut plain = Vec::new();
    opener.read_to_end(&mut plain)?;
    opener.finish()?;
    Ok(Some(plain))
}

/// Standard output, which comes first.
fn stdout(plain: &[u8]) -> Result<Vec<u8>> {
    let prelude = plain.get(..PRELUDE).context("an output without a manifest")?;
    let length = bundle::manifest_len(prelude.try_into()?)?;
    let rest = plain.get(PRELUDE..).unwrap_or_default();
    let (manifest, contents) = rest.split_at_checked(length).context("an output that ends early")?;
    let size = usize::try_from(OutputManifest::parse(manifest)?.stdout.size)?;
    Ok(contents.get(..size).context("an output that ends early")?.to_vec())
}
