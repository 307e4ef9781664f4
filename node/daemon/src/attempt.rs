//! Running one engine: start it, feed it, listen to it, end it.
//!
//! The engine is told its job, and given the key that opens it, only after it has said how it is locked
//! in. What it says is believed only as far as it can be; see [`is_credible`].

use crate::life::{Live, Verdict, cancellation, step, write};
use crate::modules::{self, Access};
use crate::node::Node;
use crate::records::{EngineRow, JobRow};
use crate::slots::Slot;
use decores_audit::event::Event;
use decores_blobs::BlobWriter;
use decores_launcher::{EngineDescriptors, Launched, Leftovers};
use decores_sandbox::container::RunReport;
use decores_sandbox::plan::{IsolationPlan, plan};
use decores_sandbox::protocol::{EngineEvent, EngineJob, Exit, Finished, Locked, MAX_EVENT};
use decores_types::{JobState, Limits, Reason, Scratch, chain};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

/// Where the jail shows the scratch.
const SCRATCH: &str = "/scratch";
/// Events of one engine that are read: it has five to say.
const MAX_EVENTS: u64 = 16;
/// Of those, how many may wait while one is acted on.
const AHEAD: usize = 4;
/// Room for a sealed file's head, its manifest and its chunks' tags, beside its plaintext.
const SEALED_OVERHEAD: u64 = 4 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What came of an attempt, before the wipe.
pub(crate) struct Attempted {
    pub(crate) verdict: Verdict,
    pub(crate) slot: Option<Slot>,
    pub(crate) finished: Option<Finished>,
    pub(crate) exit: Option<Exit>,
    /// Whether something that the engine sealed could not be kept: all of it is to be deleted.
    pub(crate) unkept: bool,
    /// What the launcher found when it had removed the engine's traces; absent where it did not tell.
    pub(crate) left: Option<Leftovers>,
    /// Events of steps that were taken and are not written yet.
    pub(crate) unwritten: Vec<Event>,
}

impl Attempted {
    /// An attempt that no engine said anything of.
    pub(crate) const fn never(verdict: Verdict, slot: Option<Slot>) -> Self {
        Self { verdict, slot, finished: None, exit: None, unkept: false, left: None, unwritten: Vec::new() }
    }
}

/// Runs an engine for the attempt, in this place.
pub(crate) async fn run(
    node: &Arc<Node>,
    live: &mut Live,
    slot: Slot,
    cancelled: &mut watch::Receiver<Option<Reason>>,
) -> Attempted {
    let lost = Attempted::never(Verdict::of(Reason::EngineLost), Some(slot));
    match start(node, live, lost.slot.as_ref()).await {
        Err(verdict) => Attempted { verdict, ..lost },
        Ok((plan, launched, ends)) => attend(node, live, &plan, launched, ends, cancelled, lost).await,
    }
}

/// Plans and launches. The plan is written before there is an engine, so that a restart knows what to look for.
async fn start(
    node: &Arc<Node>,
    live: &mut Live,
    slot: Option<&Slot>,
) -> Result<(IsolationPlan, Launched, Ends), Verdict> {
    let lost = Verdict::of(Reason::EngineLost);
    let (record, spec) = (&live.held.row.record, &live.held.row.spec);
    let number = slot.map_or(0, Slot::number);
    let planned = plan(record.job, record.attempt(), spec, &node.host, &node.config.sandbox, number);
    let attesting = step(node, &mut live.held, JobState::Attesting, Reason::NotRequired).map_err(|_| lost)?;
    let plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => {
            write(node, &mut live.held, vec![attesting]).await.map_err(|_| lost)?;
            return Err(Verdict::of(refusal.reason()));
        }
    };
    let starting = step(node, &mut live.held, JobState::Starting, Reason::SlotFree).map_err(|_| lost)?;
    live.held.row.engine = Some(EngineRow { plan: plan.clone(), slot: number, given: None, locked: None });
    write(node, &mut live.held, vec![attesting, starting]).await.map_err(|_| lost)?;
    let (launched, ends) = launch(node, &plan, &live.held.row).await.map_err(|error| {
        tracing::error!(job = %plan.job, error = chain(&*error), "failed to start an engine");
        lost
    })?;
    if let Some(engine) = &mut live.held.row.engine {
        engine.given = Some(launched.given.clone());
    }
    Ok((plan, launched, ends))
}

