//! The log as the node uses it: commit changes with their events, wait until they are under a checkpoint.

use anyhow::{Context as _, Result};
use decores_audit::checkpoint::{LogKey, LogSigner};
use decores_audit::event::{Entry, EntryError, Event};
use decores_audit::ports::{Batch, Change, Committed, Store, StoreError, TileStore};
use decores_audit::sequencer::Sequencer;
use decores_types::{Clock, chain};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long entries gather before a checkpoint is signed over them, where nobody waits for one.
const GATHER: Duration = Duration::from_millis(100);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Whether the store takes what is written.
#[derive(Debug, Default)]
pub(crate) struct Faultiness {
    failing: AtomicBool,
    failures: AtomicU64,
}

impl Faultiness {
    /// Whether the last commit failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// How many commits have failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn worked(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }
}

/// The log.
pub(crate) struct Ledger {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tiles: Arc<dyn TileStore>,
    pub(crate) key: LogKey,
    clock: Arc<dyn Clock>,
    fresh: Arc<Notify>,
    wanted: Arc<Notify>,
    size: watch::Receiver<u64>,
    stalled: Arc<AtomicBool>,
    pub(crate) faultiness: Arc<Faultiness>,
}

impl Ledger {
    /// Takes up the log where it stands and starts its sequencer, on a thread of its own: tiles are
    /// written with blocking calls.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        tiles: Arc<dyn TileStore>,
        signer: Arc<dyn LogSigner>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let key = signer.key().clone();
        let sequencer = Sequencer::open(Arc::clone(&store), Arc::clone(&tiles), signer)
            .await
            .context("failed to take up the log")?;
        let (size_sender, size) = watch::channel(sequencer.head().size);
        let fresh = Arc::new(Notify::new());
        let stalled = Arc::new(AtomicBool::new(false));
        let wanted = Arc::new(Notify::new());
        let (wakes, flag) = ([Arc::clone(&fresh), Arc::clone(&wanted)], Arc::clone(&stalled));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new()
            .name("sequencer".to_owned())
            .spawn(move || runtime.block_on(sequence(sequencer, &wakes, &size_sender, &flag)))?;
        fresh.notify_one();
        let faultiness = Arc::new(Faultiness::default());
        Ok(Self { store, tiles, key, clock, fresh, wanted, size, stalled, faultiness })
    }

    /// The entries of events that happen now.
    pub(crate) fn entries(&self, events: &[Event]) -> Result<Vec<Vec<u8>>, EntryError> {
        let now = self.clock.now();
        events.iter().map(|event| Entry::new(event.clone(), now).to_bytes()).collect()
    }

    /// Writes changes and entries as one; durable when it returns.
    pub(crate) async fn commit(&self, changes: Vec<Change>, entries: Vec<Vec<u8>>) -> Result<Committed, StoreError> {
        let result = self.store.commit(Batch { changes, entries }).await;
        match &result {
            Ok(_) => {
                self.faultiness.worked();
                self.fresh.notify_one();
            }
            Err(StoreError::Failed { .. }) => self.faultiness.failed(),
            // The batch was refused, not lost.
            Err(StoreError::Busy | StoreError::Exists(_) | StoreError::Stale(_) | StoreError::EntryTooLarge(_)) => {}
        }
        result
    }

    /// Has a checkpoint signed over what is written: somebody is about to ask for it.
    pub(crate) fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Waits until the entry at `index` is under a signed checkpoint.
    pub(crate) async fn integrated(&self, index: u64) {
        let mut size = self.size.clone();
        if *size.borrow() <= index {
            self.hurry();
        }
        // The sender lives as long as the sequencer; should that be gone, the caller's own limit ends the wait.
        if size.wait_for(|size| *size > index).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Entries under the newest checkpoint.
    pub(crate) fn size(&self) -> u64 {
        *self.size.borrow()
    }

    /// Whether the last try to extend the log failed.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
}

async fn sequence(
    mut log: Sequencer,
    [fresh, wanted]: &[Arc<Notify>; 2],
    size: &watch::Sender<u64>,
    stalled: &AtomicBool,
) {
    loop {
        fresh.notified().await;
        loop {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = wanted.notified() => {}
            }
            match log.integrate().await {
                Ok(Some(checkpoint)) => {
                    stalled.store(false, Ordering::Relaxed);
                    if size.send(checkpoint.size).is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    stalled.store(true, Ordering::Relaxed);
                    tracing::error!(error = chain(&error), "failed to extend the log; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
