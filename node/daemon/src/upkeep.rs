//! What a node does by itself.

use crate::epochs;
use crate::node::Node;
use crate::offers::destroyed;
use crate::records::{Held, JobRow, RESULT_KEPT};
use crate::service::jobs::remove_results;
use crate::tls::Authority;
use decores_audit::event::Event;
use decores_audit::ports::Select;
use decores_detection::AlertKind;
use decores_keys::OfferKey;
use decores_types::{JobState, chain};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often most of it is done.
const MINUTE: Duration = Duration::from_secs(60);
/// How often expired offers are looked for: their keys should not outlive them by much.
const OFFERS: Duration = Duration::from_secs(1);
/// Minutes between two renewals of the served certificate: a day.
const RENEWAL: u32 = 24 * 60;

/// Destroys the keys of expired offers, until the node stops.
pub(crate) async fn offers(node: Arc<Node>, mut stopping: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(OFFERS);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            _ = stopping.changed() => return,
        }
        let expired = node.offers.expired(node.clock.now());
        if !expired.is_empty() {
            end_offers(&node, expired).await;
        }
    }
}

/// Everything else, until the node stops.
pub(crate) async fn minutely(node: Arc<Node>, authority: Arc<Authority>, mut stopping: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(MINUTE);
    let (mut minute, mut stalled) = (0_u32, false);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            _ = stopping.changed() => return,
        }
        summarise(&node).await;
        node.refusals.next_minute();
        epochs::rotate(&node).await;
        expire_results(&node).await;
        if node.ledger.is_stalled() && !stalled {
            node.alert(AlertKind::LogStalled, "the log could not be extended".to_owned()).await;
        }
        stalled = node.ledger.is_stalled();
        minute = minute.wrapping_add(1);
        if minute.is_multiple_of(RENEWAL)
            && let Err(error) = authority.renew(node.clock.now())
        {
            tracing::error!(error = format!("{error:#}"), "failed to renew the node's certificate");
        }
    }
}

/// Destroys the keys of offers that nobody used.
pub(crate) async fn end_offers(node: &Node, ended: Vec<OfferKey>) {
    let (mut events, mut left) = (Vec::new(), Vec::new());
    for key in ended {
        let (event, id) = (destroyed(&key), key.key.recipient().id());
        events.push(Event::OfferExpired { offer: key.offer, key: id });
        if key.key.destroy() {
            events.push(event);
        } else {
            left.push(id);
        }
    }
    node.note(events).await;
    for id in left {
        node.alert(AlertKind::WipeIncomplete, format!("the offer key {id} did not read back as zero")).await;
    }
}

/// Writes one entry per cause for what was only counted.
pub(crate) async fn summarise(node: &Node) {
    let events = node.summary.take(node.clock.now());
    if !events.is_empty() {
        node.note(events).await;
    }
}

/// Deletes sealed results whose time is over.
async fn expire_results(node: &Node) {
    let ended = [JobState::Done, JobState::Failed, JobState::Refused, JobState::Cancelled];
    let states = ended.map(|state| state as i64 + RESULT_KEPT).to_vec();
    let mut before = None;
    loop {
        let select = Select { states: states.clone(), before, limit: 500, ..Select::default() };
        let jobs: Vec<Held<JobRow>> = match node.records.list(select).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::error!(error = chain(&error), "failed to look for results whose time is over");
                return;
            }
        };
        let Some(last) = jobs.last() else { return };
        before = Some(last.sequence);
        let now = node.clock.now();
        for mut held in jobs {
            let untils = [held.row.result_until, held.row.logs_until];
            let due = untils.into_iter().flatten().any(|until| now >= until);
            if due && let Err(problem) = remove_results(node, &mut held, "expired").await {
                tracing::error!(%problem, "failed to remove a result whose time is over");
            }
        }
    }
}