/// Listens until the engine has finished, is gone, or is to stop; then ends it.
async fn attend(
    node: &Arc<Node>,
    live: &mut Live,
    plan: &IsolationPlan,
    launched: Launched,
    ends: Ends,
    cancelled: &mut watch::Receiver<Option<Reason>>,
    mut attempted: Attempted,
) -> Attempted {
    let Ends { job, events, output, logs, module } = ends;
    // A task of its own reads, so that a cancellation never cuts a write to the store in half.
    let (sender, mut heard) = mpsc::channel(AHEAD);
    let listener = tokio::spawn(listen(events, sender));
    let mut job = Some(job);
    let stopped = loop {
        let event = tokio::select! {
            event = heard.recv() => event,
            reason = cancellation(cancelled) => break Some(reason),
        };
        let Some(event) = event else { break None };
        match hear(node, live, plan, event, &mut job, module.as_ref()).await {
            Ok(Heard::Told) => {}
            Ok(Heard::Step(event)) => attempted.unwritten.push(event),
            Ok(Heard::Finished(finished)) => {
                attempted.finished = Some(*finished);
                break None;
            }
            Err(error) => {
                tracing::warn!(job = %plan.job, error = chain(&*error), "an engine is not listened to any more");
                break None;
            }
        }
        // Steps that follow at once are written as one; after the last one comes the end's own write.
        if heard.is_empty() && !attempted.unwritten.is_empty() {
            let steps = std::mem::take(&mut attempted.unwritten);
            if let Err(error) = write(node, &mut live.held, steps).await {
                tracing::warn!(job = %plan.job, error = chain(&error), "an engine is not listened to any more");
                break None;
            }
        }
    };
    listener.abort();
    // Whatever it said: when the session is over the engine has nothing left to do.
    end(node, plan).await;
    attempted.exit = launched.exit.await.ok();
    attempted.left = launched.left.await.ok();
    if let Some(exit) = &mut attempted.exit {
        take_report(exit, plan);
    }
    let exit = attempted.exit.as_ref();
    attempted.finished = attempted
        .finished
        .filter(|finished| is_credible(finished, live, plan, module.as_ref()) && ran_as_planned(finished, exit, plan));
    attempted.finished = attempted.finished.map(|finished| starved(finished, attempted.exit.as_ref()));
    attempted.verdict = judge(stopped, attempted.finished.as_ref(), attempted.exit.as_ref());
    if let Err(error) = keep(node, live, &attempted, output, logs).await {
        // An end that promises a result which is not there could never be tried again.
        tracing::error!(job = %plan.job, error = chain(&*error), "failed to keep a sealed result");
        attempted.verdict = Verdict::of(Reason::EngineLost);
        attempted.unkept = true;
    }
    if let (Some(module), Some(finished)) = (module, &attempted.finished) {
        live.held.row.module_until = modules::end(node, module, finished.module, (plan.job, plan.attempt)).await;
    }
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
    /// A compiled program that is kept, or to be kept.
    module: Option<Access>,
}

