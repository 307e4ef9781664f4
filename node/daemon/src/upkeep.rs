//! What a node does by itself.

use crate::epochs;
use crate::health;
use crate::node::Node;
use crate::offers::destroyed;
use crate::presence;
use crate::retention;
use crate::tls::Authority;
use decores_audit::event::Event;
use decores_detection::{AlertKind, Jump};
use decores_keys::OfferKey;
use decores_secrets::return_heap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often most of it is done.
const MINUTE: Duration = Duration::from_secs(60);
/// How often expired offers are looked for, whose keys should not outlive them by much, and kept places.
const OFFERS: Duration = Duration::from_secs(1);
/// Minutes between two renewals of the served certificate: a day.
const RENEWAL: u32 = 24 * 60;

/// Begins all of it; each task ends when the node stops.
pub(crate) fn start(node: &Arc<Node>, authority: &Arc<Authority>) -> Vec<JoinHandle<()>> {
    let stopping = || node.stopping.subscribe();
    let (jumps, jumped) = watch::channel(None);
    vec![
        tokio::spawn(health::watch(Arc::clone(node), jumps, stopping())),
        tokio::spawn(health::tell(Arc::clone(node), stopping())),
        tokio::spawn(clock(Arc::clone(node), Arc::clone(authority), jumped, stopping())),
        tokio::spawn(offers(Arc::clone(node), stopping())),
        tokio::spawn(retention::expire(Arc::clone(node), stopping())),
        tokio::spawn(minutely(Arc::clone(node), Arc::clone(authority), stopping())),
    ]
}

/// Acts when the clock has jumped: whatever was made by the old time ends or is made anew.
async fn clock(
    node: Arc<Node>,
    authority: Arc<Authority>,
    mut jumped: watch::Receiver<Option<Jump>>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let jump = tokio::select! {
            changed = jumped.changed() => if changed.is_ok() { *jumped.borrow_and_update() } else { return },
            _ = stopping.changed() => return,
        };
        let Some(Jump { expected, found }) = jump else { continue };
        tracing::warn!(%expected, %found, "the clock jumped");
        renew(&node, &authority);
        // First of all keys are destroyed; telling of anything may have to wait for the store.
        end_offers(&node, node.offers.drain()).await;
        // A start within the hour has to know of it.
        presence::refresh(&node).await;
        node.note(vec![Event::ClockChanged { expected, found }]).await;
        epochs::renew(&node).await;
        let message = format!("the clock was at {found} and should have been at {expected}; open offers were ended");
        node.alert(AlertKind::ClockChanged, message).await;
    }
}

fn renew(node: &Node, authority: &Authority) {
    if let Err(error) = authority.renew(node.clock.now()) {
        tracing::error!(error = format!("{error:#}"), "failed to renew the node's certificate");
    }
}

/// Destroys the keys of expired offers and gives out places that were kept for nobody, until the node stops.
async fn offers(node: Arc<Node>, mut stopping: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(OFFERS);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            _ = stopping.changed() => return,
        }
        node.slots.hand_out();
        let expired = node.offers.expired(node.clock.now());
        if !expired.is_empty() {
            // Their keys end at once; only telling of it waits for the store.
            let node = Arc::clone(&node);
            tokio::spawn(async move { end_offers(&node, expired).await });
        }
    }
}

/// Everything else, until the node stops.
async fn minutely(node: Arc<Node>, authority: Arc<Authority>, mut stopping: watch::Receiver<bool>) {
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
        presence::refresh(&node).await;
        // What a busy minute needed is not kept for the next one.
        return_heap();
        if node.ledger.is_stalled() && !stalled {
            node.alert(AlertKind::LogStalled, "the log could not be extended".to_owned()).await;
        }
        stalled = node.ledger.is_stalled();
        minute = minute.wrapping_add(1);
        if minute.is_multiple_of(RENEWAL) {
            renew(&node, &authority);
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
