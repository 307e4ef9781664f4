//! Open offers: one-use keys in locked memory, at most 32 a consumer.

use decores_api::{Code, Problem};
use decores_keys::OfferKey;
use decores_types::{ConsumerId, OfferId, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

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
        if self.table().values().filter(|o| o.consumer == consumer).count() < MAX_OPEN {
            return Ok(());
        }
        let detail = format!("at most {MAX_OPEN} offers are open per consumer");
        Err(Problem::new(Code::TooManyRequests, detail).hint("use one, or wait until one expires"))
    }

    /// Adds an offer, unless its consumer has too many by now.
    pub(crate) fn add(&self, key: OfferKey) -> Result<(), Problem> {
        let mut table = self.table();
        if table.values().filter(|o| o.consumer == key.consumer).count() >= MAX_OPEN {
            drop(table);
            return self.check_room(key.consumer);
        }
        table.insert(key.offer, key);
        Ok(())
    }

    /// Takes an offer out for its one use. Used, expired, foreign and unknown ones look the same.
    pub(crate) fn take(&self, offer: OfferId, consumer: ConsumerId, now: Timestamp) -> Result<OfferKey, Problem> {
        let invalid =
            || Problem::new(Code::OfferInvalid, "the offer is used, expired, or not yours").hint("ask for a new one");
        let mut table = self.table();
        let good = table.get(&offer).is_some_and(|o| o.consumer == consumer && now < o.expires);
        if good { table.remove(&offer).ok_or_else(invalid) } else { Err(invalid()) }
    }

    /// Takes out every offer whose time is over.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<OfferKey> {
        self.table().extract_if(|_, o| now >= o.expires).map(|(_, o)| o).collect()
    }
}
