//! A disk that lies: what a node finds before it goes on with its log, and what can be made anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use decores_audit::check::{CheckError, check_log};
use decores_audit::checkpoint::{Checkpoint, LogSigner as _};
use decores_audit::damage::{Damage, Remedy};
use decores_audit::event::{Entry, Event};
use decores_audit::memory::{MemoryStore, MemoryTiles};
use decores_audit::ports::{Batch, Committed, PortFuture, Record, Select, Store, Table, TileStore as _};
use decores_audit::rebuild::rebuild;
use decores_audit::recent::check_recent;
use decores_types::Timestamp;
use std::sync::Arc;

const DAY: u64 = 86_400_000;
/// Entries of [`log`], and where its last day begins.
const SIZE: u64 = 1300;
const LAST_DAY: u64 = 800;
/// Its files, besides the checkpoint.
const FILES: [&str; 13] = [
    "tile/0/000",
    "tile/0/001",
    "tile/0/002",
    "tile/0/003",
    "tile/0/004",
    "tile/0/005.p/20",
    "tile/1/000.p/5",
    "tile/entries/000",
    "tile/entries/001",
    "tile/entries/002",
    "tile/entries/003",
    "tile/entries/004",
    "tile/entries/005.p/20",
];

fn at(n: u64, time: Timestamp) -> Vec<u8> {
    let event = Event::AccessSummary { cause: code("no-key"), count: n, from: NOW, until: NOW };
    Entry::new(event, time).to_bytes().unwrap()
}

/// An entry of [`log`]: the last is a day younger than the old ones, and not quite a day younger than the others.
fn dated(n: u64) -> Vec<u8> {
    let after = match n {
        0..LAST_DAY => 0,
        _ if n == SIZE - 1 => DAY,
        _ => 1,
    };
    at(n, NOW.plus_ms(after))
}

async fn log() -> TestLog {
    let log = TestLog::new();
    log.append((0..SIZE - 1).map(dated).collect()).await;
    log.append(vec![dated(SIZE - 1)]).await;
    log
}

async fn check(log: &TestLog) -> Result<u64, Damage> {
    check_recent(&*log.store, &*log.tiles, log.key.key()).await
}

/// Mends, and says what.
async fn mend(log: &TestLog) -> Result<Vec<String>, Damage> {
    let mut paths = Vec::new();
    rebuild(&*log.store, &*log.tiles, log.key.key(), &mut |path| paths.push(path.to_owned())).await?;
    Ok(paths)
}

fn whole_check(log: &TestLog) -> Result<(), CheckError> {
    let note = log.tiles.checkpoint().unwrap().unwrap();
    let checkpoint = Checkpoint::open_strict(&note, log.key.key()).unwrap();
    check_log(&|path| log.tiles.get(path), &checkpoint, None, &mut |_, _| {})
}

fn read(log: &TestLog, path: &str) -> Vec<u8> {
    log.tiles.get(path).unwrap().expect(path)
}

fn flip(log: &TestLog, path: &str, byte: usize) {
    let mut bytes = read(log, path);
    bytes[byte] ^= 1;
    log.tiles.replace(path, &bytes).unwrap();
}

/// The same log without one file.
fn without(log: &TestLog, missing: &str) -> TestLog {
    let tiles = Arc::new(MemoryTiles::default());
    for path in FILES.iter().filter(|path| **path != missing) {
        tiles.put(path, &read(log, path)).unwrap();
    }
    if missing != "checkpoint" {
        tiles.put_checkpoint(&log.tiles.checkpoint().unwrap().unwrap()).unwrap();
    }
    TestLog { tiles, store: log.store.clone(), key: log.key.clone() }
}

/// The same log whose store has one entry otherwise.
async fn changed(log: &TestLog, index: u64) -> TestLog {
    let store = Arc::new(MemoryStore::default());
    let entries = (0..SIZE).map(|n| if n == index { at(77, NOW) } else { dated(n) });
    store.commit(batch(entries.collect())).await.unwrap();
    TestLog { store, tiles: log.tiles.clone(), key: log.key.clone() }
}

/// Where a byte in the middle of an entry stands in its bundle.
fn byte_of(index: u64) -> usize {
    let before = (index - index % 256..index).map(|n| dated(n).len() + 2).sum::<usize>();
    before + 2 + dated(index).len() / 2
}

fn hash(at: usize) -> usize {
    32 * at + 9
}

