//! Reading and stopping one's own jobs.

use super::sign_in;
use crate::blobs::names;
use crate::modules;
use crate::node::{Node, store_problem, unwritten};
use crate::receipts;
use crate::records::{Held, JobRow, ReceiptRow};
use crate::retention::{self, Removal, RemoveError, Why};
use crate::summary::Cause;
use decores_access::{ActionType, Permit, Principal, Refusal, action};
use decores_api::jobs::{Job, JobStep};
use decores_api::{Code, Page, Problem};
use decores_audit::ports::Select;
use decores_http::{Failure, SealedFile};
use decores_types::{Attempt, JobId, JobState, Reason, Timestamp, chain};
use std::sync::Arc;
use std::time::Duration;

/// Longest a cancellation may wait for the job's end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(30);
/// Longest a receipt may wait for the log's next checkpoint.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(30);

/// Finds a job for somebody who may do `A` with it. Another consumer's does not exist.
async fn find<A: ActionType>(
    node: &Arc<Node>,
    who: &Principal,
    job: JobId,
) -> Result<(Held<JobRow>, Permit<A>), Problem> {
    let held: Option<Held<JobRow>> = node.records.get(job.as_bytes()).await.map_err(|e| store_problem(&e))?;
    let refuse = |refusal: Refusal| Failure::from(refusal).0;
    // What is not there and what is another's take the same way out.
    let permitted = held.ok_or(Refusal::NotFound(A::ACTION)).and_then(|held| {
        let permit = who.permit_on::<A>(held.row.record.consumer)?;
        Ok((held, permit))
    });
    match permitted {
        Ok(found) => {
            node.summary.count(Cause::JobRead, node.clock.now());
            Ok(found)
        }
        Err(refusal) => {
            sign_in::refused(node, who, refusal).await;
            Err(refuse(refusal))
        }
    }
}

/// A job as its owner sees it.
pub(crate) fn wire(row: &JobRow, now: Timestamp) -> Job {
    let record = &row.record;
    let reason = record.last().map_or(Reason::Accepted, |step| step.reason);
    let kept = |until: Option<Timestamp>| until.is_some_and(|until| now < until);
    Job {
        job: record.job,
        consumer: record.consumer,
        attempt: record.attempt(),
        state: record.state(),
        reason,
        explanation: reason.explain().to_owned(),
        steps: record
            .steps
            .iter()
            .map(|s| JobStep { attempt: s.attempt, state: s.state, reason: s.reason, time: s.time })
            .collect(),
        result: record.state().is_final() && kept(row.result_kept()),
        logs: record.state().is_final() && kept(row.logs_kept()),
        receipt: row.receipt_attempt == Some(record.attempt().0),
        resubmit: record.may_resubmit(),
    }
}

pub(crate) async fn list(
    node: &Node,
    permit: &Permit<action::ReadJob>,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<Job>, Problem> {
    let before = cursor.map(str::parse).transpose();
    let before = before.map_err(|_| Problem::new(Code::Malformed, "`cursor` is not one that this node gave"))?;
    let owner = Some(permit.consumer().as_bytes().to_vec());
    let select = Select { owner, before, limit: limit + 1, ..Select::default() };
    let mut held: Vec<Held<JobRow>> = node.records.list(select).await.map_err(|e| store_problem(&e))?;
    let more = held.len() > limit;
    held.truncate(limit);
    let next = held.last().filter(|_| more).map(|last| last.sequence.to_string());
    let now = node.clock.now();
    Ok(Page { items: held.iter().map(|h| wire(&h.row, now)).collect(), next })
}

pub(crate) async fn show(
    node: &Arc<Node>,
    who: &Principal,
    job: JobId,
    after: Option<usize>,
    wait: Duration,
) -> Result<Job, Problem> {
    let patience = tokio::time::sleep(wait);
    tokio::pin!(patience);
    let mut over = wait.is_zero();
    // Subscribed before the first look, so that no change falls between.
    let mut changed = node.changed.subscribe();
    let mut stopping = node.stopping.subscribe();
    loop {
        let (held, _) = find::<action::ReadJob>(node, who, job).await?;
        let news = after.is_none_or(|seen| held.row.record.steps.len() > seen);
        if news || over {
            return Ok(wire(&held.row, node.clock.now()));
        }
        let change = async { while matches!(changed.recv().await, Ok(other) if other != job) {} };
        tokio::select! {
            () = change => {}
            () = &mut patience => over = true,
            _ = stopping.changed() => over = true,
        }
    }
}

pub(crate) async fn cancel(node: &Arc<Node>, who: &Principal, job: JobId) -> Result<Job, Problem> {
    // Listened to before the first look, so that no change falls between.
    let mut changed = node.changed.subscribe();
    let (held, _) = find::<action::CancelJob>(node, who, job).await?;
    let (state, attempt) = (held.row.record.state(), held.row.record.attempt());
    if state.is_final() || state == JobState::Wiping || !node.cancel(job, Reason::ByConsumer) {
        return Err(Problem::new(Code::StateConflict, format!("the job is {state}")));
    }
    let ended = async {
        loop {
            let held: Option<Held<JobRow>> = node.records.get(job.as_bytes()).await.map_err(|e| store_problem(&e))?;
            let held = held.ok_or_else(|| Problem::new(Code::NotFound, "not found"))?;
            let end = held.row.record.steps.iter().find(|step| step.attempt == attempt && step.state.is_final());
            match end.map(|step| step.state) {
                Some(JobState::Cancelled) => return Ok(wire(&held.row, node.clock.now())),
                Some(state) => return Err(Problem::new(Code::StateConflict, format!("the job is {state}"))),
                None => while matches!(changed.recv().await, Ok(other) if other != job) {},
            }
        }
    };
    tokio::time::timeout(CANCEL_PATIENCE, ended).await.unwrap_or_else(|_| {
        Err(Problem::new(Code::Unavailable, "the job was told to stop, but its end is not written down yet")
            .hint("ask what became of it with `decores job show`"))
    })
}

/// Which sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Output,
    Logs,
}

