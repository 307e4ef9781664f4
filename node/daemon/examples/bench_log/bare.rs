//! What the disk and SQLite do by themselves.

use crate::{now, since};
use anyhow::Result;
use rusqlite::Connection;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// Bytes of an entry; what the node's have.
const ENTRY: usize = 230;

/// One file to which the entries of all writers are appended at once and synced.
pub(crate) fn syncs(folder: &Path, writers: usize, during: Duration) -> Result<()> {
    let mut file = File::create(folder.join("file"))?;
    let group = vec![b'x'; ENTRY * writers];
    report("fdatasync", writers, during, || {
        file.write_all(&group)?;
        Ok(file.sync_data()?)
    })
}

/// A table of entries in SQLite, set up as the node's; the entries of all writers in one transaction.
pub(crate) fn sqlite(folder: &Path, writers: usize, during: Duration) -> Result<()> {
    let mut db = Connection::open(folder.join("db"))?;
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.execute_batch("PRAGMA synchronous = FULL; CREATE TABLE log (idx INTEGER PRIMARY KEY, entry BLOB NOT NULL);")?;
    let entry = vec![b'x'; ENTRY];
    report("sqlite", writers, during, || {
        let transaction = db.transaction()?;
        for _ in 0..writers {
            transaction.prepare_cached("INSERT INTO log (entry) VALUES (?1)")?.execute([&entry])?;
        }
        Ok(transaction.commit()?)
    })
}

fn report(name: &str, writers: usize, during: Duration, mut group: impl FnMut() -> Result<()>) -> Result<()> {
    let (start, mut groups) = (now(), 0);
    while now().duration_since(start) < during {
        group()?;
        groups += 1;
    }
    let per_second = f64::from(groups) / since(start) * 1e3;
    let entries = per_second * writers as f64;
    println!("{{\"bench\":\"{name}\",\"writers\":{writers},\"groups\":{per_second},\"perSecond\":{entries}}}");
    Ok(())
}
