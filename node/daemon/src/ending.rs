//! The end of an attempt: wipe, check, say so, sign.

use crate::attempt::Attempted;
use crate::leftovers::LeftoverRow;
use crate::life::{Live, Verdict, step};
use crate::node::Node;
use crate::offers;
use crate::receipts;
use crate::records::{Held, JobRow, ReceiptRow, job_state};
use crate::slots::Slot;
use crate::wipe::{OFFER_KEY, SEALED_INPUT, SEALED_LOGS, SEALED_OUTPUT, When, Wiped};
use anyhow::{Context as _, Result};
use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_audit::ports::{Change, Table};
use decores_detection::AlertKind;
use decores_keys::OfferKey;
use decores_sandbox::WipeRecord;
use decores_types::{Attempt, JobId, JobState, Reason, WipeCategory};

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
    held.row.module_until = None;
    finish(node, &mut held, None, &mut Attempted::never(verdict, None)).await
}

/// First destroys and looks, whatever the store is able to take; only then writes what happened.
async fn finish(node: &Node, held: &mut Held<JobRow>, key: Option<OfferKey>, attempted: &mut Attempted) -> Result<()> {
    let (job, attempt) = (held.row.record.job, held.row.record.attempt());
    let destroyed = key.as_ref().map(offers::destroyed);
    let wiped = wipe(node, &held.row, key, attempted).await;
    let leftover = LeftoverRow::of((job, attempt), held.row.engine.as_ref(), &wiped, node.clock.now());
    hold_back(node, attempted.slot.take(), leftover.as_ref());
    let mut events = std::mem::take(&mut attempted.unwritten);
    if held.row.record.state() != JobState::Wiping {
        events.push(step(node, held, JobState::Wiping, Reason::Ended)?);
    }
    let wipe = WipeRecord::new(wiped.checks);
    let failed: Vec<&str> = wipe.checks.iter().filter(|c| !c.passed).map(|c| c.what.as_str()).collect();
    if !failed.contains(&OFFER_KEY) {
        events.extend(destroyed);
    }
    if !wipe.complete {
        let message = format!("the wipe of {job}, attempt {attempt}, did not pass every check: {}", failed.join(", "));
        node.alert(AlertKind::WipeIncomplete, message).await;
        events.push(step(node, held, JobState::Wiping, Reason::WipeIncomplete)?);
    }
    if attempted.verdict.reason == Reason::EngineLost {
        let message = if attempted.unkept {
            format!("what the engine of {job}, attempt {attempt}, sealed could not be kept")
        } else {
            format!("the engine of {job}, attempt {attempt}, ended without a result")
        };
        node.alert(AlertKind::EngineLost, message).await;
    }
    conclude(node, held, attempted, &wipe, leftover, events).await
}

/// A place in which something is left is not used again; any other is free.
fn hold_back(node: &Node, slot: Option<Slot>, leftover: Option<&LeftoverRow>) {
    match (slot, leftover.and_then(LeftoverRow::slot)) {
        (Some(slot), Some(_)) => slot.block(),
        // A former run's.
        (None, Some(number)) => node.slots.block(number),
        (_, None) => {}
    }
}

/// Writes the last state, the receipt and their events in one transaction, with the events of the steps before.
async fn conclude(
    node: &Node,
    held: &mut Held<JobRow>,
    attempted: &Attempted,
    wipe: &WipeRecord,
    leftover: Option<LeftoverRow>,
    mut events: Vec<Event>,
) -> Result<()> {
    let Verdict { state, reason } = attempted.verdict;
    let now = node.clock.now();
    held.row.record.enter(state, reason, now)?;
    held.row.receipt_until = Some(now.plus_ms(node.config.keep_receipt_ms));
    let record = &held.row.record;
    let (job, attempt, consumer) = (record.job, record.attempt(), record.consumer);
    let predicate = receipts::predicate(node, &held.row, attempted, wipe)?;
    let sealed = receipts::sign(node, predicate, &held.row.log_key)?;
    let moved = Event::JobState { job, attempt, consumer, state, reason, offer: None, spec: None };
    let wiped = wiped_event(job, attempt, wipe).context("failed to name what was wiped")?;
    // The receipt holds the last entry's bytes, so they are composed once.
    events.extend([wiped, moved, sealed.event]);
    let entries = node.ledger.entries(&events)?;
    let ended = entries.last().context("an attempt ends with an entry")?.clone();
    let offset = entries.len().saturating_sub(1) as u64;
    let receipt = ReceiptRow { envelope: sealed.envelope, entry: ended.into(), offset };
    held.row.receipt_attempt = Some(attempt.0);
    let id = receipts::row_id(job, attempt);
    let mut changes =
        vec![node.records.update(held, job_state(&held.row))?, node.records.insert(&id, Some(consumer), 0, &receipt)?];
    // A file that an earlier start could not delete may be known under this id: the attempt was never queued then.
    changes.push(Change::Delete { table: Table::Leftovers, id: id.clone() });
    if let Some(leftover) = leftover {
        changes.push(node.records.insert(&id, None, 0, &leftover)?);
    }
    node.persist_entries(changes, entries).await?;
    node.ledger.hurry();
    held.version += 1;
    let (state_label, reason_label) = (state.to_string(), reason.as_str());
    metrics::counter!("decores_attempts_total", "state" => state_label, "reason" => reason_label).increment(1);
    tracing::info!(%job, %state, %reason, "attempt ended");
    Ok(())
}

/// The event of a wipe.
pub(crate) fn wiped_event(job: JobId, attempt: Attempt, wipe: &WipeRecord) -> Option<Event> {
    let checks = wipe.checks.iter().map(|c| Some((Code::parse(&c.what).ok()?, c.passed))).collect::<Option<_>>()?;
    Some(Event::JobWiped { job, attempt, complete: wipe.complete, category: wipe.category()?, checks })
}

/// Destroys what an attempt held and looks whether it is gone. `key` is absent where a restart lost it already; what
/// the engine sealed goes too where it could not be kept.
async fn wipe(node: &Node, row: &JobRow, key: Option<OfferKey>, attempted: &Attempted) -> Wiped {
    let mut wiped = Wiped::default();
    if let Some(engine) = &row.engine {
        let when = if key.is_some() { When::AtItsEnd(attempted.left) } else { When::Now };
        wiped.engine(node, &engine.plan, when).await;
    }
    wiped.offer_key(key);
    let attempt = (row.record.job, row.record.attempt());
    let category = wiped.of_payload();
    wiped.file(node, attempt, SEALED_INPUT, category).await;
    if attempted.unkept {
        wiped.file(node, attempt, SEALED_OUTPUT, WipeCategory::Clear).await;
        wiped.file(node, attempt, SEALED_LOGS, WipeCategory::Clear).await;
    }
    wiped
}
