//! The end of an attempt: wipe, check, say so, sign.

use crate::attempt::Attempted;
use crate::blobs::names;
use crate::life::{Live, Verdict, enter};
use crate::node::Node;
use crate::offers;
use crate::receipts;
use crate::records::{Held, JobRow, ReceiptRow, job_state};
use anyhow::{Context as _, Result};
use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_detection::AlertKind;
use decores_keys::OfferKey;
use decores_launcher::Leftovers;
use decores_sandbox::{WipeCheck, WipeRecord};
use decores_types::{Attempt, JobId, JobState, Reason, WipeCategory, chain};

/// Wipes what the attempt held, checks it, and writes its last state and its receipt as one.
pub(crate) async fn end(node: &Node, live: Live, mut attempted: Attempted) {
    let Live { place, mut held, key } = live;
    let job = held.row.record.job;
    let result = finish(node, &mut held, Some(key), &mut attempted).await;
    if let Err(error) = result {
        // The record still says that it has not ended: the next start takes it up again.
        tracing::error!(%job, error = format!("{error:#}"), "failed to end an attempt");
        node.alert(AlertKind::WipeIncomplete, format!("the end of {job} could not be written")).await;
    }
    node.announce(job);
    drop(place);
}

/// Like [`end`], for what a restart cut off: the offer key went with the process that held it, and what
/// the engine said of its results is not known any more.
pub(crate) async fn end_interrupted(node: &Node, mut held: Held<JobRow>, verdict: Verdict) -> Result<()> {
    held.row.result_until = None;
    held.row.logs_until = None;
    finish(node, &mut held, None, &mut Attempted::never(verdict, None)).await
}

/// First destroys and looks, whatever the store is able to take; only then writes what happened.
async fn finish(node: &Node, held: &mut Held<JobRow>, key: Option<OfferKey>, attempted: &mut Attempted) -> Result<()> {
    let (job, attempt) = (held.row.record.job, held.row.record.attempt());
    let destroyed = key.as_ref().map(offers::destroyed);
    let wipe = wipe(node, job, attempt, key, held.row.engine.is_some()).await;
    match attempted.slot.take() {
        // What could not be wiped is not used again.
        Some(slot) if !wipe.complete => slot.block(),
        _ => {}
    }
    if held.row.record.state() != JobState::Wiping {
        enter(node, held, JobState::Wiping, Reason::Ended).await?;
    }
    if wipe.checks.iter().any(|check| check.what == OFFER_KEY && check.passed) {
        node.note(destroyed.into_iter().collect()).await;
    }
    if !wipe.complete {
        let message = format!("the wipe of {job}, attempt {attempt}, did not pass every check");
        node.alert(AlertKind::WipeIncomplete, message).await;
        enter(node, held, JobState::Wiping, Reason::WipeIncomplete).await?;
    }
    if attempted.verdict.reason == Reason::EngineLost {
        let message = format!("the engine of {job}, attempt {attempt}, ended without a result");
        node.alert(AlertKind::EngineLost, message).await;
    }
    conclude(node, held, attempted, &wipe).await
}