#[tokio::test]
async fn a_whole_log_is_checked_back_over_its_last_day() {
    assert_eq!(check(&TestLog::new()).await.unwrap(), 0);
    let log = log().await;
    assert_eq!(check(&log).await.unwrap(), 512, "back to the first full bundle that is old throughout");
    assert_eq!(mend(&log).await.unwrap(), [""; 0]);

    // A crash may leave entries that are stored and not yet signed, more than a bundle.
    let later = |n| at(n, NOW.plus_ms(3 * DAY));
    log.store.commit(batch((SIZE..SIZE + 300).map(later).collect())).await.unwrap();
    assert_eq!(check(&log).await.unwrap(), 1024, "the last day is that of the last stored entry");
    log.append(vec![at(0, NOW.plus_ms(9 * DAY))]).await;
    assert_eq!(check(&log).await.unwrap(), 1280, "one full bundle at least");
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_the_check_longer_never_shorter() {
    let log = log().await;
    log.append(vec![at(0, NOW)]).await;
    assert_eq!(check(&log).await.unwrap(), 0);
}

#[tokio::test]
async fn a_changed_byte_of_the_last_day_is_refused_by_index_and_made_anew() {
    let log = log().await;
    for (path, byte, index) in [
        ("tile/entries/005.p/20", byte_of(1283), 1283),
        ("tile/entries/005.p/20", byte_of(1280) - dated(1280).len() / 2 - 1, 1280),
        ("tile/entries/003", byte_of(900), 900),
        ("tile/entries/003", byte_of(768), 768),
        ("tile/0/005.p/20", hash(3), 1283),
        ("tile/0/005.p/20", hash(0), 1280),
        ("tile/0/003", hash(132), 900),
        ("tile/0/003", hash(0), 768),
        ("tile/1/000.p/5", hash(4), 1024),
        ("tile/1/000.p/5", hash(0), 0),
    ] {
        let good = read(&log, path);
        flip(&log, path, byte);
        let found = check(&log).await.unwrap_err();
        assert!(
            matches!(&found, Damage::Tile { path: at, index: n } if at == path && *n == index),
            "{path} {index}: {found}"
        );
        assert_eq!(found.remedy(), Remedy::Rebuild);
        whole_check(&log).unwrap_err();
        assert_eq!(mend(&log).await.unwrap(), [path]);
        assert_eq!(read(&log, path), good, "the same bytes");
        check(&log).await.unwrap();
        whole_check(&log).unwrap();
    }
}

#[tokio::test]
async fn a_byte_too_many_or_too_few_is_damage_as_well() {
    let log = log().await;
    for (path, last) in [("tile/0/003", 1023), ("tile/entries/003", 1023), ("tile/entries/005.p/20", 1299)] {
        let good = read(&log, path);
        log.tiles.replace(path, &[good.as_slice(), b"x"].concat()).unwrap();
        assert!(matches!(check(&log).await, Err(Damage::Tile { path: at, .. }) if at == path));
        log.tiles.replace(path, &good[..good.len() - 1]).unwrap();
        let found = check(&log).await.unwrap_err();
        assert!(matches!(&found, Damage::Tile { path: at, index } if at == path && *index == last), "{found}");
        assert_eq!(mend(&log).await.unwrap(), [path]);
        assert_eq!(read(&log, path), good);
    }
}

#[tokio::test]
async fn older_damage_is_found_by_the_check_of_the_whole_log_only_and_made_anew() {
    let log = log().await;
    for (path, byte) in [("tile/entries/001", byte_of(300)), ("tile/0/001", hash(7))] {
        let good = read(&log, path);
        flip(&log, path, byte);
        check(&log).await.unwrap();
        whole_check(&log).unwrap_err();
        assert_eq!(mend(&log).await.unwrap(), [path]);
        assert_eq!(read(&log, path), good);
        whole_check(&log).unwrap();
    }
}

#[tokio::test]
async fn missing_files_are_made_anew() {
    let log = log().await;
    for (path, index) in [("tile/0/005.p/20", 1280), ("tile/entries/004", 1024), ("tile/1/000.p/5", 0)] {
        let damaged = without(&log, path);
        let found = check(&damaged).await.unwrap_err();
        assert!(matches!(&found, Damage::Tile { path: at, index: n } if at == path && *n == index), "{found}");
        assert_eq!(mend(&damaged).await.unwrap(), [path]);
        assert_eq!(read(&damaged, path), read(&log, path));
    }
    let empty = TestLog { tiles: Arc::default(), store: log.store.clone(), key: log.key.clone() };
    empty.tiles.put_checkpoint(&log.tiles.checkpoint().unwrap().unwrap()).unwrap();
    assert_eq!(mend(&empty).await.unwrap().len(), FILES.len());
    for path in FILES {
        assert_eq!(read(&empty, path), read(&log, path), "{path}");
    }
    check(&empty).await.unwrap();
}

#[tokio::test]
async fn a_tile_in_the_middle_of_a_large_tree_is_told_from_those_around_it() {
    let log = TestLog::new();
    log.append((0..70_000).map(entry).collect()).await;
    for (path, at, index) in [
        ("tile/0/019", 5, 19 * 256 + 5),
        ("tile/1/000", 19, 19 * 256),
        ("tile/1/001.p/17", 2, 65_536 + 2 * 256),
        ("tile/2/000.p/1", 0, 0),
    ] {
        let good = read(&log, path);
        flip(&log, path, hash(at));
        let found = check(&log).await.unwrap_err();
        assert!(matches!(&found, Damage::Tile { path: at, index: n } if at == path && *n == index), "{path}: {found}");
        assert_eq!(mend(&log).await.unwrap(), [path]);
        assert_eq!(read(&log, path), good);
    }
    assert_eq!(check(&log).await.unwrap(), 0);
}

#[tokio::test]
async fn a_full_tile_that_was_not_yet_signed_stands_in_for_its_beginning() {
    let log = log().await;
    let path = "tile/entries/005.p/20";
    let before = without(&log, path);
    let full = [read(&log, path), b"what is not yet signed".to_vec()].concat();
    before.tiles.put("tile/entries/005", &full).unwrap();
    check(&before).await.unwrap();
    assert_eq!(mend(&before).await.unwrap(), [""; 0]);

    flip(&before, "tile/entries/005", byte_of(1290));
    assert!(matches!(check(&before).await, Err(Damage::Tile { index: 1290, .. })));
    assert_eq!(mend(&before).await.unwrap(), [path]);
    assert_eq!(read(&before, path), read(&log, path));
    before.append((SIZE..SIZE + 300).map(dated).collect()).await;
    whole_check(&before).unwrap();
}

#[tokio::test]
async fn a_changed_entry_in_the_store_is_refused_by_index_and_nothing_is_mended() {
    let log = log().await;
    for index in [512, 900, 1023, 1280, 1299] {
        let changed = changed(&log, index).await;
        let found = check(&changed).await.unwrap_err();
        assert!(matches!(found, Damage::Changed(n) if n == index), "{index}: {found}");
        assert_eq!(found.remedy(), Remedy::RestoreEntries);
        assert!(matches!(mend(&changed).await, Err(Damage::Changed(n)) if n == index));
    }
    // An entry before the last day, and a tile of that day damaged as well.
    let changed = changed(&log, 300).await;
    check(&changed).await.unwrap();
    flip(&log, "tile/entries/003", byte_of(900));
    let damaged = read(&log, "tile/entries/003");
    assert!(matches!(mend(&changed).await, Err(Damage::Changed(300))));
    assert_eq!(read(&log, "tile/entries/003"), damaged, "nothing was written");
    flip(&log, "tile/1/000.p/5", hash(1));
    assert!(matches!(mend(&changed).await, Err(Damage::Root(SIZE))), "no tile leads to the signed root any more");
}

#[tokio::test]
async fn a_log_rewritten_throughout_is_not_the_one_that_was_signed() {
    let (log, other) = (log().await, TestLog::new());
    other.append((0..SIZE).map(|n| dated(n.max(1))).collect()).await;
    other.tiles.put_checkpoint(&log.tiles.checkpoint().unwrap().unwrap()).unwrap();
    let found = check(&other).await.unwrap_err();
    assert!(matches!(found, Damage::Root(SIZE)), "{found}");
    assert!(matches!(mend(&other).await, Err(Damage::Root(SIZE))));
    assert!(other.sequencer().await.is_err());
}

#[tokio::test]
async fn any_changed_byte_of_the_checkpoint_is_refused() {
    let log = log().await;
    let good = log.tiles.checkpoint().unwrap().unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        log.tiles.put_checkpoint(&bytes).unwrap();
        let found = check(&log).await.unwrap_err();
        assert!(matches!(found, Damage::Checkpoint(_)), "byte {at}: {found}");
        assert_eq!(found.remedy(), Remedy::RestoreTiles);
        assert!(matches!(mend(&log).await, Err(Damage::Checkpoint(_))));
        assert_eq!(log.tiles.checkpoint().unwrap().unwrap(), bytes, "it is never written anew");
    }
}

