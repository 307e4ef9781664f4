//! The sequencer: entries of the store become tiles, and tiles a signed checkpoint.
//!
//! Order is all: tiles first, durable; then the signature; then the checkpoint, durable. A crash in
//! between is repaired by doing the same again from the same entries, which gives the same bytes.
//! Where the stored checkpoint does not fit tiles and entries, nothing is signed: there are never
//! two roots for one size.

use crate::checkpoint::{Checkpoint, CheckpointError, LogSigner};
use crate::ports::{Store, StoreError, TileStore};
use crate::tree::{self, Growth, Head, TILE_WIDTH, TreeError};
use std::io;
use std::sync::Arc;

/// Entries read at a time: all of a bundle that is not full, and more.
const BATCH: usize = 1000;
/// Entries that are read for one checkpoint; the rest waits for the next call.
const MOST_ENTRIES: usize = 8 * BATCH;
/// Bytes of entries after which no more are read for one checkpoint.
const MOST_BYTES: usize = 16 << 20;

/// Turns entries into tiles and checkpoints. There must be one for a log.
pub struct Sequencer {
    store: Arc<dyn Store>,
    tiles: Arc<dyn TileStore>,
    signer: Arc<dyn LogSigner>,
    head: Head,
}

/// Why the log was not extended.
#[derive(Debug, thiserror::Error)]
pub enum SequencerError {
    /// The entries could not be read.
    #[error("failed to read log entries")]
    Store(#[source] StoreError),
    /// Tiles could not be written or read.
    #[error("failed to {doing} `{path}`")]
    Tiles {
        /// What was being done.
        doing: &'static str,
        /// With which tile.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The tiles contradict the checkpoint or the entries.
    #[error("the log contradicts itself; nothing is signed until it is restored from a backup")]
    Tree(#[source] TreeError),
    /// The stored checkpoint is not by this log's key, or signing failed.
    #[error("failed to read or sign the checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// The store has fewer entries than were signed: it was rolled back.
    #[error("the store has {stored} entries, but {signed} have been signed; restore the newer store")]
    RolledBack {
        /// Entries in the store.
        stored: u64,
        /// Entries under the checkpoint.
        signed: u64,
    },
}

impl Sequencer {
    /// Takes up a log where it stands.
    ///
    /// # Errors
    /// If the stored checkpoint is not by this key, or does not fit tiles and entries.
    pub async fn open(
        store: Arc<dyn Store>,
        tiles: Arc<dyn TileStore>,
        signer: Arc<dyn LogSigner>,
    ) -> Result<Self, SequencerError> {
        let failed = |source| SequencerError::Tiles { doing: "read", path: "checkpoint".to_owned(), source };
        let head = match tiles.checkpoint().map_err(failed)? {
            Some(note) => Checkpoint::open_strict(&note, signer.key()).map_err(SequencerError::Checkpoint)?.head(),
            None => Head::EMPTY,
        };
        let stored = store.size().await.map_err(SequencerError::Store)?;
        if stored < head.size {
            return Err(SequencerError::RolledBack { stored, signed: head.size });
        }
        let this = Self { store, tiles, signer, head };
        // Growing by nothing compares the last bundle's entries and every hash on the right edge.
        this.grown(head, (head.size % TILE_WIDTH) as usize).await?;
        Ok(this)
    }

    /// The tree under the newest checkpoint.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Takes in what was committed since, up to 8,000 entries, and signs once. `None` where there was nothing.
    /// Writing tiles blocks: run it where that hurts nobody.
    ///
    /// # Errors
    /// If anything fails; the log then stands as before, and the next call tries again.
    pub async fn integrate(&mut self) -> Result<Option<Checkpoint>, SequencerError> {
        let growth = self.grown(self.head, MOST_ENTRIES).await?;
        let head = growth.head;
        if head == self.head {
            return Ok(None);
        }
        self.write(&growth)?;
        let origin = self.signer.key().name().to_owned();
        let checkpoint = Checkpoint { origin, size: head.size, root: head.root };
        let note = checkpoint.sign(self.signer.as_ref()).map_err(SequencerError::Checkpoint)?;
        let failed = |source| SequencerError::Tiles { doing: "write", path: "checkpoint".to_owned(), source };
        self.tiles.put_checkpoint(&note).map_err(failed)?;
        self.head = head;
        Ok(Some(checkpoint))
    }

    async fn grown(&self, head: Head, limit: usize) -> Result<Growth, SequencerError> {
        let first = head.size - head.size % TILE_WIDTH;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < limit && bytes < MOST_BYTES {
            let count = BATCH.min(limit - entries.len());
            let read = self.store.entries(first + entries.len() as u64, count).await.map_err(SequencerError::Store)?;
            let last = read.len() < count;
            bytes += read.iter().map(Vec::len).sum::<usize>();
            entries.extend(read);
            if last {
                break;
            }
        }
        tree::grow(&|path| self.tiles.get(path), head, &entries).map_err(SequencerError::Tree)
    }

    fn write(&self, growth: &Growth) -> Result<(), SequencerError> {
        let failed = |doing, path: &str| {
            let path = path.to_owned();
            move |source| SequencerError::Tiles { doing, path, source }
        };
        self.tiles.put_all(&growth.tiles).map_err(failed("write", "tile"))?;
        for tile in growth.tiles.iter().filter(|t| t.full) {
            self.tiles.drop_partials(&tile.path).map_err(failed("drop partial forms of", &tile.path))?;
        }
        Ok(())
    }
}
