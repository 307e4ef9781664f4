//! The end of an attempt: wipe, check, say so, sign.

use crate::attempt::Attempted;
use crate::blobs::names;
use crate::life::{Live, Verdict, enter};
use crate::node::{KeyChange, Node, key_event};
use crate::receipts;
use crate::records::{Held, JobRow, ReceiptRow, job_state};
use anyhow::{Context as _, Result};
use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_audit::ports::Change;
use decores_detection::AlertKind;
use decores_keys::{Algorithm, OfferKey, Purpose};
use decores_sandbox::{WipeCategory, WipeCheck, WipeRecord};
use decores_types::{Attempt, JobId, JobState, Reason, chain};

/// Wipes what the attempt held, checks it, and writes its last state and its receipt as one.
pub(crate) async fn end(node: &Node, live: Live, attempted: Attempted) {
    let Live { mut held, key } = live;
    enter(node, &mut held, JobState::Wiping, Reason::Ended).await;
    let (job, attempt) = (held.row.record.job, held.row.record.attempt());
    let wipe = wipe(node, job, attempt, Some(key), held.row.engine.is_some()).await;
    if !wipe.complete {
        enter(node, &mut held, JobState::Wiping, Reason::WipeIncomplete).await;
        node.alert(
            AlertKind::WipeIncomplete,
            format!("the wipe of {job}, attempt {attempt}, did not pass every check"),
        )
        .await;
    }
    let mut attempted = attempted;
    match attempted.slot.take() {
        Some(slot) if !wipe.complete => slot.block(),
        _ => {}
    }
    if attempted.verdict.reason == Reason::EngineLost {
        node.alert(AlertKind::EngineLost, format!("the engine of {job}, attempt {attempt}, ended without a result"))
            .await;
    }
    conclude(node, held, &attempted, &wipe).await;
}

/// Writes the last state, the receipt and their events in one transaction.
pub(crate) async fn conclude(node: &Node, mut held: Held<JobRow>, attempted: &Attempted, wipe: &WipeRecord) {
    let Verdict { state, reason } = attempted.verdict;
    let job = held.row.record.job;
    let now = node.clock.now();
    if let Err(error) = held.row.record.enter(state, reason, now) {
        tracing::error!(%job, error = chain(&error), "an attempt could not end");
        return;
    }
    match compose(node, &mut held, attempted, wipe) {
        Ok((changes, entries)) => {
            node.persist_entries(changes, entries).await;
            metrics::counter!("decores_attempts_total", "state" => state.to_string(), "reason" => reason.as_str())
                .increment(1);
            tracing::info!(%job, %state, %reason, "attempt ended");
        }
        Err(error) => tracing::error!(%job, error = format!("{error:#}"), "failed to write a receipt"),
    }
    node.announce(job);
}

fn compose(
    node: &Node,
    held: &mut Held<JobRow>,
    attempted: &Attempted,
    wipe: &WipeRecord,
) -> Result<(Vec<Change>, Vec<Vec<u8>>)> {
    let record = &held.row.record;
    let (job, attempt, consumer) = (record.job, record.attempt(), record.consumer);
    let Verdict { state, reason } = attempted.verdict;
    let predicate = receipts::predicate(node, &held.row, attempted, wipe)?;
    let sealed = receipts::sign(node, predicate, &held.row.log_key)?;
    let moved = Event::JobState { job, attempt, consumer, state, reason, offer: None, spec: None };
    let wiped = wiped_event(job, attempt, wipe).context("failed to name what was wiped")?;
    // The receipt holds the last entry's bytes, so they are composed once.
    let entries = node.ledger.entries(&[wiped, moved, sealed.event])?;
    let ended = entries.last().context("an attempt ends with an entry")?.clone();
    let receipt = ReceiptRow { envelope: sealed.envelope, entry: ended.into() };
    held.row.receipt_attempt = Some(attempt.0);
    let number = job_state(&held.row);
    let changes = vec![
        node.records.update(held, number)?,
        node.records.insert(&receipts::row_id(job, attempt), Some(consumer), 0, &receipt)?,
    ];
    Ok((changes, entries))
}

/// How far the `job.ended` entry stands behind the first entry of its batch; see [`compose`].
pub(crate) const ENDED_OFFSET: u64 = 2;

fn wiped_event(job: JobId, attempt: Attempt, wipe: &WipeRecord) -> Option<Event> {
    let checks = wipe.checks.iter().map(|c| Some((Code::parse(&c.what).ok()?, c.passed))).collect::<Option<_>>()?;
    let category = receipts::category(wipe.category()?);
    Some(Event::JobWiped { job, attempt, complete: wipe.complete, category, checks })
}

/// Destroys what an attempt held and looks whether it is gone. `key` is absent where a restart lost it already.
pub(crate) async fn wipe(
    node: &Node,
    job: JobId,
    attempt: Attempt,
    key: Option<OfferKey>,
    launched: bool,
) -> WipeRecord {
    let mut checks = Vec::new();
    let mut add = |what: &str, category, passed| checks.push(WipeCheck { what: what.to_owned(), category, passed });
    if launched {
        let launcher = node.launcher.clone();
        let left = tokio::task::spawn_blocking(move || launcher.inspect(job, attempt)).await;
        let left = match left {
            Ok(Ok(left)) => Some(left),
            Ok(Err(error)) => {
                tracing::error!(%job, error = chain(&error), "failed to look for leftovers");
                None
            }
            Err(_) => None,
        };
        let gone = |there: Option<bool>| there == Some(false);
        add("processes", WipeCategory::Clear, gone(left.as_ref().map(|l| l.processes)));
        add("cgroup", WipeCategory::Clear, gone(left.as_ref().map(|l| l.cgroup)));
        add("mounts", WipeCategory::Clear, gone(left.as_ref().map(|l| l.mounts)));
        add("scratch", WipeCategory::Clear, gone(left.as_ref().map(|l| l.scratch)));
    }
    let key_gone = match key {
        Some(key) => {
            let (id, epoch) = (key.key.recipient().id(), key.key.recipient().epoch());
            let gone = key.key.destroy();
            let event = key_event(KeyChange::Destroyed, id, Purpose::Offer, epoch, Algorithm::XWing);
            node.persist(Vec::new(), vec![event]).await;
            gone
        }
        // The process that held it is gone, and with it its locked memory.
        None => true,
    };
    add("offer-key", WipeCategory::Clear, key_gone);
    let category = if key_gone { WipeCategory::PurgeCryptographicErase } else { WipeCategory::Clear };
    let deleted = match names(job, attempt).and_then(|names| node.blobs.delete(&names.payload)) {
        Ok(_) => true,
        Err(error) => {
            tracing::error!(%job, error = chain(&error), "failed to delete a sealed payload");
            false
        }
    };
    add("sealed-input", category, deleted);
    WipeRecord::new(checks)
}
