//! The store on a real disk: the contract, restarts, locks, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use decores_audit::contract::check_store;
use decores_audit::ports::{Batch, Change, Select, Store as _, StoreError, Table};
use decores_store_sqlite::{LockError, OpenError, SqliteStore};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

fn entry(text: &str) -> Batch {
    Batch { changes: Vec::new(), entries: vec![text.as_bytes().to_vec()] }
}

fn insert(id: &[u8], entry: &str) -> Batch {
    let change =
        Change::Insert { table: Table::Jobs, id: id.to_vec(), owner: Vec::new(), state: 0, value: b"v".to_vec() };
    Batch { changes: vec![change], entries: vec![entry.as_bytes().to_vec()] }
}

#[tokio::test]
async fn keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check_store(&SqliteStore::open(folder.path()).unwrap()).await;
}

#[tokio::test]
async fn survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    store.commit(insert(b"a", "one")).await.unwrap();
    drop(store);
    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(store.entries(0, 10).await.unwrap(), [b"one".to_vec()]);
    assert_eq!(store.commit(entry("two")).await.unwrap().first_entry, 1);
    assert!(store.get(Table::Jobs, b"a".to_vec()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let _store = SqliteStore::open(folder.path()).unwrap();
    let Err(OpenError::Lock(LockError::Taken { pid, .. })) = SqliteStore::open(folder.path()).map(|_| ()) else {
        panic!("two stores in one folder");
    };
    assert_eq!(pid, std::process::id().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_in_one_group_stand_and_fall_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
    let tasks: Vec<_> = (0..400_u32)
        .map(|i| {
            let store = Arc::clone(&store);
            // Every id is used twice: exactly one of each pair is refused.
            tokio::spawn(async move { store.commit(insert(&(i / 2).to_be_bytes(), &i.to_string())).await })
        })
        .collect();
    let (mut written, mut refused) = (Vec::new(), 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(committed) => written.push(committed.first_entry),
            Err(StoreError::Exists(Table::Jobs)) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    written.sort_unstable();
    assert_eq!((written, refused), ((0..200).collect(), 200), "indexes have no gaps");
    assert_eq!(store.size().await.unwrap(), 200);
    let select = Select { limit: 1000, ..Select::default() };
    assert_eq!(store.list(Table::Jobs, select).await.unwrap().len(), 200);
}

#[test]
fn a_log_entry_is_never_deleted_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    runtime.block_on(store.commit(entry("one"))).unwrap();
    drop(store);
    let db = rusqlite::Connection::open(folder.path().join("store.sqlite")).unwrap();
    for sql in ["DELETE FROM log_entries", "UPDATE log_entries SET entry = x'00'"] {
        db.execute(sql, []).unwrap_err();
    }
}

#[test]
fn another_programs_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(folder.path().join("store.sqlite")).unwrap();
    db.execute("CREATE TABLE mine (x)", []).unwrap();
    drop(db);
    assert!(matches!(SqliteStore::open(folder.path()), Err(OpenError::Schema { .. })));
}

#[test]
fn another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(folder.path()).unwrap());
    let db = rusqlite::Connection::open(folder.path().join("store.sqlite")).unwrap();
    db.execute_batch("PRAGMA user_version = 2").unwrap();
    drop(db);
    assert!(matches!(SqliteStore::open(folder.path()), Err(OpenError::Schema { found: 2, .. })));
}

#[test]
fn nobody_else_can_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    runtime.block_on(store.commit(entry("one"))).unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
    }
}
