//! The log: growth, proofs, recovery, and every way it refuses to have two histories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use decores_audit::check::{CheckError, check_log};
use decores_audit::checkpoint::{Checkpoint, CheckpointError, LogSigner as _, MAX_CHECKPOINT, MAX_SIZE};
use decores_audit::memory::{MemoryStore, MemoryTiles};
use decores_audit::ports::{Store as _, TileStore};
use decores_audit::proof::{InclusionProof, MAX_PROOF, ProofError, check_consistency, prove_consistency};
use decores_audit::sequencer::SequencerError;
use decores_audit::tree::{Head, TreeError, bundle_of, leaf_hash};
use decores_types::Digest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn entries(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(entry).collect()
}

fn head(log: &TestLog) -> Checkpoint {
    Checkpoint::open_strict(&log.tiles.checkpoint().unwrap().unwrap(), log.key.key()).unwrap()
}

/// RFC 6962, section 2.1, written down naively.
fn naive_root(entries: &[Vec<u8>]) -> Digest {
    match entries {
        [] => Digest::of(b""),
        [one] => leaf_hash(one),
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            Digest::of(&[[1].as_slice(), naive_root(left).as_bytes(), naive_root(right).as_bytes()].concat())
        }
    }
}

#[tokio::test]
async fn roots_are_those_of_the_rfc_however_the_log_grew() {
    let log = TestLog::new();
    let mut size = 0;
    for step in [1, 1, 1, 2, 3, 248, 1, 255, 256, 300, 1500] {
        log.append(entries(size..size + step)).await;
        size += step;
        let head = head(&log);
        assert_eq!((head.size, head.root), (size, naive_root(&entries(0..size))), "size {size}");
    }
    check_log(&|p| log.tiles.get(p), &head(&log), None, &mut |_, _| {}).unwrap();
}

#[tokio::test]
async fn proofs_hold_across_tiles_and_fail_for_anything_else() {
    let log = TestLog::new();
    log.append(entries(0..300)).await;
    let old = head(&log).head();
    log.append(entries(300..70_000)).await;
    let new = head(&log).head();
    for index in [0, 1, 255, 256, 299, 65_535, 65_536, 69_999] {
        let proof = log.prove(index);
        assert_eq!(InclusionProof::parse(&proof.to_bytes()).unwrap(), proof);
        proof.verify(&entry(index), log.key.key()).unwrap();
        proof.verify(&entry(index + 1), log.key.key()).unwrap_err();
        let elsewhere = InclusionProof { index: index ^ 1, ..proof };
        assert!(matches!(elsewhere.verify(&entry(index), log.key.key()), Err(ProofError::Path { .. })));
    }
    let fetch = |p: &str| log.tiles.get(p);
    let proof = prove_consistency(&fetch, new, old.size).unwrap();
    check_consistency(&proof, old, new).unwrap();
    check_consistency(&proof, Head { root: Digest::of(b"x"), ..old }, new).unwrap_err();
    check_consistency(&proof, Head { size: 299, ..old }, new).unwrap_err();
    check_consistency(&[], Head::EMPTY, new).unwrap();
    check_consistency(&[], new, new).unwrap();
    check_consistency(&[], new, old).unwrap_err();
    assert!(matches!(prove_consistency(&fetch, old, 301), Err(TreeError::Beyond { .. })));
}

