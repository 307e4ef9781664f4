//! The keystore on a real disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_keys::{KeyStore, Purpose, RootSource};
use decores_keystore_file::{FileError, FileKeyStore, KEYSTORE_FILE, ROOT_FILE, RootInput};
use decores_secrets::Secret;
use decores_types::{Digest, Random, Timestamp};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);

struct Fixed(AtomicU64);

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) {
        for part in out.chunks_mut(32) {
            let digest = Digest::of(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            part.copy_from_slice(&digest.as_bytes()[..part.len()]);
        }
    }
}

/// Every store of a test draws from its own stream.
fn random() -> Arc<dyn Random> {
    static STREAM: AtomicU64 = AtomicU64::new(1);
    Arc::new(Fixed(AtomicU64::new(STREAM.fetch_add(1, Ordering::Relaxed) << 32)))
}

fn secret(bytes: &[u8]) -> Secret {
    Secret::from_slice(bytes).unwrap()
}

fn variant(error: &FileError) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn refused(folder: &Path, input: RootInput<'_>) -> FileError {
    FileKeyStore::open(folder, input, random()).err().expect("is refused")
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn keeps_the_contract_and_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(FileKeyStore::source(home.path()).unwrap(), None);
    let store = FileKeyStore::create(home.path(), RootInput::BesideData, random()).unwrap();
    decores_keys::contract::check(&store);
    let keys = store.list().unwrap();
    let index = store.active(Purpose::Index).unwrap().unwrap();
    let opened = store.open_symmetric(&index.id).unwrap();
    drop(store);

    let store = FileKeyStore::open(home.path(), RootInput::BesideData, random()).unwrap();
    assert_eq!(store.list().unwrap(), keys);
    assert_eq!(store.open_symmetric(&index.id).unwrap().expose(), opened.expose());
    assert_eq!(store.root_source(), RootSource::BesideData);
    assert_eq!(FileKeyStore::source(home.path()).unwrap(), Some(RootSource::BesideData));
    for file in [KEYSTORE_FILE, ROOT_FILE] {
        assert_eq!(mode(&home.path().join(file)), 0o600, "{file} is private");
    }
    let mut names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [KEYSTORE_FILE, ROOT_FILE], "nothing else is left behind");
}

#[test]
fn no_private_key_stands_in_the_file() {
    let home = tempfile::tempdir().unwrap();
    let store = FileKeyStore::create(home.path(), RootInput::BesideData, random()).unwrap();
    let index = store.create(Purpose::Index, NOW).unwrap();
    let key = store.open_symmetric(&index.id).unwrap();
    let text = fs::read_to_string(home.path().join(KEYSTORE_FILE)).unwrap();
    let encoded = decores_types::Base64::from(key.expose()).to_string();
    assert!(!text.contains(&encoded[..40]));
    let file: Value = serde_json::from_str(&text).unwrap();
    let wrapped = decores_types::Base64::parse(file["keys"][0]["wrapped"].as_str().unwrap()).unwrap();
    assert_eq!(wrapped.0.len(), 12 + 32 + 16);
    assert!(!wrapped.0.windows(32).any(|w| w == key.expose()));
}

#[test]
fn the_roots_may_be_changed_one_for_another() {
    let home = tempfile::tempdir().unwrap();
    let (folder, credential) = (home.path(), home.path().join("decores-root"));
    write_private(&credential, &[9; 32]);
    let store = FileKeyStore::create(folder, RootInput::BesideData, random()).unwrap();
    let identity = store.create(Purpose::Identity, NOW).unwrap();
    assert!(matches!(store.change_root(RootInput::BesideData), Err(FileError::SameSource)));

    store.change_root(RootInput::Credential(&credential)).unwrap();
    assert!(!folder.join(ROOT_FILE).exists(), "the root beside the data is gone");
    store.sign(&identity.id, b"m").unwrap();
    assert!(matches!(
        refused(folder, RootInput::BesideData),
        FileError::OtherSource { wanted: RootSource::Credential, given: RootSource::BesideData }
    ));
    let store = FileKeyStore::open(folder, RootInput::Credential(&credential), random()).unwrap();

    let passphrase = secret(b"a passphrase");
    store.change_root(RootInput::Passphrase(&passphrase)).unwrap();
    let store = FileKeyStore::open(folder, RootInput::Passphrase(&passphrase), random()).unwrap();
    let wrong = secret(b"another");
    assert!(matches!(refused(folder, RootInput::Passphrase(&wrong)), FileError::WrongRoot(RootSource::Passphrase)));
    assert!(matches!(refused(folder, RootInput::Passphrase(&secret(b""))), FileError::Passphrase(_)));

    store.change_root(RootInput::BesideData).unwrap();
    let store = FileKeyStore::open(folder, RootInput::BesideData, random()).unwrap();
    assert_eq!(store.info(&identity.id).unwrap(), identity);
    store.sign(&identity.id, b"m").unwrap();
}

