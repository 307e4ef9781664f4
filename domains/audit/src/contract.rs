//! What every store and every folder of tiles does: run by the tests of each on an empty one.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a check for tests: it panics")]

use crate::event::MAX_ENTRY;
use crate::ports::{Batch, Change, Select, Store, StoreError, Table, TileStore};
use crate::tree::NewTile;

/// Checks an empty store against the contract.
///
/// # Panics
/// If the store breaks it.
pub async fn check_store(store: &dyn Store) {
    assert_eq!(store.size().await.expect("an empty store has a size"), 0);
    changes_records(store).await;
    refuses_whole_batches(store).await;
    appends_entries(store).await;
    lists_newest_first(store).await;
}

fn insert(table: Table, id: &[u8], owner: &[u8], state: i64) -> Change {
    Change::Insert { table, id: id.to_vec(), owner: owner.to_vec(), state, value: b"first".to_vec() }
}

fn update(id: &[u8], expected: u64) -> Change {
    Change::Update { table: Table::Jobs, id: id.to_vec(), expected, state: 7, value: b"second".to_vec() }
}

fn changes(changes: Vec<Change>) -> Batch {
    Batch { changes, entries: Vec::new() }
}

async fn changes_records(store: &dyn Store) {
    store.commit(changes(vec![insert(Table::Jobs, b"a", b"o", 1)])).await.expect("inserts");
    let record = store.get(Table::Jobs, b"a".to_vec()).await.expect("reads").expect("is there");
    assert_eq!((record.version, record.state, record.owner.as_slice()), (1, 1, b"o".as_slice()));
    assert_eq!(store.get(Table::Alerts, b"a".to_vec()).await.expect("reads"), None, "tables are apart");

    store.commit(changes(vec![update(b"a", 1)])).await.expect("updates");
    let newer = store.get(Table::Jobs, b"a".to_vec()).await.expect("reads").expect("is there");
    assert_eq!((newer.version, newer.state, newer.value.as_slice()), (2, 7, b"second".as_slice()));
    assert_eq!((newer.sequence, newer.owner), (record.sequence, record.owner), "these stay");
    let stale = store.commit(changes(vec![update(b"a", 1)])).await;
    assert!(matches!(stale, Err(StoreError::Stale(Table::Jobs))));
    let gone = store.commit(changes(vec![update(b"nobody", 1)])).await;
    assert!(matches!(gone, Err(StoreError::Stale(Table::Jobs))));

    let delete = || Change::Delete { table: Table::Jobs, id: b"a".to_vec() };
    store.commit(changes(vec![delete()])).await.expect("deletes");
    store.commit(changes(vec![delete()])).await.expect("and may be asked twice");
    assert_eq!(store.get(Table::Jobs, b"a".to_vec()).await.expect("reads"), None);
}

async fn refuses_whole_batches(store: &dyn Store) {
    store.commit(changes(vec![insert(Table::ApiKeys, b"k", b"", 0)])).await.expect("inserts");
    let batch = Batch {
        changes: vec![insert(Table::ApiKeys, b"new", b"", 0), insert(Table::ApiKeys, b"k", b"", 0)],
        entries: vec![b"never".to_vec()],
    };
    assert!(matches!(store.commit(batch).await, Err(StoreError::Exists(Table::ApiKeys))));
    assert_eq!(store.get(Table::ApiKeys, b"new".to_vec()).await.expect("reads"), None, "nothing of it stays");
    assert_eq!(store.size().await.expect("counts"), 0, "nor its entries");

    let large = Batch {
        changes: vec![insert(Table::ApiKeys, b"new", b"", 0)],
        entries: vec![b"small".to_vec(), vec![0; MAX_ENTRY + 1]],
    };
    assert!(matches!(store.commit(large).await, Err(StoreError::EntryTooLarge(n)) if n == MAX_ENTRY + 1));
    assert_eq!(store.size().await.expect("counts"), 0);
}

async fn appends_entries(store: &dyn Store) {
    let append = |range: std::ops::Range<usize>| Batch {
        changes: Vec::new(),
        entries: range.map(|i| i.to_string().into_bytes()).collect(),
    };
    assert_eq!(store.commit(append(0..3)).await.expect("appends").first_entry, 0);
    assert_eq!(store.commit(append(0..0)).await.expect("does nothing").first_entry, 3);
    assert_eq!(store.commit(append(3..1200)).await.expect("appends").first_entry, 3);
    assert_eq!(store.size().await.expect("counts"), 1200);
    let read = store.entries(1, 2).await.expect("reads");
    assert_eq!(read, [b"1".to_vec(), b"2".to_vec()]);
    assert_eq!(store.entries(0, 5000).await.expect("reads").len(), 1000, "at most 1,000 at a time");
    assert_eq!(store.entries(1199, 10).await.expect("reads").len(), 1);
    assert!(store.entries(1200, 10).await.expect("reads").is_empty());
    assert!(store.entries(0, 0).await.expect("reads").is_empty());
    assert!(store.entries(u64::MAX, 10).await.expect("reads").is_empty());

    let batch = Batch { changes: vec![insert(Table::Receipts, b"r", b"", 0)], entries: vec![b"1200".to_vec()] };
    store.commit(batch).await.expect("writes both");
    let record = store.get(Table::Receipts, b"r".to_vec()).await.expect("reads").expect("is there");
    assert_eq!(record.entry, 1200, "a record knows the entry that it was written with");
}

