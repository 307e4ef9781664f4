//! Submissions that are being taken: one at a time under each idempotency key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an idempotency key is found by.
pub(crate) type Lookup = [u8; 32];

/// The keys under which something is being taken.
#[derive(Debug, Default)]
pub(crate) struct Taking(Mutex<HashSet<Lookup>>);

/// The right to take something under a key, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    taking: Arc<Taking>,
    lookup: Lookup,
}

impl Taking {
    fn table(&self) -> MutexGuard<'_, HashSet<Lookup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` while somebody else has this key's turn.
    pub(crate) fn begin(self: &Arc<Self>, lookup: Lookup) -> Option<Turn> {
        let fresh = self.table().insert(lookup);
        fresh.then(|| Turn { taking: Arc::clone(self), lookup })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.taking.table().remove(&self.lookup);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_turn_at_a_time_and_other_keys_do_not_wait() {
        let taking = Arc::new(Taking::default());
        let turn = taking.begin([1; 32]);
        assert!(turn.is_some());
        assert!(taking.begin([1; 32]).is_none() && taking.begin([2; 32]).is_some());
        drop(turn);
        assert!(taking.begin([1; 32]).is_some());
    }
}
