//! The one truth: records and log entries, written together.
//!
//! A change of state and the events that tell of it go to the [`Store`] as one [`Batch`]; nothing is
//! acknowledged before it is durable. A sequencer derives tiles and checkpoints from the entries.

use crate::tree::NewTile;
use std::future::Future;
use std::pin::Pin;

/// A future that a port returns.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A table of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Jobs, by job id.
    Jobs,
    /// Idempotency keys, by HMAC; the value names the job.
    Submissions,
    /// API keys, by HMAC of the key.
    ApiKeys,
    /// Receipts, by job id and attempt.
    Receipts,
    /// Alerts, by alert id.
    Alerts,
    /// What the node keeps about itself, by name.
    Node,
    /// Attempts that left something behind, by job id and attempt.
    Leftovers,
}

impl Table {
    /// The name that stands in the store and in the associated data of sealed rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Submissions => "submissions",
            Self::ApiKeys => "api_keys",
            Self::Receipts => "receipts",
            Self::Alerts => "alerts",
            Self::Node => "node",
            Self::Leftovers => "leftovers",
        }
    }
}

/// A stored record. `value` is sealed; `id` is random or an HMAC; `owner` a random id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id within the table.
    pub id: Vec<u8>,
    /// Whom it belongs to, for listing; empty where nobody.
    pub owner: Vec<u8>,
    /// A small number to select by, such as a job's state.
    pub state: i64,
    /// Grows by one at every change; checked on update.
    pub version: u64,
    /// Order of creation within the store, for pages; set by the store.
    pub sequence: u64,
    /// Index that the first log entry of the batch that last wrote it has, or would have had.
    pub entry: u64,
    /// The sealed value.
    pub value: Vec<u8>,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    /// Adds a record; the batch is refused if the id exists.
    Insert {
        /// The table.
        table: Table,
        /// Its id.
        id: Vec<u8>,
        /// Its owner.
        owner: Vec<u8>,
        /// Its state.
        state: i64,
        /// Its sealed value.
        value: Vec<u8>,
    },
    /// Replaces a record; the batch is refused unless its version is `expected`.
    Update {
        /// The table.
        table: Table,
        /// Its id.
        id: Vec<u8>,
        /// The version that was read.
        expected: u64,
        /// Its new state.
        state: i64,
        /// Its new sealed value.
        value: Vec<u8>,
    },
    /// Removes a record, if it is there.
    Delete {
        /// The table.
        table: Table,
        /// Its id.
        id: Vec<u8>,
    },
}

/// Changes and entries that become durable together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Changes, in order.
    pub changes: Vec<Change>,
    /// Log entries, in order; each at most 65,535 bytes.
    pub entries: Vec<Vec<u8>>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Index of the batch's first entry in the log; the log's size where there was none.
    pub first_entry: u64,
}

/// Which records to list.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// Only this owner's.
    pub owner: Option<Vec<u8>>,
    /// Only these states; all where empty.
    pub states: Vec<i64>,
    /// Only records whose sequence is below this (newest first).
    pub before: Option<u64>,
    /// At most this many, up to 1,000.
    pub limit: usize,
}

/// Where records and entries live.
pub trait Store: Send + Sync {
    /// Writes a batch; returns when it is durable.
    fn commit(&self, batch: Batch) -> PortFuture<'_, Committed>;

    /// Reads one record.
    fn get(&self, table: Table, id: Vec<u8>) -> PortFuture<'_, Option<Record>>;

    /// Lists records, newest first.
    fn list(&self, table: Table, select: Select) -> PortFuture<'_, Vec<Record>>;

    /// Reads up to `limit` (at most 1,000) log entries from index `from`.
    fn entries(&self, from: u64, limit: usize) -> PortFuture<'_, Vec<Vec<u8>>>;

    /// The number of durable log entries.
    fn size(&self) -> PortFuture<'_, u64>;
}

/// Where tiles and checkpoints live; paths as C2SP tlog-tiles names them.
pub trait TileStore: Send + Sync {
    /// Writes a tile durably. A full tile never changes; a partial one is another path.
    fn put(&self, path: &str, bytes: &[u8]) -> std::io::Result<()>;

    /// Writes several tiles, all durable when it returns; in between, and after a failure, any of them may be there.
    fn put_all(&self, tiles: &[NewTile]) -> std::io::Result<()> {
        tiles.iter().try_for_each(|tile| self.put(&tile.path, &tile.bytes))
    }

    /// Writes a tile that was found missing or damaged. Of a partial one the full form goes: it is made anew.
    fn replace(&self, path: &str, bytes: &[u8]) -> std::io::Result<()>;

    /// Reads a tile.
    fn get(&self, path: &str) -> std::io::Result<Option<Vec<u8>>>;

    /// Drops the partial forms of a tile that is now full; readers cut them out of the full one.
    fn drop_partials(&self, path: &str) -> std::io::Result<()>;

    /// Replaces the checkpoint, durably and at once.
    fn put_checkpoint(&self, bytes: &[u8]) -> std::io::Result<()>;

    /// Reads the checkpoint.
    fn checkpoint(&self) -> std::io::Result<Option<Vec<u8>>>;
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A record of this id exists.
    #[error("a record of this id exists in `{}`", .0.name())]
    Exists(Table),
    /// The record was changed by another, or is gone.
    #[error("a record in `{}` was changed meanwhile", .0.name())]
    Stale(Table),
    /// An entry is longer than 65,535 bytes.
    #[error("a log entry has {0} bytes, at most 65535 are written")]
    EntryTooLarge(usize),
    /// Too much waits to be written.
    #[error("too many writes are waiting")]
    Busy,
    /// The store does not work.
    #[error("the store failed while {during}")]
    Failed {
        /// What it was doing.
        during: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
