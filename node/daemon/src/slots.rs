//! Places for running jobs. A place whose wipe failed is not given out again until the node restarts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of a node.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Places>);

#[derive(Debug)]
struct Places {
    permits: Arc<Semaphore>,
    numbers: Mutex<Numbers>,
    total: usize,
}

#[derive(Debug)]
struct Numbers {
    free: Vec<u32>,
    blocked: usize,
}

impl Places {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, given back on drop.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u32,
    places: Arc<Places>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(crate) fn new(total: usize) -> Self {
        let free = (0..u32::try_from(total).unwrap_or(u32::MAX)).rev().collect();
        let numbers = Mutex::new(Numbers { free, blocked: 0 });
        Self(Arc::new(Places { permits: Arc::new(Semaphore::new(total)), numbers, total }))
    }

    /// Waits for a place, first come, first served; `None` when every place is blocked.
    pub(crate) async fn take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await.ok()?;
        let number = self.0.numbers().free.pop()?;
        Some(Slot { number, places: Arc::clone(&self.0), permit: Some(permit) })
    }

    /// Places in use or blocked.
    pub(crate) fn taken(&self) -> usize {
        self.0.total - self.0.permits.available_permits()
    }
}

impl Slot {
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// Keeps the place from being used again; with the last one, whoever waits is told.
    pub(crate) fn block(mut self) {
        if let Some(permit) = self.permit.take() {
            permit.forget();
        }
        let mut numbers = self.places.numbers();
        numbers.blocked += 1;
        if numbers.blocked == self.places.total {
            self.places.permits.close();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The number is back before the permit is.
        if let Some(permit) = self.permit.take() {
            self.places.numbers().free.push(self.number);
            drop(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn a_blocked_place_is_never_given_out_and_the_last_one_ends_the_wait() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take().await.unwrap(), slots.take().await.unwrap());
        assert_ne!(first.number(), second.number());
        assert_eq!(slots.taken(), 2);
        let kept = second.number();
        first.block();
        drop(second);
        let again = slots.take().await.unwrap();
        assert_eq!(again.number(), kept);
        again.block();
        assert!(slots.take().await.is_none());
    }
}
