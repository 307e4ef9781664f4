//! The one thread that writes, and group commit.

use crate::read::{signed, unsigned};
use crate::{OpenError, failed};
use decores_audit::event::MAX_ENTRY;
use decores_audit::ports::{Batch, Change, Committed, StoreError};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi, params};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;

/// Batches that may wait; more are refused as busy.
pub const QUEUE: usize = 1024;
/// Batches under one commit.
const GROUP: usize = 256;

type Reply = oneshot::Sender<Result<Committed, StoreError>>;

struct Waiting {
    batch: Batch,
    reply: Reply,
}

/// The writing thread; dropping this joins it.
pub(crate) struct Writer {
    queue: Option<SyncSender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(db: Connection, path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let next = crate::read::size(&db).map_err(failed)?;
        let count = db.query_row("SELECT count(*) FROM log_entries", [], |row| unsigned(row, 0)).map_err(failed)?;
        if count != next {
            return Err(OpenError::Gaps(path.to_owned()));
        }
        let (queue, waiting) = sync_channel(QUEUE);
        let mut log = Log { db, next };
        let run = move || log.run(&waiting);
        let thread = thread::Builder::new().name("store".to_owned()).spawn(run).map_err(OpenError::Thread)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        const DURING: &str = "writing";
        if let Some(entry) = batch.entries.iter().find(|e| e.len() > MAX_ENTRY) {
            return Err(StoreError::EntryTooLarge(entry.len()));
        }
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(|| failed(DURING, "the store is closed"))?;
        queue.try_send(Waiting { batch, reply }).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => failed(DURING, "the writing thread has ended"),
        })?;
        answer.await.map_err(|e| failed(DURING, e))?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writing thread panicked");
        }
    }
}

struct Log {
    db: Connection,
    /// Index of the next log entry.
    next: u64,
}

impl Log {
    fn run(&mut self, waiting: &Receiver<Waiting>) {
        while let Ok(first) = waiting.recv() {
            let group: Vec<Waiting> = std::iter::once(first).chain(waiting.try_iter().take(GROUP - 1)).collect();
            let (batches, replies): (Vec<Batch>, Vec<Reply>) = group.into_iter().map(|w| (w.batch, w.reply)).unzip();
            match self.commit(batches) {
                Ok(results) => {
                    for (reply, result) in replies.into_iter().zip(results) {
                        // Whoever asked may have gone; what was written stays written.
                        let _ = reply.send(result);
                    }
                }
                Err(e) => {
                    tracing::error!(error = %e, "the store could not commit");
                    // A commit can fail and yet be on disk; the next index is what the file says.
                    self.next = crate::read::size(&self.db).unwrap_or(self.next);
                    for reply in replies {
                        let _ = reply.send(Err(failed("committing", e.to_string())));
                    }
                }
            }
        }
    }

    /// One transaction over all batches; the result of each.
    fn commit(&mut self, batches: Vec<Batch>) -> rusqlite::Result<Vec<Result<Committed, StoreError>>> {
        let mut transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut next = self.next;
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            let savepoint = transaction.savepoint()?;
            let result = write(&savepoint, &batch, next);
            match &result {
                Ok(_) => {
                    savepoint.commit()?;
                    next += batch.entries.len() as u64;
                }
                // Dropped without commit, a savepoint rolls back.
                Err(_) => drop(savepoint),
            }
            // A full disk, or one that fails, may have ended all of it: what follows would stand alone, with wrong indexes.
            if transaction.is_autocommit() {
                return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK), None));
            }
            results.push(result);
        }
        transaction.commit()?;
        self.next = next;
        Ok(results)
    }
}

fn write(db: &Connection, batch: &Batch, next: u64) -> Result<Committed, StoreError> {
    for change in &batch.changes {
        apply(db, change, signed(next))?;
    }
    let failed = |e| failed("appending to the log", e);
    let mut append = db.prepare_cached("INSERT INTO log_entries (idx, entry) VALUES (?1, ?2)").map_err(failed)?;
    for (index, entry) in (next..).zip(&batch.entries) {
        append.execute(params![signed(index), entry]).map_err(failed)?;
    }
    Ok(Committed { first_entry: next })
}

fn apply(db: &Connection, change: &Change, entry: i64) -> Result<(), StoreError> {
    let failed = |e| failed("changing a record", e);
    match change {
        Change::Insert { table, id, owner, state, value } => {
            let sql =
                "INSERT INTO records (tbl, id, owner, state, version, entry, value) VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6)";
            let inserted = db
                .prepare_cached(sql)
                .and_then(|mut s| s.execute(params![table.name(), id, owner, state, entry, value]));
            match inserted {
                Ok(_) => Ok(()),
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    Err(StoreError::Exists(*table))
                }
                Err(e) => Err(failed(e)),
            }
        }
        Change::Update { table, id, expected, state, value } => {
            let sql = "UPDATE records SET state = ?4, value = ?5, version = version + 1, entry = ?6
                       WHERE tbl = ?1 AND id = ?2 AND version = ?3";
            let updated = db
                .prepare_cached(sql)
                .and_then(|mut s| s.execute(params![table.name(), id, signed(*expected), state, value, entry]));
            if updated.map_err(failed)? == 1 { Ok(()) } else { Err(StoreError::Stale(*table)) }
        }
        Change::Delete { table, id } => {
            let sql = "DELETE FROM records WHERE tbl = ?1 AND id = ?2";
            db.prepare_cached(sql).and_then(|mut s| s.execute(params![table.name(), id])).map_err(failed)?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn batch(length: usize) -> Batch {
        Batch { changes: Vec::new(), entries: vec![vec![b'x'; length]; 8] }
    }

    /// SQLite ends the whole transaction when there is no room for a page.
    #[test]
    fn a_disk_that_fills_up_within_a_group_takes_all_of_it_and_leaves_no_gap() {
        let folder = tempfile::tempdir().unwrap();
        let db = crate::schema::open(&folder.path().join("store")).unwrap();
        let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let room = |log: &Log, pages: i64| {
            log.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        };
        let mut log = Log { db, next: 0 };
        room(&log, pages + 20);
        assert!(log.commit(vec![batch(10), batch(MAX_ENTRY), batch(10)]).is_err());
        assert_eq!((crate::read::size(&log.db).unwrap(), log.next), (0, 0));
        room(&log, pages + 2000);
        let written = log.commit(vec![batch(10), batch(MAX_ENTRY), batch(10)]).unwrap();
        let first: Vec<u64> = written.into_iter().map(|committed| committed.unwrap().first_entry).collect();
        assert_eq!(first, [0, 8, 16]);
    }
}