#[tokio::test]
async fn a_log_without_its_checkpoint_is_refused_unless_it_is_new() {
    let log = log().await;
    let gone = without(&log, "checkpoint");
    assert!(matches!(check(&gone).await, Err(Damage::NoCheckpoint(path)) if path == "tile/0/000"));
    assert!(matches!(mend(&gone).await, Err(Damage::NoCheckpoint(_))));

    let new = TestLog::new();
    new.store.commit(batch((0..5).map(entry).collect())).await.unwrap();
    assert_eq!(check(&new).await.unwrap(), 0);
    new.sequencer().await.unwrap().integrate().await.unwrap().unwrap();
    check(&new).await.unwrap();
}

#[tokio::test]
async fn older_tiles_are_continued_and_give_the_same_roots() {
    let (log, older) = (log().await, TestLog::new());
    older.append((0..1000).map(dated).collect()).await;
    let restored = TestLog { store: log.store.clone(), tiles: older.tiles, key: log.key.clone() };
    check(&restored).await.unwrap();
    restored.append(Vec::new()).await;
    assert_eq!(restored.tiles.checkpoint().unwrap(), log.tiles.checkpoint().unwrap());
}

#[tokio::test]
async fn a_rolled_back_store_is_refused() {
    let log = log().await;
    let older = TestLog { store: Arc::default(), tiles: log.tiles.clone(), key: log.key.clone() };
    older.store.commit(batch((0..SIZE - 1).map(dated).collect())).await.unwrap();
    let found = check(&older).await.unwrap_err();
    assert!(matches!(found, Damage::RolledBack { stored: 1299, signed: SIZE }), "{found}");
    assert_eq!(found.remedy(), Remedy::RestoreEntries);
    assert!(matches!(mend(&older).await, Err(Damage::RolledBack { .. })));
}

