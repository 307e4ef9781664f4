//! Places for running jobs, and who waits for one: see [`FairQueue`]. A place whose wipe failed is not given out again
//! until it is mended.

use decores_sandbox::queue::Ticket;
use decores_sandbox::{FairQueue, Turns};
use decores_types::{Clock, ConsumerId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// The places of a node.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Places>);

struct Places {
    state: Mutex<State>,
    all_blocked: watch::Sender<bool>,
    total: usize,
    clock: Arc<dyn Clock>,
}

struct State {
    waiting: FairQueue<oneshot::Sender<Slot>>,
    free: Vec<u32>,
    blocked: BTreeSet<u32>,
}

impl Places {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits; under the lock, so that the word fits the numbers.
    fn tell(&self, state: &State) {
        self.all_blocked.send_replace(state.blocked.len() == self.total);
    }

    /// Gives free places to those whose turn it is.
    fn hand_out(self: &Arc<Self>) {
        while let Some((next, slot)) = self.pick() {
            // One that waits no longer gives it back by dropping it.
            drop(next.send(slot));
        }
    }

    fn pick(self: &Arc<Self>) -> Option<(oneshot::Sender<Slot>, Slot)> {
        let (mut state, now) = (self.state(), self.clock.monotonic_ms());
        let free = state.free.len();
        let (consumer, next) = state.waiting.next(free, now)?;
        let number = state.free.pop()?;
        Some((next, Slot { number, consumer, began: now, blocked: false, places: Arc::clone(self) }))
    }
}

/// One place, given back on drop.
pub(crate) struct Slot {
    number: u32,
    consumer: ConsumerId,
    began: u64,
    blocked: bool,
    places: Arc<Places>,
}

/// A turn that is waited for; leaves the queue on drop.
struct Waiting<'a> {
    places: &'a Places,
    consumer: ConsumerId,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        drop(self.places.state().waiting.leave(self.consumer, self.ticket));
    }
}

impl Slots {
    pub(crate) fn new(total: usize, turns: Turns, clock: Arc<dyn Clock>) -> Self {
        let free = (0..u32::try_from(total).unwrap_or(u32::MAX)).rev().collect();
        let state = Mutex::new(State { waiting: FairQueue::new(turns), free, blocked: BTreeSet::new() });
        Self(Arc::new(Places { state, all_blocked: watch::Sender::new(total == 0), total, clock }))
    }

    /// Waits for a place, in turn with other consumers; `None` when every place is blocked.
    pub(crate) async fn take(&self, consumer: ConsumerId) -> Option<Slot> {
        let mut all_blocked = self.0.all_blocked.subscribe();
        let (sender, turn) = oneshot::channel();
        let ticket = self.0.state().waiting.join(consumer, sender, self.0.clock.monotonic_ms());
        let _waiting = Waiting { places: &self.0, consumer, ticket };
        self.0.hand_out();
        tokio::select! {
            slot = turn => slot.ok(),
            _ = all_blocked.wait_for(|all| *all) => None,
        }
    }

    /// Gives out a place that was kept long enough for somebody who did not come.
    pub(crate) fn hand_out(&self) {
        self.0.hand_out();
    }

    /// Keeps a free place from being used: a former run left something in it.
    pub(crate) fn block(&self, number: u32) {
        let mut state = self.0.state();
        if let Some(at) = state.free.iter().position(|free| *free == number) {
            state.free.remove(at);
            state.blocked.insert(number);
            self.0.tell(&state);
        }
    }

    /// Gives a blocked place free again.
    pub(crate) fn unblock(&self, number: u32) {
        let mut state = self.0.state();
        if state.blocked.remove(&number) {
            state.free.push(number);
            self.0.tell(&state);
        }
        drop(state);
        self.0.hand_out();
    }

    /// Places in use.
    pub(crate) fn taken(&self) -> usize {
        let state = self.0.state();
        self.0.total.saturating_sub(state.free.len() + state.blocked.len())
    }

    /// Places that are kept from being used.
    pub(crate) fn blocked(&self) -> usize {
        self.0.state().blocked.len()
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
        self.blocked = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.waiting.ended(self.consumer, self.began, self.places.clock.monotonic_ms());
        if self.blocked {
            state.blocked.insert(self.number);
            self.places.tell(&state);
        } else {
            state.free.push(self.number);
        }
        drop(state);
        self.places.hand_out();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_system::SystemClock;
    use std::pin::Pin;
    use std::time::Duration;
    use tokio::time::timeout;

    const A: ConsumerId = ConsumerId::from_bytes([1; 16]);
    const B: ConsumerId = ConsumerId::from_bytes([2; 16]);

    fn slots(total: usize) -> Slots {
        Slots::new(total, Turns { places: total, keep_ms: 0 }, Arc::new(SystemClock::default()))
    }

    /// A place that is free for this consumer now.
    async fn now(slots: &Slots, consumer: ConsumerId) -> Option<Slot> {
        timeout(Duration::ZERO, slots.take(consumer)).await.ok().flatten()
    }

    /// Somebody who has joined the queue, and has to wait.
    async fn wait(slots: &Slots, consumer: ConsumerId) -> Pin<Box<impl Future<Output = Option<Slot>>>> {
        let mut turn = Box::pin(slots.take(consumer));
        assert!(timeout(Duration::ZERO, turn.as_mut()).await.is_err());
        turn
    }

    #[tokio::test]
    async fn a_blocked_place_is_never_given_out_and_the_last_one_ends_the_wait() {
        let slots = slots(2);
        let (first, second) = (slots.take(A).await.unwrap(), slots.take(A).await.unwrap());
        assert_ne!(first.number(), second.number());
        assert_eq!(slots.taken(), 2);
        let kept = second.number();
        first.block();
        drop(second);
        let again = slots.take(A).await.unwrap();
        assert_eq!(again.number(), kept);
        assert_eq!((slots.taken(), slots.blocked()), (1, 1));
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take(B).await.is_none() }
        });
        again.block();
        assert!(waiting.await.unwrap(), "who waited is told");
        assert!(slots.all_blocked());
        assert!(slots.take(A).await.is_none());
    }

    #[tokio::test]
    async fn an_unblocked_place_is_given_out_again_once() {
        let slots = slots(1);
        slots.take(A).await.unwrap().block();
        slots.unblock(0);
        slots.unblock(0);
        assert!(!slots.all_blocked());
        let slot = slots.take(A).await.unwrap();
        assert_eq!((slot.number(), slots.taken()), (0, 1));
        assert!(now(&slots, A).await.is_none(), "there is one place, not two");
    }

    #[tokio::test]
    async fn a_place_that_a_former_run_left_blocked_is_not_given_out() {
        let slots = slots(2);
        slots.block(0);
        slots.block(0);
        slots.block(7);
        assert_eq!((slots.taken(), slots.blocked()), (0, 1));
        let slot = slots.take(A).await.unwrap();
        assert_eq!(slot.number(), 1);
        assert!(now(&slots, A).await.is_none());
    }

    #[tokio::test]
    async fn consumers_take_turns_and_who_gave_up_is_passed_over() {
        let slots = slots(1);
        let held = slots.take(A).await.unwrap();
        let (second, third) = (wait(&slots, A).await, wait(&slots, A).await);
        let (gone, other) = (wait(&slots, B).await, wait(&slots, B).await);
        drop(gone);
        drop(held);
        let theirs = other.await.unwrap();
        drop(theirs);
        drop(second.await.unwrap());
        // One whose turn came while it gave up keeps nothing.
        drop(third);
        assert!(now(&slots, B).await.is_some());
        assert_eq!(slots.taken(), 0);
    }
}
