//! One container job: sealed as a client seals it, run by the launcher, and what came back opened again.

use crate::careless::{self, Left, Plain};
use crate::probe::Mission;
use crate::prober::mission_bytes;
use crate::probes::results::{DOTS, INPUT_DOTS, NO_DOTS};
use crate::wasm::Jails;
use anyhow::{Context as _, Result};
use decores_keys::payload::{Head, JobBinding, ResultBinding, SectionKind, StreamOpener, StreamSealer, seal_job};
use decores_keys::{Recipient, XWingKey};
use decores_launcher::{EngineDescriptors, Launched};
use decores_sandbox::plan::plan;
use decores_sandbox::protocol::{EngineEvent, EngineJob, Exit};
use decores_sandbox::{Hole, IsolationPlan};
use decores_system::SystemRandom;
use decores_types::bundle::{self, InputManifest, Item, Manifest as _, OutputManifest, PRELUDE, RelPath};
use decores_types::job::EngineKind;
use decores_types::{Attempt, CommitmentKey, ConsumerId, Digest, JobId, JobSpec, Protection, Reason};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

const INPUT: &[u8] = b"input";
/// How an engine ends what it takes no part of.
const REFUSALS: [Reason; 2] = [Reason::LimitOutput, Reason::PayloadInvalid];
/// Bytes of a log that are shown.
const MOST_LOG: usize = 1000;

/// One job, sealed as a client seals it.
pub(crate) struct Sealed {
    job: EngineJob,
    plan: IsolationPlan,
    payload: Vec<u8>,
    offer_key: XWingKey,
    output_key: XWingKey,
    /// Whether an engine without care takes it.
    careless: bool,
}

/// Seals a job that carries out a mission.
///
/// # Errors
/// If there is no plan for it here.
pub(crate) fn sealed(jails: &Jails<'_>, image: &[u8], mut mission: Mission) -> Result<Sealed> {
    let random = SystemRandom;
    let (offer_key, output_key) = (XWingKey::generate(1, &random)?, XWingKey::generate(1, &random)?);
    let commitment = CommitmentKey::random(&random);
    let mut spec = JobSpec {
        version: 1,
        engine: EngineKind::Container,
        protection: Protection::Container,
        limits: crate::container::limits(),
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
    crate::container::from_inside(&mut mission.world, &plan, &mission.holes);
    let stdin = mission_bytes(&mission)?;
    let dots = mission.probes.iter().any(|probe| probe == INPUT_DOTS);
    let (input, digest) = input(&stdin, dots)?;
    spec.input = commitment.commit("input", &digest);
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
    sealer.write_all(&input)?;
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
    let careless = jails.holes.contains(&Hole::OutputChecks);
    let payload = if careless { plain(stdin, dots)? } else { payload };
    Ok(Sealed { job, plan, payload, offer_key, output_key, careless })
}

/// Manifest and contents, and the manifest's digest; with a name in it that leads out of its folder, if wanted.
fn input(stdin: &[u8], dots: bool) -> Result<(Vec<u8>, Digest)> {
    let item = |content: &[u8]| Item { sha256: Digest::of(content).into(), size: content.len() as u64 };
    let Item { sha256, size } = item(INPUT);
    let file = bundle::File { path: RelPath::parse(NO_DOTS)?, sha256, size };
    let files = if dots { vec![file] } else { Vec::new() };
    let manifest = InputManifest { args: Vec::new(), env: BTreeMap::new(), files, stdin: item(stdin) };
    let mut prelude = manifest.prelude()?;
    if let Some(name) = prelude.windows(NO_DOTS.len()).position(|part| part == NO_DOTS.as_bytes()) {
        prelude.iter_mut().skip(name).zip(DOTS.bytes()).for_each(|(place, byte)| *place = byte);
    }
    let digest = Digest::of(prelude.get(PRELUDE..).unwrap_or_default());
    let files = if dots { INPUT } else { &[] };
    Ok(([&prelude, stdin, files].concat(), digest))
}

/// The same for an engine without care, in plain.
fn plain(stdin: Vec<u8>, dots: bool) -> Result<Vec<u8>> {
    let (mut files, mut contents) = (Vec::new(), Vec::new());
    for (inside, file) in crate::image::files()? {
        let content = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        files.push((inside, content.len()));
        contents.extend(content);
    }
    let document = serde_json::to_vec(&Plain { files, input: dots.then(|| DOTS.to_owned()), stdin })?;
    Ok([u32::try_from(document.len())?.to_be_bytes().as_slice(), &document, &contents].concat())
}

/// What came back of a job.
pub(crate) struct Outcome {
    pub(crate) end: String,
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) left: Left,
    /// Why the engine gave no output.
    pub(crate) refused: Option<Reason>,
}