#[test]
fn refuses_wrong_missing_and_short_roots() {
    let home = tempfile::tempdir().unwrap();
    let (folder, credential) = (home.path(), home.path().join("decores-root"));
    write_private(&credential, &[1; 32]);
    drop(FileKeyStore::create(folder, RootInput::Credential(&credential), random()).unwrap());
    write_private(&credential, &[2; 32]);
    assert!(matches!(
        refused(folder, RootInput::Credential(&credential)),
        FileError::WrongRoot(RootSource::Credential)
    ));
    for len in [0, 31, 33] {
        write_private(&credential, &vec![1; len]);
        assert!(matches!(refused(folder, RootInput::Credential(&credential)), FileError::RootSize(_)));
    }
    fs::remove_file(&credential).unwrap();
    assert!(matches!(refused(folder, RootInput::Credential(&credential)), FileError::Io { .. }));
}

#[test]
fn refuses_files_that_others_may_read() {
    let home = tempfile::tempdir().unwrap();
    drop(FileKeyStore::create(home.path(), RootInput::BesideData, random()).unwrap());
    for file in [KEYSTORE_FILE, ROOT_FILE] {
        for open in [0o640, 0o604, 0o660] {
            fs::set_permissions(home.path().join(file), fs::Permissions::from_mode(open)).unwrap();
            let error = refused(home.path(), RootInput::BesideData);
            assert!(matches!(error, FileError::Permissions { mode, .. } if mode == open), "{file} {open:o}");
        }
        fs::set_permissions(home.path().join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    FileKeyStore::open(home.path(), RootInput::BesideData, random()).unwrap();
}

#[test]
fn refuses_to_overwrite_a_keystore_and_to_read_a_huge_one() {
    let home = tempfile::tempdir().unwrap();
    drop(FileKeyStore::create(home.path(), RootInput::BesideData, random()).unwrap());
    let again = FileKeyStore::create(home.path(), RootInput::BesideData, random());
    assert!(matches!(again, Err(FileError::Exists(_))));
    FileKeyStore::open(home.path(), RootInput::BesideData, random()).expect("its root was not touched");
    write_private(&home.path().join(KEYSTORE_FILE), &vec![b' '; (1 << 20) + 1]);
    assert!(matches!(refused(home.path(), RootInput::BesideData), FileError::Document(_)));
}

#[test]
fn a_write_that_was_cut_short_leaves_the_old_keystore() {
    let home = tempfile::tempdir().unwrap();
    let store = FileKeyStore::create(home.path(), RootInput::BesideData, random()).unwrap();
    store.create(Purpose::Log, NOW).unwrap();
    // What a crash between write and rename leaves.
    fs::write(home.path().join("keystore.json.new"), b"{\"keys\":[").unwrap();
    let store = FileKeyStore::open(home.path(), RootInput::BesideData, random()).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    store.create(Purpose::Identity, NOW).unwrap();
    assert!(!home.path().join("keystore.json.new").exists());
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = FileKeyStore::create(home.path(), RootInput::BesideData, random()).unwrap();
    let log = store.create(Purpose::Log, NOW).unwrap();
    // A folder cannot be removed as a file, nor written to.
    fs::create_dir(home.path().join("keystore.json.new")).unwrap();
    assert!(store.create(Purpose::Log, NOW).is_err());
    assert!(store.retire(&log.id).is_err());
    assert_eq!(store.list().unwrap(), [log], "memory holds what the disk holds");
}

fn vectors() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/keys/keystore.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_good_vector_opens_and_signs() {
    let (file, home) = (vectors(), tempfile::tempdir().unwrap());
    write_private(&home.path().join(KEYSTORE_FILE), file["good"].as_str().unwrap().as_bytes());
    let passphrase = secret(file["passphrase"].as_str().unwrap().as_bytes());
    let store = FileKeyStore::open(home.path(), RootInput::Passphrase(&passphrase), random()).unwrap();
    assert_eq!(store.list().unwrap().len(), 6);
    for purpose in [Purpose::Identity, Purpose::Log, Purpose::Ca] {
        store.sign(&store.active(purpose).unwrap().unwrap().id, b"m").unwrap();
    }
}

#[test]
fn bad_vectors_are_refused_by_name() {
    let (file, home) = (vectors(), tempfile::tempdir().unwrap());
    let good = file["good"].as_str().unwrap();
    let passphrase = secret(file["passphrase"].as_str().unwrap().as_bytes());
    for case in file["bad"].as_array().unwrap() {
        let (from, to) = (case["from"].as_str().unwrap(), case["to"].as_str().unwrap());
        write_private(&home.path().join(KEYSTORE_FILE), good.replacen(from, to, 1).as_bytes());
        let error = refused(home.path(), RootInput::Passphrase(&passphrase));
        assert_eq!(variant(&error), case["refused"].as_str().unwrap(), "{}: {error}", case["name"]);
    }
}