async fn launch(node: &Node, plan: &IsolationPlan, row: &JobRow) -> Result<(Launched, Ends), Failure> {
    let names = crate::blobs::names(plan.job, plan.attempt)?;
    let (job, job_end) = StdStream::pair()?;
    let (events, events_end) = StdStream::pair()?;
    job.set_nonblocking(true)?;
    events.set_nonblocking(true)?;
    // The launcher bounds what an engine may write; these writers only name and keep it.
    let output = node.blobs.create(&names.output, u64::MAX)?;
    let logs = node.blobs.create(&names.logs, u64::MAX)?;
    let payload = node.blobs.open_blob(&names.payload)?.ok_or("the sealed payload is gone")?;
    let module = modules::begin(node, row.record.consumer, &row.spec, (plan.job, plan.attempt));
    let descriptors = EngineDescriptors {
        job: job_end.into(),
        events: events_end.into(),
        payload: OwnedFd::from(payload),
        output: OwnedFd::from(output.file().try_clone()?),
        logs: OwnedFd::from(logs.file().try_clone()?),
        module: module.as_ref().map(Access::file).transpose()?.map(OwnedFd::from),
    };
    let (launcher, plan) = (node.launcher.clone(), plan.clone());
    let launched = tokio::task::spawn_blocking(move || launcher.launch(&plan, descriptors)).await??;
    Ok((
        launched,
        Ends { job: UnixStream::from_std(job)?, events: UnixStream::from_std(events)?, output, logs, module },
    ))
}

/// Reads an engine's events and passes them on, until it ends or says what is no event.
async fn listen(events: UnixStream, heard: mpsc::Sender<EngineEvent>) -> io::Result<()> {
    let mut lines = BufReader::new(events.take(MAX_EVENTS * MAX_EVENT as u64));
    loop {
        let mut line = Vec::new();
        let read = (&mut lines).take(MAX_EVENT as u64).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        let event = EngineEvent::parse(&line).map_err(io::Error::other)?;
        if heard.send(event).await.is_err() {
            return Ok(());
        }
    }
}

/// What an event comes to.
enum Heard {
    /// The engine was told its job.
    Told,
    /// A step was taken; it is not written yet.
    Step(Event),
    Finished(Box<Finished>),
}

/// Acts on one event. One out of turn ends the session.
async fn hear(
    node: &Node,
    live: &mut Live,
    plan: &IsolationPlan,
    event: EngineEvent,
    job: &mut Option<UnixStream>,
    module: Option<&Access>,
) -> Result<Heard, Failure> {
    let (state, reason) = match event {
        EngineEvent::Locked(locked) => {
            let job = job.take().ok_or("it was locked in twice")?;
            check_locked(node, &locked)?;
            if let Some(engine) = &mut live.held.row.engine {
                engine.locked = Some(locked);
            }
            // Durable before the engine can open anything: a receipt after a crash says how it was held.
            node.write_job(&mut live.held, Vec::new()).await?;
            tell(live, plan, job, module).await?;
            return Ok(Heard::Told);
        }
        _ if job.is_some() => return Err("it spoke before it was locked in".into()),
        EngineEvent::Compiling => (JobState::Starting, Reason::Compiling),
        EngineEvent::Started { .. } => (JobState::Running, Reason::Started),
        EngineEvent::Sealing => (JobState::Sealing, Reason::ProgramEnded),
        EngineEvent::Finished(finished) => return Ok(Heard::Finished(finished)),
    };
    Ok(Heard::Step(step(node, &mut live.held, state, reason)?))
}

/// An engine that is held less than this machine can hold it gets no key.
fn check_locked(node: &Node, locked: &Locked) -> Result<(), Failure> {
    if !locked.seccomp {
        return Err("it has no seccomp filter".into());
    }
    if locked.landlock_abi == 0 && node.host.landlock_abi > 0 {
        return Err("it is not held by Landlock".into());
    }
    Ok(())
}

