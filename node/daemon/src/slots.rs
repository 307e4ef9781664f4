//! Places for running jobs. A place whose wipe failed is not given out again until it is mended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The places of a node.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Places>);

#[derive(Debug)]
struct Places {
    permits: Arc<Semaphore>,
    numbers: Mutex<Numbers>,
    all_blocked: watch::Sender<bool>,
    total: usize,
}

#[derive(Debug)]
struct Numbers {
    free: Vec<u32>,
    blocked: BTreeSet<u32>,
}

impl Places {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits; under the lock, so that the word fits the numbers.
    fn tell(&self, numbers: &Numbers) {
        self.all_blocked.send_replace(numbers.blocked.len() == self.total);
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
        let numbers = Mutex::new(Numbers { free, blocked: BTreeSet::new() });
        let permits = Arc::new(Semaphore::new(total));
        Self(Arc::new(Places { permits, numbers, all_blocked: watch::Sender::new(total == 0), total }))
    }

    /// Waits for a place, first come, first served; `None` when every place is blocked.
    pub(crate) async fn take(&self) -> Option<Slot> {
        let mut all_blocked = self.0.all_blocked.subscribe();
        let permit = tokio::select! {
            permit = Arc::clone(&self.0.permits).acquire_owned() => permit.ok()?,
            _ = all_blocked.wait_for(|all| *all) => return None,
        };
        let number = self.0.numbers().free.pop()?;
        Some(Slot { number, places: Arc::clone(&self.0), permit: Some(permit) })
    }

    /// Keeps a free place from being used: a former run left something in it.
    pub(crate) fn block(&self, number: u32) {
        let mut numbers = self.0.numbers();
        if let Some(at) = numbers.free.iter().position(|free| *free == number) {
            numbers.free.remove(at);
            numbers.blocked.insert(number);
            self.0.permits.forget_permits(1);
            self.0.tell(&numbers);
        }
    }

    /// Gives a blocked place free again.
    pub(crate) fn unblock(&self, number: u32) {
        let mut numbers = self.0.numbers();
        if numbers.blocked.remove(&number) {
            numbers.free.push(number);
            self.0.tell(&numbers);
            self.0.permits.add_permits(1);
        }
    }

    /// Places in use.
    pub(crate) fn taken(&self) -> usize {
        self.0.total.saturating_sub(self.0.permits.available_permits() + self.blocked())
    }

    /// Places that are kept from being used.
    pub(crate) fn blocked(&self) -> usize {
        self.0.numbers().blocked.len()
    }

    /// Whether no place can be used.
    pub(crate) fn all_blocked(&self) -> bool {
        *self.0.all_blocked.borrow()
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
        numbers.blocked.insert(self.number);
        self.places.tell(&numbers);
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
        assert_eq!((slots.taken(), slots.blocked()), (1, 1));
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take().await.is_none() }
        });
        again.block();
        assert!(waiting.await.unwrap(), "who waited is told");
        assert!(slots.all_blocked());
        assert!(slots.take().await.is_none());
    }

    #[tokio::test]
    async fn an_unblocked_place_is_given_out_again_once() {
        let slots = Slots::new(1);
        slots.take().await.unwrap().block();
        slots.unblock(0);
        slots.unblock(0);
        assert!(!slots.all_blocked());
        let slot = slots.take().await.unwrap();
        assert_eq!((slot.number(), slots.taken()), (0, 1));
        assert!(slots.0.permits.try_acquire().is_err(), "there is one place, not two");
    }

    #[tokio::test]
    async fn a_place_that_a_former_run_left_blocked_is_not_given_out() {
        let slots = Slots::new(2);
        slots.block(0);
        slots.block(0);
        slots.block(7);
        assert_eq!((slots.taken(), slots.blocked()), (0, 1));
        let slot = slots.take().await.unwrap();
        assert_eq!(slot.number(), 1);
        assert!(slots.0.permits.try_acquire().is_err());
    }
}
