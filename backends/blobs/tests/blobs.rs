//! Blobs and tiles on a real disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use decores_audit::contract::check_tiles;
use decores_audit::ports::TileStore as _;
use decores_blobs::{BlobError, BlobName, BlobStore, FolderTiles};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

fn name(text: &str) -> BlobName {
    BlobName::parse(text).unwrap()
}

#[test]
fn writes_reads_lists_and_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&folder.path().join("blobs")).unwrap();
    let one = name("job_00ff-1.payload");
    assert!(store.open_blob(&one).unwrap().is_none());
    let mut writer = store.create(&one, 10).unwrap();
    writer.write_all(b"sealed").unwrap();
    assert!(store.list().unwrap().is_empty(), "not there before it is whole");
    writer.commit().unwrap();
    let mut text = String::new();
    store.open_blob(&one).unwrap().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "sealed");
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&one));
    assert!(matches!(store.create(&one, 10), Err(BlobError::Exists(_))));
    assert!(store.delete(&one).unwrap());
    assert!(!store.delete(&one).unwrap());
    assert!(store.open_blob(&one).unwrap().is_none());
}

#[test]
fn a_blob_that_is_too_large_never_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    let mut writer = store.create(&name("a.payload"), 4).unwrap();
    writer.write_all(b"1234").unwrap();
    writer.write_all(b"5").unwrap_err();
    assert!(matches!(writer.commit(), Err(BlobError::TooLarge { max: 4, .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_blob_that_was_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    let writer = store.create(&name("a.payload"), 4).unwrap();
    assert!(matches!(store.create(&name("a.payload"), 4), Err(BlobError::Exists(_))), "one writer at a time");
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    std::fs::write(folder.path().join(".tmp-b.payload"), b"half").unwrap();
    BlobStore::open(folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "what a crash left is removed");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let bad =
        ["", "a", ".payload", "a.", "../a.payload", "a/b.payload", "A.payload", "a.pay load", "a.b.c", "a\0.payload"];
    for text in bad {
        assert!(matches!(BlobName::parse(text), Err(BlobError::Name(_))), "{text:?}");
    }
}

#[test]
fn only_the_owner_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blobs");
    let store = BlobStore::open(&path).unwrap();
    store.create(&name("a.payload"), 4).unwrap().commit().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("a.payload"))), (0o700, 0o600));
}

#[test]
fn tiles_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check_tiles(&FolderTiles::open(&folder.path().join("log")).unwrap());
}

#[test]
fn a_tile_outside_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tiles = FolderTiles::open(&folder.path().join("log")).unwrap();
    tiles.put("../outside", b"x").unwrap_err();
    tiles.get("../../etc/passwd").unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A folder in a file's place cannot be removed as one, not even by root.
#[test]
fn a_half_written_blob_that_cannot_be_removed_is_named_and_keeps_nothing_from_opening() {
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join(".tmp-b.payload");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(folder.path().join(".tmp-c.payload"), b"half").unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    assert_eq!(store.stuck(), [name("b.payload")]);
    assert!(!folder.path().join(".tmp-c.payload").exists());
    assert!(store.delete(&name("b.payload")).is_err(), "it is still there");
    std::fs::remove_dir(&half).unwrap();
    std::fs::write(&half, b"half").unwrap();
    assert!(!store.delete(&name("b.payload")).unwrap());
    assert!(!half.exists());
}