async fn tell(live: &Live, plan: &IsolationPlan, mut job: UnixStream, module: Option<&Access>) -> Result<(), Failure> {
    let row = &live.held.row;
    let recipient = live.key.key.recipient();
    let given = row.engine.as_ref().and_then(|engine| engine.given.as_ref());
    let head = EngineJob {
        version: 1,
        job: plan.job,
        attempt: plan.attempt,
        consumer: row.record.consumer,
        offer: live.key.digest,
        offer_key: recipient.id(),
        offer_epoch: recipient.epoch(),
        spec: row.spec.clone(),
        scratch: given.filter(|given| given.scratch != Scratch::None).map(|_| SCRATCH.to_owned()),
        compile_address_space: plan.compile_address_space,
        module: module.map(Access::job),
    };
    job.write_all(&head.to_bytes()?).await?;
    job.write_all(live.key.key.seed().expose()).await?;
    if let Some(module) = module {
        job.write_all(module.key.expose()).await?;
    }
    Ok(job.shutdown().await?)
}

/// Whether an engine may say this of this job. Exhaustive: a new reason must be decided here.
fn is_credible(finished: &Finished, live: &Live, plan: &IsolationPlan, module: Option<&Access>) -> bool {
    let row = &live.held.row;
    let locked = row.engine.as_ref().is_some_and(|engine| engine.locked.is_some());
    let opened = finished.program == Some(row.spec.program) && finished.input == Some(row.spec.input);
    let possible = finished.wall_ms <= plan.deadline_ms
        && finished.compile_ms <= plan.deadline_ms
        && finished.memory_bytes <= plan.limits.memory_bytes;
    let kept = finished.module.is_none_or(|end| module.is_some_and(|module| module.may_end(end)));
    let pinned = finished.image.is_some() == plan.container.is_some();
    let ended = match finished.reason {
        Reason::Completed => opened && pinned && finished.exit == Some(0) && finished.output.is_some(),
        Reason::ExitNonzero => {
            opened && pinned && finished.exit.is_some_and(|code| code != 0) && finished.output.is_some()
        }
        Reason::LimitOutput | Reason::LimitTime => opened,
        Reason::Trap => opened && finished.exit.is_none(),
        Reason::LimitMemory
        | Reason::LimitCompile
        | Reason::LimitScratch
        | Reason::ProgramInvalid
        | Reason::PayloadInvalid => finished.exit.is_none(),
        Reason::Accepted
        | Reason::NotRequired
        | Reason::SlotFree
        | Reason::Compiling
        | Reason::Started
        | Reason::ProgramEnded
        | Reason::Ended
        | Reason::EngineLost
        | Reason::Resubmit
        | Reason::QueueExpired
        | Reason::WipeIncomplete
        | Reason::ByConsumer
        | Reason::ByOperator
        | Reason::Protection
        | Reason::Limits
        | Reason::Policy => false,
    };
    locked && possible && kept && ended
}

/// What an engine says of a container of which the kernel ended a process for want of memory: it cannot see that, and
/// a program that goes on without one of its processes may end well with half a result.
fn starved(finished: Finished, exit: Option<&Exit>) -> Finished {
    let starved = exit.is_some_and(|exit| exit.out_of_memory) && finished.exit.is_some();
    if finished.image.is_some() && starved {
        Finished { reason: Reason::LimitMemory, exit: None, output: None, ..finished }
    } else {
        finished
    }
}

/// Drops what the helper says of the container where that is not what was planned: no receipt says it. Tells the
/// operator why there was no container.
fn take_report(exit: &mut Exit, plan: &IsolationPlan) {
    if let Some(why) = &exit.no_container {
        tracing::warn!(job = %plan.job, "its container could not be run: {}", decores_telemetry::plain(why));
    }
    let held = |report: &RunReport| plan.container.as_ref().is_some_and(|container| report.is_of(container));
    if let Some(report) = exit.container.take_if(|report| !held(report)) {
        tracing::error!(job = %plan.job, "its container was not held as planned: {report:?}");
    }
}

/// Whether a program that ran in a container did so as planned, by what the helper read back before it started.
fn ran_as_planned(finished: &Finished, exit: Option<&Exit>, plan: &IsolationPlan) -> bool {
    let ran = matches!(finished.reason, Reason::Completed | Reason::ExitNonzero | Reason::Trap | Reason::LimitTime);
    let report = exit.and_then(|exit| exit.container.as_ref());
    !ran || plan.container.as_ref().is_none_or(|container| report.is_some_and(|report| report.is_of(container)))
}

