//! What can be wrong with a log on its own disk, and what helps.

use crate::checkpoint::CheckpointError;
use crate::event::EntryError;
use crate::ports::StoreError;
use crate::tree::TreeError;
use decores_types::{Attempt, JobId};
use std::io;

/// Why a node does not go on with its log.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The store does not work.
    #[error("failed to read the stored log entries")]
    Store(#[source] StoreError),
    /// A file of the log cannot be read.
    #[error("failed to read the log")]
    Read(#[source] TreeError),
    /// The checkpoint is not as it was signed.
    #[error("the log's `checkpoint` is damaged")]
    Checkpoint(#[source] CheckpointError),
    /// There are tiles, and no checkpoint.
    #[error("the log's `checkpoint` is gone, though `{0}` is there")]
    NoCheckpoint(String),
    /// The store has fewer entries than were signed.
    #[error("the store has {stored} entries, but {signed} have been signed: it was rolled back")]
    RolledBack {
        /// Entries in the store.
        stored: u64,
        /// Entries under the checkpoint.
        signed: u64,
    },
    /// An entry that the store should have.
    #[error("entry {0} is missing in the store")]
    Missing(u64),
    /// An entry that the store has otherwise.
    #[error("entry {0} in the store is not the one that was signed")]
    Changed(u64),
    /// An entry that was written like this, and cannot be read.
    #[error("entry {index} in the store cannot be read")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// An entry that cannot be read, and that nothing was signed over yet.
    #[error("entry {index} in the store cannot be read, and is not signed yet")]
    Unsigned {
        /// Which.
        index: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// Two ends of one attempt.
    #[error("entry {second} ends attempt {attempt} of {job} a second time, entry {first} had ended it")]
    TwoEnds {
        /// The job.
        job: JobId,
        /// Its attempt.
        attempt: Attempt,
        /// Index of the first end.
        first: u64,
        /// Index of the second.
        second: u64,
    },
    /// A tile or bundle that is missing, or is not what was signed.
    #[error("`{path}` is missing or damaged, at entry {index}")]
    Tile {
        /// Which.
        path: String,
        /// Index of the first entry that it says something wrong of.
        index: u64,
    },
    /// Tiles and entries fit each other, and not what was signed.
    #[error("the stored entries do not have the root that the checkpoint of {0} entries signs")]
    Root(u64),
    /// A tile that was to be mended.
    #[error("failed to write `{path}`")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What helps against damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// What the error itself says went wrong: the disk, the store.
    Cause,
    /// To make the tiles anew ([`crate::rebuild::rebuild`]).
    Rebuild,
    /// To restore the entries, as new as the checkpoint or newer, from a backup.
    RestoreEntries,
    /// To restore tiles and checkpoint from a backup; they may be older than the entries.
    RestoreTiles,
    /// Nothing: no damage does that.
    Nothing,
}

impl Damage {
    /// The same fault in an entry that nothing was signed over yet: there a damaged disk can be the reason.
    pub(crate) fn unsigned(self) -> Self {
        match self {
            Self::Entry { index, source } => Self::Unsigned { index, source },
            other => other,
        }
    }

    /// What helps against it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Store(_) | Self::Read(_) | Self::Write { .. } => Remedy::Cause,
            Self::Checkpoint(_) | Self::NoCheckpoint(_) => Remedy::RestoreTiles,
            Self::Tile { .. } => Remedy::Rebuild,
            Self::RolledBack { .. } | Self::Missing(_) | Self::Changed(_) | Self::Root(_) | Self::Unsigned { .. } => {
                Remedy::RestoreEntries
            }
            Self::Entry { .. } | Self::TwoEnds { .. } => Remedy::Nothing,
        }
    }
}