/// Has it run.
///
/// # Errors
/// If nothing comes back that can be read.
pub(crate) fn carry_out(jails: &Jails<'_>, sealed: Sealed) -> Result<Outcome> {
    let Sealed { job, plan, payload: bytes, offer_key, output_key, careless } = sealed;
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
    if !careless {
        job_write.write_all(&job.to_bytes()?)?;
        job_write.write_all(offer_key.seed().expose())?;
    }
    drop(job_write);
    let mut events = String::new();
    events_read.read_to_string(&mut events)?;
    let exit = exit.blocking_recv().context("the launcher has ended")?;
    let last = events.lines().last().map(|line| EngineEvent::parse(line.as_bytes())).transpose()?;
    if careless {
        return told(output, exit);
    }
    let binding =
        ResultBinding { attempt: job.attempt, consumer: job.consumer, job: job.job, spec: job.spec.digest()? };
    let binding = binding.digest()?;
    let output = open(output, SectionKind::Output, &output_key, &binding)?;
    let (manifest, stdout) = output.map(|plain| parts(&plain)).transpose()?.unzip();
    logs.seek(SeekFrom::Start(0))?;
    let logs = open(logs, SectionKind::Logs, &output_key, &binding)?.unwrap_or_default();
    let files = manifest.into_iter().flat_map(|manifest| manifest.files);
    let files = files.map(|file| (file.path.as_str().to_owned(), file.size)).collect();
    let left = Left { files, log: logs.len() as u64, dots: false };
    let refused = match &last {
        Some(EngineEvent::Finished(finished)) => Some(finished.reason).filter(|reason| REFUSALS.contains(reason)),
        _ => None,
    };
    let logs = String::from_utf8_lossy(logs.get(..logs.len().min(MOST_LOG)).unwrap_or_default()).into_owned();
    let end = format!("last event {last:?}, {exit:?}, logs `{}`", logs.trim());
    Ok(Outcome { end, exit, stdout: stdout.unwrap_or_default(), left, refused })
}

/// What an engine without care says.
fn told(mut output: File, exit: Exit) -> Result<Outcome> {
    output.seek(SeekFrom::Start(0))?;
    let told = serde_json::from_reader(&output);
    let careless::Told { stdout, left, end } = told.with_context(|| format!("an engine said nothing: {exit:?}"))?;
    Ok(Outcome { end, exit, stdout, left, refused: None })
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

/// The manifest, and standard output, which comes first.
fn parts(plain: &[u8]) -> Result<(OutputManifest, Vec<u8>)> {
    let prelude = plain.get(..PRELUDE).context("an output without a manifest")?;
    let length = bundle::manifest_len(prelude.try_into()?)?;
    let rest = plain.get(PRELUDE..).unwrap_or_default();
    let (manifest, contents) = rest.split_at_checked(length).context("an output that ends early")?;
    let manifest = OutputManifest::parse(manifest)?;
    let stdout = contents.get(..usize::try_from(manifest.stdout.size)?).context("an output that ends early")?.to_vec();
    Ok((manifest, stdout))
}
