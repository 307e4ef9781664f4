//! How many requests of each consumer are being answered.

use decores_types::ConsumerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is being answered.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<ConsumerId, usize>>);

/// One request that is being answered, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    consumer: ConsumerId,
}

impl Turns {
    fn table(&self) -> MutexGuard<'_, HashMap<ConsumerId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where this consumer has so many already.
    pub(crate) fn begin(self: &Arc<Self>, consumer: ConsumerId, most: usize) -> Option<Turn> {
        let mut table = self.table();
        let count = table.entry(consumer).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(table);
        Some(Turn { turns: Arc::clone(self), consumer })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut table = self.turns.table();
        if let Some(count) = table.get_mut(&self.consumer) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.consumer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_consumers_requests_keep_nobody_else_out() {
        let turns = Arc::new(Turns::default());
        let (a, b) = (ConsumerId::from_bytes([1; 16]), ConsumerId::from_bytes([2; 16]));
        let taken: Vec<_> = std::iter::from_fn(|| turns.begin(a, 3)).collect();
        assert_eq!(taken.len(), 3);
        assert!(turns.begin(b, 3).is_some());
        drop(taken);
        assert!(turns.table().is_empty());
        assert!(turns.begin(a, 3).is_some());
    }
}