/// Decides how an attempt ended: a cancellation beats the engine's word, the engine's word beats silence.
fn judge(stopped: Option<Reason>, finished: Option<&Finished>, exit: Option<&Exit>) -> Verdict {
    Verdict::of(match (stopped, finished, exit) {
        (Some(reason), _, _) => reason,
        (None, Some(finished), _) => finished.reason,
        (None, None, Some(exit)) if exit.out_of_memory => Reason::LimitMemory,
        (None, None, Some(exit)) if exit.deadline => Reason::LimitTime,
        (None, None, _) => Reason::EngineLost,
    })
}

/// Keeps what the engine sealed; the rest is removed as its writers are dropped.
///
/// # Errors
/// If some of it could not be kept: then none is, though files may be there.
async fn keep(
    node: &Node,
    live: &mut Live,
    attempted: &Attempted,
    output: BlobWriter,
    logs: BlobWriter,
) -> Result<(), Failure> {
    let Some(finished) = attempted.finished.as_ref().filter(|_| attempted.verdict.state != JobState::Cancelled) else {
        return Ok(());
    };
    let Limits { output_bytes, log_bytes, .. } = live.held.row.spec.limits;
    let output = finished.output.map(|_| (output, output_bytes));
    let logs = finished.logs.map(|_| (logs, log_bytes));
    let (output_kept, logs_kept) = (output.is_some(), logs.is_some());
    let mut sealed = output.into_iter().chain(logs);
    tokio::task::spawn_blocking(move || sealed.try_for_each(|(blob, limit)| commit(blob, limit))).await??;
    let (now, row, config) = (node.clock.now(), &mut live.held.row, &node.config);
    row.result_until = output_kept.then(|| now.plus_ms(config.keep_result_ms));
    row.logs_until = logs_kept.then(|| now.plus_ms(config.keep_logs_ms));
    Ok(())
}

