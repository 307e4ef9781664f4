//! Running one engine: start it, feed it, listen to it, end it.

use crate::life::{Live, Verdict, cancellation, enter};
use crate::node::Node;
use crate::records::EngineRow;
use crate::slots::Slot;
use decores_blobs::BlobWriter;
use decores_launcher::{EngineDescriptors, Launched};
use decores_sandbox::plan::{IsolationPlan, plan};
use decores_sandbox::protocol::{EngineEvent, EngineJob, Exit, Finished, MAX_EVENT, Scratch};
use decores_types::{JobSpec, JobState, Reason, canonical, chain};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Where the jail shows the scratch.
const SCRATCH: &str = "/scratch";

/// What came of an attempt, before the wipe.
pub(crate) struct Attempted {
    pub(crate) verdict: Verdict,
    pub(crate) slot: Option<Slot>,
    pub(crate) finished: Option<Finished>,
    pub(crate) exit: Option<Exit>,
}

impl Attempted {
    /// An attempt whose engine never started.
    pub(crate) const fn never(verdict: Verdict, slot: Option<Slot>) -> Self {
        Self { verdict, slot, finished: None, exit: None }
    }
}

/// Runs an engine for the attempt, in this place.
pub(crate) async fn run(
    node: &Arc<Node>,
    live: &mut Live,
    slot: Slot,
    cancelled: &mut watch::Receiver<Option<Reason>>,
) -> Attempted {
    enter(node, &mut live.held, JobState::Attesting, Reason::NotRequired).await;
    let record = &live.held.row.record;
    let planned =
        plan(record.job, record.attempt(), &live.held.row.spec, &node.host, &node.config.sandbox, slot.number());
    let plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => return Attempted::never(Verdict::of(refusal.reason()), Some(slot)),
    };
    enter(node, &mut live.held, JobState::Starting, Reason::SlotFree).await;
    let mut attempted = Attempted::never(Verdict::of(Reason::EngineLost), Some(slot));
    let (launched, ends) = match launch(node, &plan).await {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(job = %plan.job, error = chain(&*error), "failed to start an engine");
            return attempted;
        }
    };
    live.held.row.engine = Some(EngineRow { plan: plan.clone(), given: launched.given.clone(), locked: None });
    let stopped = {
        let session = converse(node, live, &plan, ends.job, ends.events, &mut attempted.finished);
        tokio::pin!(session);
        tokio::select! {
            result = &mut session => {
                if let Err(error) = result {
                    tracing::warn!(job = %plan.job, error = chain(&error), "an engine's session broke off");
                }
                None
            }
            reason = cancellation(cancelled) => Some(reason),
        }
    };
    // Whatever it said: when the session is over the engine has nothing left to do.
    end(node, &plan).await;
    let exit = launched.exit.await;
    attempted.exit = exit.ok();
    let locked = live.held.row.engine.as_ref().is_some_and(|engine| engine.locked.is_some());
    // An engine that never closed its jail, or contradicts itself or the spec, is not believed.
    attempted.finished = attempted.finished.filter(|finished| locked && is_credible(finished, &live.held.row.spec));
    attempted.verdict = judge(stopped, attempted.finished.as_ref(), attempted.exit.as_ref());
    keep(node, live, &attempted.verdict, attempted.finished.as_ref(), ends.output, ends.logs);
    attempted
}

/// Ends what is left of an engine; that it is gone already is the usual case.
async fn end(node: &Node, plan: &IsolationPlan) {
    let (launcher, job, attempt) = (node.launcher.clone(), plan.job, plan.attempt);
    match tokio::task::spawn_blocking(move || launcher.kill(job, attempt)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%job, error = chain(&error), "an engine was gone before it was ended"),
        Err(error) => tracing::error!(%job, %error, "failed to end an engine"),
    }
}

/// Our ends of an engine's descriptors.
struct Ends {
    job: UnixStream,
    events: UnixStream,
    output: BlobWriter,
    logs: BlobWriter,
}

type LaunchFailure = Box<dyn std::error::Error + Send + Sync>;

async fn launch(node: &Node, plan: &IsolationPlan) -> Result<(Launched, Ends), LaunchFailure> {
    let names = crate::blobs::names(plan.job, plan.attempt)?;
    let (job, job_end) = StdStream::pair()?;
    let (events, events_end) = StdStream::pair()?;
    job.set_nonblocking(true)?;
    events.set_nonblocking(true)?;
    // The launcher bounds what an engine may write; these writers only name and keep it.
    let output = node.blobs.create(&names.output, u64::MAX)?;
    let logs = node.blobs.create(&names.logs, u64::MAX)?;
    let payload = node.blobs.open_blob(&names.payload)?.ok_or("the sealed payload is gone")?;
    let descriptors = EngineDescriptors {
        job: job_end.into(),
        events: events_end.into(),
        payload: OwnedFd::from(payload),
        output: OwnedFd::from(output.file().try_clone()?),
        logs: OwnedFd::from(logs.file().try_clone()?),
    };
    let (launcher, plan) = (node.launcher.clone(), plan.clone());
    let launched = tokio::task::spawn_blocking(move || launcher.launch(&plan, descriptors)).await??;
    Ok((launched, Ends { job: UnixStream::from_std(job)?, events: UnixStream::from_std(events)?, output, logs }))
}

