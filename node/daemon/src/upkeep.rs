//! What a node does by itself, a minute at a time.

use crate::node::{KeyChange, Node, key_event};
use crate::records::{Held, JobRow};
use crate::service::jobs::remove_results;
use crate::tls::Authority;
use decores_audit::event::Event;
use decores_audit::ports::Select;
use decores_detection::AlertKind;
use decores_keys::{Algorithm, Purpose};
use decores_types::{JobState, chain};
use std::sync::Arc;
use std::time::Duration;

/// How often.
const PERIOD: Duration = Duration::from_secs(60);
/// How often expired offers are looked for: their keys should not outlive them by much.
const OFFERS: Duration = Duration::from_secs(1);
/// Rounds between two renewals of the served certificate: a day.
const RENEWAL: u32 = 24 * 60;

/// Runs until the node stops.
pub(crate) async fn run(node: Arc<Node>, authority: Arc<Authority>) {
    let mut period = tokio::time::interval(PERIOD);
    let mut offers = tokio::time::interval(OFFERS);
    let mut stopping = node.stopping.subscribe();
    let (mut round, mut stalled) = (0_u32, false);
    loop {
        tokio::select! {
            _ = offers.tick() => expire_offers(&node).await,
            _ = period.tick() => {
                summarise(&node).await;
                expire_results(&node).await;
                if node.ledger.is_stalled() && !stalled {
                    node.alert(AlertKind::LogStalled, "the log could not be extended".to_owned()).await;
                }
                stalled = node.ledger.is_stalled();
                round = round.wrapping_add(1);
                if round.is_multiple_of(RENEWAL)
                    && let Err(error) = authority.renew(node.clock.now())
                {
                    tracing::error!(error = format!("{error:#}"), "failed to renew the node's certificate");
                }
            }
            _ = stopping.changed() => return,
        }
    }
}

/// Destroys the keys of offers whose time is over.
async fn expire_offers(node: &Node) {
    let expired = node.offers.expired(node.clock.now());
    if expired.is_empty() {
        return;
    }
    let mut events = Vec::new();
    for key in expired {
        let (id, epoch) = (key.key.recipient().id(), key.key.recipient().epoch());
        events.push(Event::OfferExpired { offer: key.offer, key: id });
        if !key.key.destroy() {
            tracing::error!(key = %id, "an offer key did not read back as zero");
            continue;
        }
        events.push(key_event(KeyChange::Destroyed, id, Purpose::Offer, epoch, Algorithm::XWing));
    }
    node.persist(Vec::new(), events).await;
}

/// Writes one entry per cause for what was only counted.
pub(crate) async fn summarise(node: &Node) {
    let events = node.summary.take(node.clock.now());
    if !events.is_empty() {
        node.persist(Vec::new(), events).await;
    }
}

/// Deletes sealed results whose time is over.
async fn expire_results(node: &Node) {
    let states = [JobState::Done, JobState::Failed].map(|state| state as i64).to_vec();
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
            let row = &held.row;
            let due = [row.result_until, row.logs_until].into_iter().flatten().any(|until| now >= until);
            if due
                && row.results_removed.is_none()
                && let Err(problem) = remove_results(node, &mut held).await
            {
                tracing::error!(%problem, "failed to remove a result whose time is over");
            }
        }
    }
}