/// Makes a sealed file durable, unless it is larger than what can have been sealed within the limit.
fn commit(blob: BlobWriter, limit: u64) -> Result<(), Failure> {
    let most = limit.saturating_add(limit / 1024).saturating_add(SEALED_OVERHEAD);
    let length = blob.file().metadata()?.len();
    if length > most {
        return Err(format!("it has {length} bytes, and at most {most} can have been sealed").into());
    }
    Ok(blob.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use decores_sandbox::Runtime;
    use decores_sandbox::container::NAMESPACES;
    use decores_sandbox::{ContainerPlan, IdRange, ScratchPlan, UserPlan};
    use decores_types::job::EngineKind;
    use decores_types::{Attempt, JobId, Protection, Swap};

    const EXIT: Exit = Exit {
        code: None,
        signal: Some(9),
        deadline: false,
        out_of_memory: false,
        cpu_ms: 0,
        memory_bytes: 0,
        container: None,
        no_container: None,
    };

    fn finished(reason: Reason) -> Finished {
        Finished {
            reason,
            exit: None,
            program: None,
            input: None,
            image: None,
            output: None,
            logs: None,
            wall_ms: 0,
            compile_ms: 0,
            memory_bytes: 0,
            module: None,
        }
    }

    fn container_plan() -> (IsolationPlan, RunReport) {
        let ids = Some(IdRange { first: 1, count: 1 });
        let container = ContainerPlan { runtime: Runtime::Runc, ids, cgroup: None };
        let report = RunReport {
            runtime: Runtime::Runc,
            version: "1".to_owned(),
            namespaces: NAMESPACES.to_vec(),
            seccomp: true,
            powerless: true,
            own_ids: true,
            cgroup: Vec::new(),
        };
        (IsolationPlan { container: Some(container), ..wasm_plan() }, report)
    }

    #[test]
    fn a_program_is_not_believed_to_have_run_in_a_container_that_was_not_held_as_planned() {
        let (plan, report) = container_plan();
        let with = |reason, report| {
            let exit = Exit { container: report, ..EXIT };
            ran_as_planned(&finished(reason), Some(&exit), &plan)
        };
        assert!(with(Reason::Completed, Some(report.clone())));
        assert!(with(Reason::ProgramInvalid, None), "it was never started");
        for reason in [Reason::Completed, Reason::ExitNonzero, Reason::LimitTime] {
            assert!(!with(reason, None));
            assert!(!with(reason, Some(RunReport { seccomp: false, ..report.clone() })));
        }
        assert!(!ran_as_planned(&finished(Reason::Completed), None, &plan));
        assert!(ran_as_planned(&finished(Reason::Completed), None, &wasm_plan()));
    }

    #[test]
    fn a_report_that_is_not_the_plans_is_in_no_receipt() {
        let (plan, report) = container_plan();
        let taken = |plan: &IsolationPlan, report: &RunReport| {
            let mut exit = Exit { container: Some(report.clone()), ..EXIT };
            take_report(&mut exit, plan);
            exit.container
        };
        assert_eq!(taken(&plan, &report), Some(report.clone()));
        assert_eq!(taken(&plan, &RunReport { cgroup: vec!["X Y".to_owned()], ..report.clone() }), None);
        assert_eq!(taken(&wasm_plan(), &report), None, "there was to be none");
    }

    fn wasm_plan() -> IsolationPlan {
        IsolationPlan {
            job: JobId::from_bytes([1; 16]),
            attempt: Attempt(1),
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            user: UserPlan::Shared,
            namespaces: Vec::new(),
            cgroup: None,
            container: None,
            limits: Limits::default(),
            scratch: ScratchPlan::Tmpfs { noswap: false },
            scratch_bytes: 1,
            swap: Swap::None,
            compile_address_space: 1,
            deadline_ms: 1,
            network: false,
        }
    }

    #[test]
    fn a_container_that_was_killed_without_memory_left_met_its_limit() {
        let image = decores_types::Commitment::parse(&"0".repeat(64)).ok();
        let killed = Finished { exit: Some(137), image, output: image, ..finished(Reason::ExitNonzero) };
        let starving = Exit { out_of_memory: true, ..EXIT };
        let limit = starved(killed.clone(), Some(&starving));
        assert_eq!((limit.reason, limit.exit, limit.output), (Reason::LimitMemory, None, None));
        assert_eq!(starved(killed.clone(), Some(&EXIT)), killed, "killed for another reason");
        let module = Finished { image: None, ..killed.clone() };
        assert_eq!(starved(module.clone(), Some(&starving)), module, "a module's own exit code");
        let went_on = Finished { exit: Some(0), reason: Reason::Completed, ..killed };
        assert_eq!(starved(went_on, Some(&starving)).reason, Reason::LimitMemory, "one of its processes is gone");
        let late = Finished { image, ..finished(Reason::LimitTime) };
        assert_eq!(starved(late.clone(), Some(&starving)), late);
    }

    #[test]
    fn a_cancellation_beats_the_engines_word_and_its_word_beats_silence() {
        let said = finished(Reason::Trap);
        assert_eq!(judge(Some(Reason::ByConsumer), Some(&said), Some(&EXIT)).state, JobState::Cancelled);
        assert_eq!(judge(None, Some(&said), Some(&EXIT)).reason, Reason::Trap);
        assert_eq!(judge(None, None, None), Verdict::of(Reason::EngineLost));
        assert_eq!(judge(None, None, Some(&EXIT)), Verdict::of(Reason::EngineLost));
        assert_eq!(judge(None, None, Some(&Exit { deadline: true, ..EXIT })).reason, Reason::LimitTime);
        assert_eq!(judge(None, None, Some(&Exit { out_of_memory: true, ..EXIT })).reason, Reason::LimitMemory);
    }
}