/// Tells the engine its job and listens until it has finished or gone.
async fn converse(
    node: &Node,
    live: &mut Live,
    plan: &IsolationPlan,
    mut job: UnixStream,
    events: UnixStream,
    finished: &mut Option<Finished>,
) -> io::Result<()> {
    let mut lines = BufReader::new(events.take(64 * MAX_EVENT as u64));
    tell(live, plan, &mut job).await?;
    loop {
        let mut line = Vec::new();
        let read = (&mut lines).take(MAX_EVENT as u64 + 1).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        let event = canonical::from_json(line.trim_ascii_end(), MAX_EVENT).map_err(io::Error::other)?;
        match event {
            EngineEvent::Locked(locked) => {
                if let Some(engine) = &mut live.held.row.engine {
                    engine.locked = Some(locked);
                }
            }
            EngineEvent::Compiling => {
                tracing::debug!(job = %plan.job, "compiling");
            }
            EngineEvent::Started { .. } => enter(node, &mut live.held, JobState::Running, Reason::Started).await,
            EngineEvent::Sealing => enter(node, &mut live.held, JobState::Sealing, Reason::ProgramEnded).await,
            EngineEvent::Finished(end) => {
                *finished = Some(*end);
                return Ok(());
            }
        }
    }
}

async fn tell(live: &Live, plan: &IsolationPlan, job: &mut UnixStream) -> io::Result<()> {
    let row = &live.held.row;
    let recipient = live.key.key.recipient();
    let head = canonical::to_vec(&EngineJob {
        version: 1,
        job: plan.job,
        attempt: plan.attempt,
        consumer: row.record.consumer,
        offer: live.key.digest,
        offer_key: recipient.id(),
        offer_epoch: recipient.epoch(),
        spec: row.spec.clone(),
        scratch: row.engine.as_ref().filter(|e| e.given.scratch != Scratch::None).map(|_| SCRATCH.to_owned()),
        compile_address_space: plan.compile_address_space,
    })
    .map_err(io::Error::other)?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    job.write_all(&length.to_be_bytes()).await?;
    job.write_all(&head).await?;
    job.write_all(live.key.key.seed().expose()).await?;
    job.shutdown().await
}

/// Whether an engine may say this of a job with this spec.
fn is_credible(finished: &Finished, spec: &JobSpec) -> bool {
    let opened = finished.program == Some(spec.program) && finished.input == Some(spec.input);
    match finished.reason {
        Reason::Completed => opened && finished.exit == Some(0) && finished.output.is_some(),
        Reason::ExitNonzero => opened && finished.exit.is_some_and(|code| code != 0),
        Reason::Trap | Reason::LimitTime | Reason::LimitOutput => opened,
        Reason::LimitMemory
        | Reason::LimitCompile
        | Reason::LimitScratch
        | Reason::ProgramInvalid
        | Reason::PayloadInvalid => true,
        _ => false,
    }
}

/// Decides how an attempt ended: a cancellation beats the engine's word, the engine's word beats silence.
fn judge(stopped: Option<Reason>, finished: Option<&Finished>, exit: Option<&Exit>) -> Verdict {
    Verdict::of(match (stopped, finished, exit) {
        (Some(reason), _, _) => reason,
        (None, Some(finished), _) => finished.reason,
        (None, _, Some(exit)) if exit.out_of_memory => Reason::LimitMemory,
        (None, _, Some(exit)) if exit.deadline => Reason::LimitTime,
        (None, _, _) => Reason::EngineLost,
    })
}

/// Keeps what the engine sealed; the rest is removed as its writers are dropped.
fn keep(
    node: &Node,
    live: &mut Live,
    verdict: &Verdict,
    finished: Option<&Finished>,
    output: BlobWriter,
    logs: BlobWriter,
) {
    let Some(finished) = finished.filter(|_| verdict.state != JobState::Cancelled) else { return };
    let until = Some(node.clock.now().plus_ms(node.config.keep_result_ms));
    let row = &mut live.held.row;
    for (sealed, blob, kept) in [
        (finished.output.is_some(), output, &mut row.result_until),
        (finished.logs.is_some(), logs, &mut row.logs_until),
    ] {
        if sealed {
            match blob.commit() {
                Ok(()) => *kept = until,
                Err(error) => tracing::error!(error = chain(&error), "failed to keep a sealed result"),
            }
        }
    }
}