pub(crate) async fn sealed(node: &Arc<Node>, who: &Principal, job: JobId, what: What) -> Result<SealedFile, Problem> {
    let (held, _) = find::<action::ReadJob>(node, who, job).await?;
    let record = &held.row.record;
    if !record.state().is_final() {
        return Err(Problem::new(Code::StateConflict, format!("the job is still {}", record.state())));
    }
    let names = names(job, record.attempt()).map_err(|error| unusable(&error))?;
    let (had, kept, name) = match what {
        What::Output => (held.row.result_until, held.row.result_kept(), names.output),
        What::Logs => (held.row.logs_until, held.row.logs_kept(), names.logs),
    };
    if had.is_none() {
        let problem = Problem::new(Code::StateConflict, format!("the job ended as {} without it", record.state()));
        return Err(problem.hint("`decores job show` says why it ended, `decores job logs` what the program wrote"));
    }
    let gone = || Problem::new(Code::Gone, "it was removed, or its time is over");
    if kept.is_none_or(|until| node.clock.now() >= until) {
        return Err(gone());
    }
    let file = node.blobs.open_blob(&name).map_err(|error| unusable(&error))?.ok_or_else(gone)?;
    let length = file.metadata().map_err(|error| unusable(&error))?.len();
    Ok(SealedFile { file, length })
}

fn unusable(error: &dyn std::error::Error) -> Problem {
    tracing::error!(error = chain(error), "failed to use a sealed file");
    Problem::new(Code::Internal, "the node could not use its sealed files")
        .hint("ask again later; the node's own log says what its operator has to mend")
}

pub(crate) async fn delete_result(node: &Arc<Node>, who: &Principal, job: JobId) -> Result<(), Problem> {
    let (held, _) = find::<action::DeleteResult>(node, who, job).await?;
    if !held.row.record.state().is_final() {
        return Err(Problem::new(Code::StateConflict, format!("the job is still {}", held.row.record.state())));
    }
    if let Some(id) = held.row.spec.cache_id {
        modules::forget(node, held.row.record.consumer, id).await;
    }
    let results = Removal::results(&held.row);
    if results.is_empty() {
        return Ok(());
    }
    retention::remove(node, &held, results, Why::ByConsumer).await.map_err(|error| match &error {
        RemoveError::Store(error) => unwritten(error),
        RemoveError::File { .. } => unusable(&error),
    })
}

pub(crate) async fn receipt(node: &Arc<Node>, who: &Principal, job: JobId) -> Result<Vec<u8>, Problem> {
    let (held, _) = find::<action::ReadJob>(node, who, job).await?;
    let Some(attempt) = held.row.receipt_attempt else {
        let state = held.row.record.state();
        return Err(Problem::new(Code::StateConflict, format!("the job is {state}; its receipt comes when it ends"))
            .hint("wait for its end: `decores job show` says where it is"));
    };
    let receipt: Option<Held<ReceiptRow>> =
        node.records.get(&receipts::row_id(job, Attempt(attempt))).await.map_err(|e| store_problem(&e))?;
    let receipt = receipt.ok_or_else(|| Problem::new(Code::Gone, "the receipt is no longer kept"))?;
    let integrated = node.ledger.integrated(receipt.index());
    if tokio::time::timeout(RECEIPT_PATIENCE, integrated).await.is_err() {
        return Err(Problem::new(Code::Unavailable, "the log has not taken in the receipt yet")
            .hint("ask again after `Retry-After`"));
    }
    let (tiles, key) = (Arc::clone(&node.ledger.tiles), node.ledger.key.clone());
    let made = tokio::task::spawn_blocking(move || receipts::file(&*tiles, &key, &receipt)).await;
    let made = made.map_err(anyhow::Error::from).and_then(|made| made);
    made.map_err(|error| {
        tracing::error!(%job, error = format!("{error:#}"), "failed to complete a receipt");
        Problem::new(Code::Internal, "the node could not complete the receipt")
            .hint("ask again later; the node's own log says what its operator has to mend")
    })
}
