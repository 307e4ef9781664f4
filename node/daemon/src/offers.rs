//! Open offers: one-use keys in locked memory, at most 32 a consumer.

use crate::node::{KeyChange, Node, key_event};
use decores_api::{Code, Problem};
use decores_audit::event::Event;
use decores_detection::AlertKind;
use decores_keys::{Algorithm, OfferKey, Purpose};
use decores_types::{ConsumerId, OfferId, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most open offers of one consumer.
pub(crate) const MAX_OPEN: usize = 32;

/// The table of open offers. An offer leaves it once, whatever becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Offers(Mutex<HashMap<OfferId, OfferKey>>);

impl Offers {
    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<OfferId, OfferKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether a consumer may have one more.
    pub(crate) fn check_room(&self, consumer: ConsumerId) -> Result<(), Problem> {
        if open(&self.table(), consumer) < MAX_OPEN { Ok(()) } else { Err(too_many()) }
    }

    /// Adds an offer; gives it back if its consumer has too many by now.
    #[must_use]
    pub(crate) fn add(&self, key: OfferKey) -> Option<OfferKey> {
        let mut table = self.table();
        if open(&table, key.consumer) >= MAX_OPEN {
            return Some(key);
        }
        table.insert(key.offer, key)
    }

    /// Takes an offer out for its one use. Used, expired, foreign and unknown ones look the same.
    pub(crate) fn take(&self, offer: OfferId, consumer: ConsumerId, now: Timestamp) -> Result<OfferKey, Problem> {
        let invalid =
            || Problem::new(Code::OfferInvalid, "the offer is used, expired, or not yours").hint("ask for a new one");
        let mut table = self.table();
        let good = table.get(&offer).is_some_and(|o| o.consumer == consumer && now < o.expires);
        if good { table.remove(&offer).ok_or_else(invalid) } else { Err(invalid()) }
    }

    /// Takes out every offer: the node is stopping.
    pub(crate) fn drain(&self) -> Vec<OfferKey> {
        self.table().drain().map(|(_, o)| o).collect()
    }

    /// Takes out every offer whose time is over.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<OfferKey> {
        self.table().extract_if(|_, o| now >= o.expires).map(|(_, o)| o).collect()
    }
}

fn open(table: &HashMap<OfferId, OfferKey>, consumer: ConsumerId) -> usize {
    table.values().filter(|o| o.consumer == consumer).count()
}

/// The refusal of one more offer.
pub(crate) fn too_many() -> Problem {
    let detail = format!("at most {MAX_OPEN} offers are open per consumer");
    Problem::new(Code::TooManyRequests, detail).hint("use one, or wait until one expires")
}

/// The event of an offer key's end, once it is destroyed.
pub(crate) fn destroyed(key: &OfferKey) -> Event {
    let recipient = key.key.recipient();
    key_event(KeyChange::Destroyed, recipient.id(), Purpose::Offer, recipient.epoch(), Algorithm::XWing)
}

/// Destroys the key of an offer that will open nothing, and checks that it is gone. The log is told as soon as it can
/// be; nobody waits for that.
pub(crate) fn destroy(node: &Arc<Node>, key: OfferKey) {
    let (event, id) = (destroyed(&key), key.key.recipient().id());
    let gone = key.key.destroy();
    let node = Arc::clone(node);
    tokio::spawn(async move {
        if gone {
            node.note(vec![event]).await;
        } else {
            node.alert(AlertKind::WipeIncomplete, format!("the offer key {id} did not read back as zero")).await;
        }
    });
}