/// A store that says it has one entry more than it gives.
struct Gap(Arc<MemoryStore>);

impl Store for Gap {
    fn commit(&self, batch: Batch) -> PortFuture<'_, Committed> {
        self.0.commit(batch)
    }

    fn get(&self, table: Table, id: Vec<u8>) -> PortFuture<'_, Option<Record>> {
        self.0.get(table, id)
    }

    fn list(&self, table: Table, select: Select) -> PortFuture<'_, Vec<Record>> {
        self.0.list(table, select)
    }

    fn entries(&self, from: u64, limit: usize) -> PortFuture<'_, Vec<Vec<u8>>> {
        self.0.entries(from, limit)
    }

    fn size(&self) -> PortFuture<'_, u64> {
        Box::pin(async { Ok(self.0.size().await? + 1) })
    }
}

#[tokio::test]
async fn a_missing_entry_is_refused_by_index() {
    let log = log().await;
    log.store.commit(batch(vec![dated(SIZE), dated(SIZE + 1)])).await.unwrap();
    let gap = Gap(log.store.clone());
    assert!(matches!(check_recent(&gap, &*log.tiles, log.key.key()).await, Err(Damage::Missing(1302))));
}

fn end(payload: &[u8]) -> Vec<u8> {
    let event = decores_audit::receipt::build::ended(&predicate(), &LOG_KEY, payload);
    Entry::new(event, NOW).to_bytes().unwrap()
}

#[tokio::test]
async fn two_ends_of_one_attempt_are_refused_by_both_indexes() {
    let log = TestLog::new();
    log.append(vec![entry(0), end(b"one")]).await;
    check(&log).await.unwrap();
    log.store.commit(batch(vec![end(b"two")])).await.unwrap();
    let found = check(&log).await.unwrap_err();
    assert!(matches!(found, Damage::TwoEnds { first: 1, second: 2, .. }), "{found}");
    assert_eq!(found.remedy(), Remedy::Nothing);
    log.append((0..300).map(entry).collect()).await;
    assert!(matches!(check(&log).await, Err(Damage::TwoEnds { first: 1, second: 2, .. })));
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_refused_by_index_signed_or_not() {
    let log = log().await;
    log.store.commit(batch(vec![dated(SIZE), b"{}".to_vec()])).await.unwrap();
    let found = check(&log).await.unwrap_err();
    assert!(matches!(found, Damage::Unsigned { index: 1301, .. }), "{found}");
    assert_eq!(found.remedy(), Remedy::RestoreEntries, "a damaged disk may be the reason");
    log.append(Vec::new()).await;
    assert!(matches!(check(&log).await, Err(Damage::Entry { index: 1301, .. })));
}