/// Writes the last state, the receipt and their events in one transaction.
async fn conclude(node: &Node, held: &mut Held<JobRow>, attempted: &Attempted, wipe: &WipeRecord) -> Result<()> {
    let Verdict { state, reason } = attempted.verdict;
    held.row.record.enter(state, reason, node.clock.now())?;
    let record = &held.row.record;
    let (job, attempt, consumer) = (record.job, record.attempt(), record.consumer);
    let predicate = receipts::predicate(node, &held.row, attempted, wipe)?;
    let sealed = receipts::sign(node, predicate, &held.row.log_key)?;
    let moved = Event::JobState { job, attempt, consumer, state, reason, offer: None, spec: None };
    let wiped = wiped_event(job, attempt, wipe).context("failed to name what was wiped")?;
    // The receipt holds the last entry's bytes, so they are composed once.
    let entries = node.ledger.entries(&[wiped, moved, sealed.event])?;
    let ended = entries.last().context("an attempt ends with an entry")?.clone();
    let receipt = ReceiptRow { envelope: sealed.envelope, entry: ended.into() };
    held.row.receipt_attempt = Some(attempt.0);
    let changes = vec![
        node.records.update(held, job_state(&held.row))?,
        node.records.insert(&receipts::row_id(job, attempt), Some(consumer), 0, &receipt)?,
    ];
    node.persist_entries(changes, entries).await?;
    held.version += 1;
    let (state_label, reason_label) = (state.to_string(), reason.as_str());
    metrics::counter!("decores_attempts_total", "state" => state_label, "reason" => reason_label).increment(1);
    tracing::info!(%job, %state, %reason, "attempt ended");
    Ok(())
}

/// What the check of the offer key is called.
const OFFER_KEY: &str = "offer-key";
/// How far the `job.ended` entry stands behind the first entry of its batch; see [`conclude`].
pub(crate) const ENDED_OFFSET: u64 = 2;

fn wiped_event(job: JobId, attempt: Attempt, wipe: &WipeRecord) -> Option<Event> {
    let checks = wipe.checks.iter().map(|c| Some((Code::parse(&c.what).ok()?, c.passed))).collect::<Option<_>>()?;
    Some(Event::JobWiped { job, attempt, complete: wipe.complete, category: wipe.category()?, checks })
}

/// Destroys what an attempt held and looks whether it is gone. `key` is absent where a restart lost it already.
async fn wipe(node: &Node, job: JobId, attempt: Attempt, key: Option<OfferKey>, launched: bool) -> WipeRecord {
    let mut checks = Vec::new();
    let mut add = |what: &str, category, passed| checks.push(WipeCheck { what: what.to_owned(), category, passed });
    if launched {
        let left = inspect(node, job, attempt).await;
        let gone = |there: Option<bool>| there == Some(false);
        add("processes", WipeCategory::Clear, gone(left.as_ref().map(|l| l.processes)));
        add("cgroup", WipeCategory::Clear, gone(left.as_ref().map(|l| l.cgroup)));
        add("mounts", WipeCategory::Clear, gone(left.as_ref().map(|l| l.mounts)));
        add("scratch", WipeCategory::Clear, gone(left.as_ref().map(|l| l.scratch)));
    }
    // Without one, the process that held it is gone, and with it its locked memory.
    let key_gone = key.is_none_or(|key| key.key.destroy());
    add(OFFER_KEY, WipeCategory::Clear, key_gone);
    let category = if key_gone { WipeCategory::PurgeCryptographicErase } else { WipeCategory::Clear };
    add("sealed-input", category, delete_payload(node, job, attempt).await);
    WipeRecord::new(checks)
}

/// What the machine shows of an attempt; `None` where it could not be looked at.
async fn inspect(node: &Node, job: JobId, attempt: Attempt) -> Option<Leftovers> {
    let launcher = node.launcher.clone();
    match tokio::task::spawn_blocking(move || launcher.inspect(job, attempt)).await {
        Ok(Ok(left)) => Some(left),
        Ok(Err(error)) => {
            tracing::error!(%job, error = chain(&error), "failed to look for leftovers");
            None
        }
        Err(error) => {
            tracing::error!(%job, %error, "failed to look for leftovers");
            None
        }
    }
}

async fn delete_payload(node: &Node, job: JobId, attempt: Attempt) -> bool {
    let blobs = node.blobs.clone();
    let deleted = tokio::task::spawn_blocking(move || blobs.delete(&names(job, attempt)?.payload));
    match deleted.await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::error!(%job, error = chain(&error), "failed to delete a sealed payload");
            false
        }
        Err(error) => {
            tracing::error!(%job, %error, "failed to delete a sealed payload");
            false
        }
    }
}
