//! Reading, on connections of its own that cannot write.

use crate::failed;
use decores_audit::ports::{Record, Select, StoreError, Table};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params, params_from_iter};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections, and so reads at the same time.
const CONNECTIONS: usize = 4;
/// Most rows of one answer.
const MAX_ROWS: usize = 1000;

/// A few read-only connections, taken in turn.
pub(crate) struct Readers {
    connections: Arc<[Mutex<Connection>]>,
    next: AtomicUsize,
}

impl Readers {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |_| Connection::open_with_flags(path, flags).map(Mutex::new);
        let connections: rusqlite::Result<Vec<_>> = (0..CONNECTIONS).map(open).collect();
        Ok(Self { connections: connections?.into(), next: AtomicUsize::new(0) })
    }

    /// Runs a query off the async threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        during: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connections = Arc::clone(&self.connections);
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let read = tokio::task::spawn_blocking(move || {
            let connection = connections.get(turn).ok_or(rusqlite::Error::InvalidQuery)?;
            query(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        read.await.map_err(|e| failed(during, e))?.map_err(|e| failed(during, e))
    }
}

const COLUMNS: &str = "id, owner, state, version, sequence, entry, value";

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: row.get(0)?,
        owner: row.get(1)?,
        state: row.get(2)?,
        version: unsigned(row, 3)?,
        sequence: unsigned(row, 4)?,
        entry: unsigned(row, 5)?,
        value: row.get(6)?,
    })
}

pub(crate) fn get(db: &Connection, table: Table, id: &[u8]) -> rusqlite::Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM records WHERE tbl = ?1 AND id = ?2");
    db.prepare_cached(&sql)?.query_row(params![table.name(), id], record).optional()
}

pub(crate) fn list(db: &Connection, table: Table, select: &Select) -> rusqlite::Result<Vec<Record>> {
    let mut sql = format!("SELECT {COLUMNS} FROM records WHERE tbl = ?");
    let mut values = vec![Value::from(table.name().to_owned())];
    if let Some(owner) = &select.owner {
        sql.push_str(" AND owner = ?");
        values.push(Value::from(owner.clone()));
    }
    if let Some(before) = select.before {
        sql.push_str(" AND sequence < ?");
        values.push(Value::from(signed(before)));
    }
    if !select.states.is_empty() {
        let marks = vec!["?"; select.states.len()].join(", ");
        sql.push_str(&format!(" AND state IN ({marks})"));
        values.extend(select.states.iter().copied().map(Value::from));
    }
    sql.push_str(" ORDER BY sequence DESC LIMIT ?");
    values.push(Value::from(limit(select.limit)));
    db.prepare_cached(&sql)?.query_map(params_from_iter(values), record)?.collect()
}

pub(crate) fn entries(db: &Connection, from: u64, most: usize) -> rusqlite::Result<Vec<Vec<u8>>> {
    let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
    let mut statement = db.prepare_cached("SELECT entry FROM log_entries WHERE idx >= ?1 ORDER BY idx LIMIT ?2")?;
    statement.query_map(params![from, limit(most)], |row| row.get(0))?.collect()
}

pub(crate) fn size(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT coalesce(max(idx) + 1, 0) FROM log_entries")?.query_row([], |row| unsigned(row, 0))
}

/// SQLite's integers are signed; none of ours is negative, or large enough for that to matter.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(at)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, number))
}

fn limit(asked: usize) -> i64 {
    asked.min(MAX_ROWS) as i64
}
