//! The file's tables, and how connections are set up.

use crate::OpenError;
use rusqlite::Connection;
use std::path::Path;

/// Format version, kept in the file.
const VERSION: i64 = 1;
/// Marks the file as ours ("DCRS").
const APPLICATION: i64 = 0x4443_5253;

const TABLES: &str = "
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl      TEXT    NOT NULL,
    id       BLOB    NOT NULL,
    owner    BLOB    NOT NULL,
    state    INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    entry    INTEGER NOT NULL,
    value    BLOB    NOT NULL,
    UNIQUE (tbl, id)
) STRICT;
CREATE INDEX records_by_sequence ON records (tbl, sequence);
CREATE INDEX records_by_state ON records (tbl, state, sequence);
CREATE INDEX records_by_owner ON records (tbl, owner, sequence);
CREATE TABLE log_entries (
    idx   INTEGER PRIMARY KEY CHECK (idx >= 0),
    entry BLOB NOT NULL CHECK (length(entry) <= 65535)
) STRICT;
CREATE TRIGGER log_entries_stay BEFORE DELETE ON log_entries
    BEGIN SELECT RAISE(ABORT, 'log entries are never deleted'); END;
CREATE TRIGGER log_entries_unchanged BEFORE UPDATE ON log_entries
    BEGIN SELECT RAISE(ABORT, 'log entries are never changed'); END;
";

/// Opens the file for writing; makes the tables where it is empty.
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let mut db = Connection::open(path).map_err(failed)?;
    let mode = configure(&db).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::Journal { path: path.to_owned(), mode });
    }
    if is_empty(&db).map_err(failed)? {
        create(&mut db).map_err(failed)?;
    }
    let read = |name| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let found = read("user_version").map_err(failed)?;
    let application = read("application_id").map_err(failed)?;
    if (found, application) != (VERSION, APPLICATION) {
        return Err(OpenError::Schema { path: path.to_owned(), expected: VERSION, found, application });
    }
    Ok(db)
}

/// The journal mode that is in force afterwards: a file system may not allow the one that is asked for.
fn configure(db: &Connection) -> rusqlite::Result<String> {
    let mode = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    // What a transaction must be able to take back is kept in memory, not in a file somewhere else.
    let settings = "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;";
    db.execute_batch(settings)?;
    Ok(mode)
}

fn is_empty(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(&format!("PRAGMA user_version = {VERSION}; PRAGMA application_id = {APPLICATION};"))?;
    transaction.commit()
}
