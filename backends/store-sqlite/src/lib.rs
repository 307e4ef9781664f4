//! The store of one machine: records and log entries in one SQLite file.
//!
//! One thread writes. It drains what waits, gives each batch a savepoint of its own and commits all
//! with one `fdatasync` (WAL, `synchronous=FULL`): a batch that is refused takes no other with it,
//! and nothing is answered before it is durable. At most [`QUEUE`] batches wait; more are [`StoreError::Busy`].
//! Log entries are appended only: triggers in the file refuse to change or delete one.
//!
//! One process owns a store: [`SqliteStore::open`] takes a lock beside the file.

mod lock;
mod read;
mod schema;
mod write;

pub use lock::LockError;
pub use write::QUEUE;

use decores_audit::ports::{Batch, Committed, PortFuture, Record, Select, Store, StoreError, Table};
use lock::HomeLock;
use read::Readers;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use write::Writer;

/// Name of the database in its folder.
const FILE: &str = "store.sqlite";

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file cannot be made.
    #[error("failed to create `{path}`")]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused it.
    #[error("failed to open `{path}`")]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system does not allow a write-ahead log.
    #[error("`{path}` has journal mode `{mode}`, not `wal`; put the home on a local file system")]
    Journal {
        /// Which.
        path: PathBuf,
        /// The mode it has.
        mode: String,
    },
    /// Of another program or version.
    #[error("`{path}` is not a store of version {expected}: it says version {found}, application {application:#x}")]
    Schema {
        /// Which.
        path: PathBuf,
        /// The version this program reads.
        expected: i64,
        /// The version it has.
        found: i64,
        /// Whose it is.
        application: i64,
    },
    /// Gaps in the log.
    #[error("`{0}` is damaged: its log entries are not numbered without gaps")]
    Gaps(PathBuf),
    /// The writing thread did not start.
    #[error("failed to start the store's writing thread")]
    Thread(#[source] std::io::Error),
}

/// An open store. Dropping it writes what waits, closes the file and gives up the lock.
pub struct SqliteStore {
    // Fields drop in this order: first the writer joins its thread, at last the lock is given up.
    writer: Writer,
    readers: Readers,
    _lock: HomeLock,
}

impl SqliteStore {
    /// Opens the store in `folder`, which exists; makes it where there is none.
    ///
    /// # Errors
    /// If another process has it, or it is not a store of this version.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let lock = HomeLock::take(folder)?;
        let path = folder.join(FILE);
        // SQLite gives its journal the mode of the database, so that mode is set before it looks.
        let created = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        created.map_err(|source| OpenError::Create { path: path.clone(), source })?;
        let connection = schema::open(&path)?;
        let readers = Readers::open(&path).map_err(|source| OpenError::Sqlite { path: path.clone(), source })?;
        let writer = Writer::start(connection, &path)?;
        Ok(Self { writer, readers, _lock: lock })
    }
}

impl Store for SqliteStore {
    fn commit(&self, batch: Batch) -> PortFuture<'_, Committed> {
        Box::pin(self.writer.commit(batch))
    }

    fn get(&self, table: Table, id: Vec<u8>) -> PortFuture<'_, Option<Record>> {
        Box::pin(self.readers.run("reading a record", move |db| read::get(db, table, &id)))
    }

    fn list(&self, table: Table, select: Select) -> PortFuture<'_, Vec<Record>> {
        Box::pin(self.readers.run("listing records", move |db| read::list(db, table, &select)))
    }

    fn entries(&self, from: u64, limit: usize) -> PortFuture<'_, Vec<Vec<u8>>> {
        Box::pin(self.readers.run("reading log entries", move |db| read::entries(db, from, limit)))
    }

    fn size(&self) -> PortFuture<'_, u64> {
        Box::pin(self.readers.run("counting log entries", read::size))
    }
}

fn failed(during: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Failed { during, source: source.into() }
}
