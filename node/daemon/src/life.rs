//! One attempt, from the queue to its receipt.
//!
//! Every accepted job has a task of its own, so the queue is the order in which tasks wait for a
//! [`Slots`](crate::slots::Slots) place. Whatever happens, the task ends in [`ending::end`]: what the
//! job held is wiped and checked, and its receipt written.

use crate::attempt::{self, Attempted};
use crate::ending;
use crate::node::Node;
use crate::records::{Held, JobRow, job_state};
use decores_audit::event::Event;
use decores_keys::OfferKey;
use decores_types::{JobState, Reason, chain};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// An attempt that has not ended.
pub(crate) struct Live {
    pub(crate) held: Held<JobRow>,
    /// Opens the payload; gone once it is destroyed.
    pub(crate) key: OfferKey,
}

/// Why an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) state: JobState,
    pub(crate) reason: Reason,
}

impl Verdict {
    /// The final state that belongs to a reason.
    pub(crate) const fn of(reason: Reason) -> Self {
        let state = match reason {
            Reason::Completed => JobState::Done,
            Reason::ByConsumer | Reason::ByOperator => JobState::Cancelled,
            Reason::Protection | Reason::Limits | Reason::Policy => JobState::Refused,
            _ => JobState::Failed,
        };
        Self { state, reason }
    }
}

/// Starts the task of an attempt that was just queued.
pub(crate) fn start(node: &Arc<Node>, live: Live) {
    let job = live.held.row.record.job;
    let (switch, cancelled) = watch::channel(None);
    node.live.lock().unwrap_or_else(PoisonError::into_inner).insert(job, switch);
    let node = Arc::clone(node);
    tokio::spawn(async move {
        run(&node, live, cancelled).await;
        node.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        node.announce(job);
    });
}

async fn run(node: &Arc<Node>, mut live: Live, mut cancelled: watch::Receiver<Option<Reason>>) {
    let patience = Duration::from_millis(live.key.expires.since_ms(node.clock.now()));
    let slot = tokio::select! {
        slot = node.slots.take() => Ok(slot),
        reason = cancellation(&mut cancelled) => Err(Verdict::of(reason)),
        () = tokio::time::sleep(patience) => Err(Verdict::of(Reason::QueueExpired)),
    };
    let attempted = match slot {
        Err(verdict) => Attempted::never(verdict, None),
        // Every place is blocked by a wipe that failed: the operator has been alerted.
        Ok(None) => Attempted::never(Verdict::of(Reason::Policy), None),
        Ok(Some(slot)) => attempt::run(node, &mut live, slot, &mut cancelled).await,
    };
    ending::end(node, live, attempted).await;
}

/// Resolves when the job is told to stop.
pub(crate) async fn cancellation(cancelled: &mut watch::Receiver<Option<Reason>>) -> Reason {
    match cancelled.wait_for(Option::is_some).await.map(|reason| *reason) {
        Ok(Some(reason)) => reason,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Enters a state: one transaction, then everybody who waits is told.
pub(crate) async fn enter(node: &Node, held: &mut Held<JobRow>, state: JobState, reason: Reason) {
    let step = match held.row.record.enter(state, reason, node.clock.now()) {
        Ok(step) => step,
        Err(error) => {
            tracing::error!(job = %held.row.record.job, error = chain(&error), "a step was skipped");
            return;
        }
    };
    let record = &held.row.record;
    let event = Event::JobState {
        job: record.job,
        attempt: step.attempt,
        consumer: record.consumer,
        state,
        reason,
        offer: None,
        spec: None,
    };
    let state = job_state(&held.row);
    match node.records.update(held, state) {
        Ok(change) => {
            node.persist(vec![change], vec![event]).await;
        }
        Err(error) => tracing::error!(error = chain(&error), "failed to seal a job's record"),
    }
    node.announce(held.row.record.job);
}