#[tokio::test]
async fn other_texts_of_a_proof_are_refused() {
    let log = TestLog::new();
    log.append(entries(0..5)).await;
    let good = String::from_utf8(log.prove(2).to_bytes()).unwrap();
    InclusionProof::parse(good.as_bytes()).unwrap();
    let bad = [
        good.replace("@v1", "@v2"),
        good.replace("index 2", "index 02"),
        good.replace("index 2", "index +2"),
        good.replace("index 2", "extra eA==\nindex 2"),
        good.replacen("=\n", "\n", 1),
        good.replacen("=\n", "=\r\n", 1),
        good.replacen("\n\n", "\n", 1),
        format!(" {good}"),
    ];
    for text in bad {
        assert!(InclusionProof::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_witness_line_is_ignored_in_the_log_and_refused_in_a_receipt() {
    let log = TestLog::new();
    log.append(entries(0..5)).await;
    let note = log.tiles.checkpoint().unwrap().unwrap();
    let line = String::from_utf8(note.clone()).unwrap().lines().last().unwrap().replace(ORIGIN, "witness.example");
    let with_witness = [note.as_slice(), line.as_bytes(), b"\n"].concat();
    Checkpoint::open(&with_witness, log.key.key()).unwrap();
    let strict = |bytes: &[u8]| Checkpoint::open_strict(bytes, log.key.key());
    assert!(matches!(strict(&with_witness), Err(CheckpointError::UnknownLine)));
    let twice = [note.as_slice(), note.split_inclusive(|b| *b == b'\n').next_back().unwrap()].concat();
    assert!(matches!(strict(&twice), Err(CheckpointError::UnknownLine)));
    assert!(matches!(Checkpoint::open(&note, TestKey::new(3).key()), Err(CheckpointError::Signature(_))));
}

#[tokio::test]
async fn limits_of_checkpoints_and_proofs_hold_to_the_byte() {
    let log = TestLog::new();
    log.append(entries(0..5)).await;
    let (key, mut note) = (log.key.key(), log.tiles.checkpoint().unwrap().unwrap());
    assert!(key.to_string().contains(&format!("+{:08x}+", key.id())), "the id is that of its text");
    let line = String::from_utf8(note.clone()).unwrap().lines().last().unwrap().replace(ORIGIN, "witness.example");
    while note.len() < 2000 {
        note.extend_from_slice(line.as_bytes());
        note.push(b'\n');
    }
    Checkpoint::open(&note, key).unwrap();
    let open = |bytes: usize| Checkpoint::open(&vec![b'a'; bytes], key);
    assert!(matches!(open(16 * 1024), Err(CheckpointError::Note)));
    assert!(matches!(open(16 * 1024 + 1), Err(CheckpointError::TooLarge(n)) if n == MAX_CHECKPOINT + 1));
    let sized = |size| Checkpoint { size, ..head(&log) }.sign(&*log.key);
    sized(MAX_SIZE).unwrap();
    assert!(matches!(sized(MAX_SIZE + 1), Err(CheckpointError::Body)));

    let proof = |hashes: usize| InclusionProof { path: vec![Digest::of(b"x"); hashes], ..log.prove(2) }.to_bytes();
    InclusionProof::parse(&proof(64)).unwrap();
    assert!(matches!(InclusionProof::parse(&proof(65)), Err(ProofError::Text("too many hashes"))));
    let parse = |bytes: usize| InclusionProof::parse(&vec![b'a'; bytes]);
    assert!(matches!(parse(16 * 1024 + 4096), Err(ProofError::Text("no checkpoint"))));
    assert!(matches!(parse(MAX_PROOF + 1), Err(ProofError::Text("too long"))));
}

#[tokio::test]
async fn a_log_is_taken_up_where_it_stood() {
    let log = TestLog::new();
    log.append(entries(0..300)).await;
    log.store.commit(batch(entries(300..310))).await.unwrap();
    // A crash after tiles were written and before the checkpoint was: the same is done again.
    let before = log.tiles.checkpoint().unwrap().unwrap();
    log.sequencer().await.unwrap().integrate().await.unwrap().unwrap();
    let after = log.tiles.checkpoint().unwrap().unwrap();
    log.tiles.put_checkpoint(&before).unwrap();
    log.sequencer().await.unwrap().integrate().await.unwrap().unwrap();
    assert_eq!(log.tiles.checkpoint().unwrap().unwrap(), after);
    assert!(log.sequencer().await.unwrap().integrate().await.unwrap().is_none(), "nothing more to do");
}

#[tokio::test]
async fn a_store_that_was_rolled_back_signs_nothing() {
    let log = TestLog::new();
    log.append(entries(0..300)).await;
    let older = TestLog { store: Arc::new(MemoryStore::default()), ..log };
    older.store.commit(batch(entries(0..299))).await.unwrap();
    let Err(SequencerError::RolledBack { stored: 299, signed: 300 }) = older.sequencer().await.map(|_| ()) else {
        panic!("signed over a rolled back store");
    };
}

#[tokio::test]
async fn a_store_with_another_history_signs_nothing() {
    let log = TestLog::new();
    log.append(entries(0..300)).await;
    let other = TestLog { store: Arc::new(MemoryStore::default()), ..log };
    let mut changed = entries(0..301);
    changed[290] = entry(9999);
    other.store.commit(batch(changed)).await.unwrap();
    let refused = other.sequencer().await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, SequencerError::Tree(TreeError::Entry(290))), "{refused}");
}

#[tokio::test]
async fn a_checkpoint_by_another_key_signs_nothing() {
    let log = TestLog::new();
    log.append(entries(0..3)).await;
    let other = TestLog { key: Arc::new(TestKey::new(3)), ..log };
    assert!(matches!(other.sequencer().await.map(|_| ()), Err(SequencerError::Checkpoint(_))));
}

/// Tiles that anyone may change.
#[derive(Default)]
struct ChangedTiles(Mutex<BTreeMap<String, Vec<u8>>>);

impl ChangedTiles {
    fn of(log: &TestLog, paths: &[&str]) -> Self {
        let copy = Self::default();
        for path in paths {
            copy.0.lock().unwrap().insert((*path).to_owned(), log.tiles.get(path).unwrap().expect(path));
        }
        copy
    }

    fn flip(&self, path: &str, at: usize) {
        self.0.lock().unwrap().get_mut(path).unwrap()[at] ^= 1;
    }

    fn get(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(path).cloned())
    }
}

const PATHS: [&str; 5] =
    ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"];