async fn lists_newest_first(store: &dyn Store) {
    for (id, owner, state) in [(b"1", b"x", 1), (b"2", b"y", 1), (b"3", b"x", 2), (b"4", b"x", 3)] {
        store.commit(changes(vec![insert(Table::Alerts, id, owner, state)])).await.expect("inserts");
    }
    let list = async |select: Select| {
        let found = store.list(Table::Alerts, select).await.expect("lists");
        (found.iter().map(|r| r.id.clone()).collect::<Vec<_>>().concat(), found.last().map(|r| r.sequence))
    };
    let all = Select { limit: 10, ..Select::default() };
    let (ids, _) = list(all.clone()).await;
    assert_eq!(ids, b"4321");
    let (ids, last) = list(Select { limit: 2, ..all.clone() }).await;
    assert_eq!(ids, b"43");
    let (ids, _) = list(Select { before: last, ..all.clone() }).await;
    assert_eq!(ids, b"21", "the next page");
    let (ids, _) = list(Select { owner: Some(b"x".to_vec()), ..all.clone() }).await;
    assert_eq!(ids, b"431");
    let (ids, _) = list(Select { owner: Some(b"x".to_vec()), states: vec![2, 3], ..all.clone() }).await;
    assert_eq!(ids, b"43");
    let (ids, _) = list(Select { states: vec![9], ..all.clone() }).await;
    assert_eq!(ids, b"");
    let (ids, _) = list(Select { limit: 0, ..all }).await;
    assert_eq!(ids, b"");
}

/// Checks an empty tile store against the contract.
///
/// # Panics
/// If it breaks it.
pub fn check_tiles(tiles: &dyn TileStore) {
    assert_eq!(tiles.checkpoint().expect("reads"), None);
    assert_eq!(tiles.get("tile/0/000").expect("reads"), None);
    tiles.put("tile/0/000.p/2", b"two").expect("writes");
    tiles.put("tile/0/000.p/3", b"three").expect("writes");
    tiles.put("tile/0/000.p/3", b"three").expect("writes the same again");
    tiles.put("tile/0/000.p/3", b"other").expect_err("but nothing else");
    tiles.put("tile/0/000", b"full").expect("writes");
    tiles.put("tile/0/000", b"other").expect_err("a full tile never changes");
    assert_eq!(tiles.get("tile/0/000.p/2").expect("reads").as_deref(), Some(b"two".as_slice()));
    tiles.drop_partials("tile/0/000").expect("drops");
    tiles.drop_partials("tile/0/000").expect("and may be asked twice");
    assert_eq!(tiles.get("tile/0/000.p/2").expect("reads"), None);
    assert_eq!(tiles.get("tile/0/000").expect("reads").as_deref(), Some(b"full".as_slice()));
    let new = |path: &str, bytes: &[u8]| NewTile { path: path.to_owned(), bytes: bytes.to_vec(), full: true };
    let several = [new("tile/0/000", b"full"), new("tile/0/001", b"next"), new("tile/1/000", b"above")];
    tiles.put_all(&several).expect("writes what is new, and the same again");
    for tile in &several {
        assert_eq!(tiles.get(&tile.path).expect("reads").as_ref(), Some(&tile.bytes));
    }
    tiles.put_all(&[new("tile/0/002", b"new"), new("tile/0/001", b"other")]).expect_err("but nothing else");
    assert_eq!(tiles.get("tile/0/001").expect("reads").as_deref(), Some(b"next".as_slice()));
    tiles.put_all(&[]).expect("does nothing");
    tiles.put("tile/entries/x001/x234/067", b"bundle").expect("writes");
    assert!(tiles.get("tile/entries/x001/x234/067").expect("reads").is_some());
    tiles.replace("tile/entries/x001/x234/067.p/1", b"whole").expect("writes a partial one anew");
    let read = |path: &str| tiles.get(path).expect("reads");
    assert_eq!(read("tile/entries/x001/x234/067.p/1").as_deref(), Some(b"whole".as_slice()));
    assert_eq!(read("tile/entries/x001/x234/067"), None, "the full one is gone");
    tiles.replace("tile/0/000", b"other").expect("writes a full one anew");
    assert_eq!(read("tile/0/000").as_deref(), Some(b"other".as_slice()));
    tiles.put_checkpoint(b"one").expect("writes");
    tiles.put_checkpoint(b"two").expect("replaces");
    assert_eq!(tiles.checkpoint().expect("reads").as_deref(), Some(b"two".as_slice()));
}
