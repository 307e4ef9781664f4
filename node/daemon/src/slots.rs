//! Places for running jobs. A place whose wipe failed is not given out again.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of a node.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    free: Arc<Mutex<Vec<u32>>>,
    places: Arc<Semaphore>,
    total: usize,
}

/// One place, given back on drop.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u32,
    free: Arc<Mutex<Vec<u32>>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(crate) fn new(total: usize) -> Self {
        let numbers = (0..u32::try_from(total).unwrap_or(u32::MAX)).rev().collect();
        Self { free: Arc::new(Mutex::new(numbers)), places: Arc::new(Semaphore::new(total)), total }
    }

    /// Waits for a place, first come, first served; `None` when every place is blocked for good.
    pub(crate) async fn take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Slot { number, free: Arc::clone(&self.free), permit: Some(permit) })
    }

    /// Places in use or blocked.
    pub(crate) fn taken(&self) -> usize {
        self.total - self.places.available_permits()
    }
}

impl Slot {
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// Keeps the place from being used again until the node restarts.
    pub(crate) fn block(mut self) {
        if let Some(permit) = self.permit.take() {
            permit.forget();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.permit.is_some() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
        }
    }
}