#[tokio::test]
async fn a_changed_tile_never_gives_a_proof_or_a_signature() {
    let log = TestLog::new();
    log.append(entries(0..300)).await;
    for path in ["tile/0/001.p/44", "tile/1/000.p/1"] {
        let changed = ChangedTiles::of(&log, &PATHS);
        changed.flip(path, 3);
        let note = log.tiles.checkpoint().unwrap().unwrap();
        let made = InclusionProof::make(&|p| changed.get(p), head(&log).head(), note.clone(), 290);
        assert!(matches!(made, Err(TreeError::Inconsistent { .. })), "{path}");
        let tiles = Arc::new(MemoryTiles::default());
        for (path, bytes) in &*changed.0.lock().unwrap() {
            tiles.put(path, bytes).unwrap();
        }
        tiles.put_checkpoint(&note).unwrap();
        let broken = TestLog { store: log.store.clone(), tiles, key: log.key.clone() };
        assert!(matches!(broken.sequencer().await.map(|_| ()), Err(SequencerError::Tree(_))), "{path}");
    }
}

/// The library's reader leaves a full tile unchecked when two of the root's subtrees lie in one tile.
#[tokio::test]
async fn a_changed_full_tile_never_gives_a_proof() {
    let log = TestLog::new();
    log.append(entries(0..300)).await;
    let (tree, note) = (head(&log).head(), log.tiles.checkpoint().unwrap().unwrap());
    for hash in [2, 3, 4, 255] {
        let changed = ChangedTiles::of(&log, &PATHS);
        changed.flip("tile/0/000", 32 * hash);
        let fetch = |path: &str| changed.get(path);
        let proof = InclusionProof::make(&fetch, tree, note.clone(), 3);
        assert!(matches!(proof, Err(TreeError::Inconsistent { size: 300, .. })), "hash {hash}");
        let proof = prove_consistency(&fetch, tree, 100);
        assert!(matches!(proof, Err(TreeError::Inconsistent { size: 300, .. })), "hash {hash}");
    }
}

#[tokio::test]
async fn a_check_names_the_first_entry_that_was_changed() {
    let log = TestLog::new();
    log.append(entries(0..300)).await;
    let check = |tiles: &ChangedTiles, remembered: Option<&Checkpoint>| {
        check_log(&|p| tiles.get(p), &head(&log), remembered, &mut |_, _| {})
    };
    let good = ChangedTiles::of(&log, &PATHS);
    check(&good, None).unwrap();
    check(&good, Some(&head(&log))).unwrap();

    let changed = ChangedTiles::of(&log, &PATHS);
    let length = entry(0).len() + 2;
    assert_eq!(entry(9).len() + 2, length);
    changed.flip("tile/entries/000", 7 * length + 40);
    assert!(matches!(check(&changed, None), Err(CheckError::Changed(7))));

    let changed = ChangedTiles::of(&log, &PATHS);
    changed.flip("tile/0/001.p/44", 32 * 2);
    assert!(matches!(check(&changed, None), Err(CheckError::Changed(258))));

    let changed = ChangedTiles::of(&log, &PATHS);
    changed.flip("tile/1/000.p/1", 0);
    assert!(matches!(check(&changed, None), Err(CheckError::Tile(path)) if path == "tile/1/000.p/1"));

    let rewritten = Checkpoint { size: 257, root: Digest::of(b"another history"), ..head(&log) };
    assert!(matches!(check(&good, Some(&rewritten)), Err(CheckError::Rewritten(257))));
    let longer = Checkpoint { size: 301, ..head(&log) };
    assert!(matches!(check(&good, Some(&longer)), Err(CheckError::Shrunk { now: 300, before: 301 })));
    let other_root = Checkpoint { root: Digest::of(b"x"), ..head(&log) };
    let found = check_log(&|p| good.get(p), &other_root, None, &mut |_, _| {});
    assert!(matches!(found, Err(CheckError::Root(300))));
}

#[tokio::test]
async fn two_ends_of_one_attempt_are_found() {
    let log = TestLog::new();
    let p = predicate();
    let end = |payload: &[u8]| {
        decores_audit::Entry::new(decores_audit::receipt::build::ended(&p, &LOG_KEY, payload), NOW).to_bytes().unwrap()
    };
    log.append(vec![entry(0), end(b"one"), entry(1), end(b"two")]).await;
    let found = check_log(&|p| log.tiles.get(p), &head(&log), None, &mut |_, _| {});
    assert!(matches!(found, Err(CheckError::TwoEnds { first: 1, second: 3, .. })));
}

#[tokio::test]
async fn partial_tiles_are_dropped_once_full_and_still_read() {
    let log = TestLog::new();
    log.append(entries(0..200)).await;
    let old = head(&log);
    let note = log.tiles.checkpoint().unwrap().unwrap();
    log.append(entries(200..256)).await;
    assert!(log.tiles.get("tile/0/000.p/200").unwrap().is_none());
    let proof = InclusionProof::make(&|p| log.tiles.get(p), old.head(), note, 7).unwrap();
    proof.verify(&entry(7), log.key.key()).unwrap();
    check_log(&|p| log.tiles.get(p), &old, None, &mut |_, _| {}).unwrap();
    assert_eq!(bundle_of(200, 7), Some(("tile/entries/000.p/200".to_owned(), 0, 200)));
    assert_eq!(bundle_of(200, 200), None);
}
