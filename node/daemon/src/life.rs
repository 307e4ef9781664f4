//! One attempt, from the queue to its receipt.
//!
//! Every accepted job has a task of its own, which waits its turn for a [`Slots`](crate::slots::Slots)
//! place. Whatever happens, the task ends in [`ending::end`]: what the job held is wiped and checked,
//! and its receipt written.

use crate::admission::Place;
use crate::attempt::{self, Attempted};
use crate::ending;
use crate::node::Node;
use crate::records::{Held, JobRow};
use decores_audit::event::Event;
use decores_audit::ports::StoreError;
use decores_keys::OfferKey;
use decores_sandbox::{Stage, TransitionError};
use decores_types::{JobState, Reason};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// An attempt that has not ended.
pub(crate) struct Live {
    /// Its place among the admitted; given back when the attempt has ended.
    pub(crate) place: Place,
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
    /// The end for a reason; one that ends nothing can only have failed.
    pub(crate) fn of(reason: Reason) -> Self {
        Self { state: reason.end().unwrap_or(JobState::Failed), reason }
    }
}

/// Starts the task of an attempt that was just queued.
pub(crate) fn start(node: &Arc<Node>, live: Live) {
    let (job, attempt) = (live.held.row.record.job, live.held.row.record.attempt());
    let (switch, cancelled) = watch::channel(None);
    if *node.stopping.borrow() {
        // Taken while the node was stopping: whoever cancels the others may have been here already.
        switch.send_replace(Some(Reason::ByOperator));
    }
    node.live.lock().unwrap_or_else(PoisonError::into_inner).insert(job, (attempt, switch));
    let node = Arc::clone(node);
    tokio::spawn(async move {
        run(&node, live, cancelled).await;
        let mut jobs = node.live.lock().unwrap_or_else(PoisonError::into_inner);
        // The next attempt may have begun the moment this one's end was written.
        if jobs.get(&job).is_some_and(|(live, _)| *live == attempt) {
            jobs.remove(&job);
        }
        drop(jobs);
        node.announce(job);
    });
}

async fn run(node: &Arc<Node>, mut live: Live, mut cancelled: watch::Receiver<Option<Reason>>) {
    let patience = Duration::from_millis(live.key.expires.since_ms(node.clock.now()));
    let slot = tokio::select! {
        slot = node.slots.take(live.held.row.record.consumer) => Ok(slot),
        reason = cancellation(&mut cancelled) => Err(Verdict::of(unlaunched(reason))),
        () = tokio::time::sleep(patience) => Err(Verdict::of(Reason::QueueExpired)),
    };
    let attempted = match slot {
        Err(verdict) => Attempted::never(verdict, None),
        // Every place is blocked by a wipe that failed: the operator has been alerted, and the client has the job still.
        Ok(None) => Attempted::never(Verdict::of(Reason::Resubmit), None),
        Ok(Some(slot)) => {
            live.place.advance(Stage::Running);
            // A box of its own: what only waits needs no room for what running takes.
            Box::pin(attempt::run(node, &mut live, slot, &mut cancelled)).await
        }
    };
    Box::pin(ending::end(node, live, attempted)).await;
}

/// What has no engine yet has lost none: it may be submitted again all the same.
fn unlaunched(reason: Reason) -> Reason {
    if reason == Reason::EngineLost { Reason::Resubmit } else { reason }
}

/// Resolves when the job is told to stop.
pub(crate) async fn cancellation(cancelled: &mut watch::Receiver<Option<Reason>>) -> Reason {
    match cancelled.wait_for(Option::is_some).await.map(|reason| *reason) {
        Ok(Some(reason)) => reason,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Takes a step, which is not written yet: its event, to be written with the record.
///
/// # Errors
/// If the states do not allow it.
pub(crate) fn step(
    node: &Node,
    held: &mut Held<JobRow>,
    state: JobState,
    reason: Reason,
) -> Result<Event, TransitionError> {
    let step = held.row.record.enter(state, reason, node.clock.now())?;
    let (job, attempt, consumer) = (held.row.record.job, step.attempt, held.row.record.consumer);
    Ok(Event::JobState { job, attempt, consumer, state, reason, offer: None, spec: None })
}

/// Writes steps that were taken: one transaction, then everybody who waits is told.
///
/// # Errors
/// If the node stops before they are written.
pub(crate) async fn write(node: &Node, held: &mut Held<JobRow>, steps: Vec<Event>) -> Result<(), StoreError> {
    node.write_job(held, steps).await?;
    node.announce(held.row.record.job);
    Ok(())
}
