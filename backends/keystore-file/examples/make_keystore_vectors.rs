//! Writes conformance/keys/keystore.json anew; the P-256 key in it is another one at every run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool that is run by hand")]

use decores_keys::{KeyStore, Purpose};
use decores_keystore_file::{FileKeyStore, KEYSTORE_FILE, RootInput};
use decores_secrets::Secret;
use decores_types::{Digest, Random, Timestamp};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// No randomness at all: SHA-256 of a counter.
struct Fixed(AtomicU64);

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) {
        for part in out.chunks_mut(32) {
            let digest = Digest::of(format!("keystore {}", self.0.fetch_add(1, Ordering::Relaxed)).as_bytes());
            part.copy_from_slice(&digest.as_bytes()[..part.len()]);
        }
    }
}

fn main() {
    let home = tempfile::tempdir().unwrap();
    let passphrase = Secret::from_slice(b"correct horse battery staple").unwrap();
    let random = Arc::new(Fixed(AtomicU64::new(0)));
    let store = FileKeyStore::create(home.path(), RootInput::Passphrase(&passphrase), random).unwrap();
    let now = Timestamp::from_ms(1_767_225_600_000);
    for purpose in [Purpose::Identity, Purpose::Log, Purpose::Ca, Purpose::Storage, Purpose::Index] {
        store.create(purpose, now).unwrap();
    }
    let old = store.active(Purpose::Identity).unwrap().unwrap();
    store.create(Purpose::Identity, now.plus_ms(1)).unwrap();
    store.destroy(&old.id).unwrap();
    let text = std::fs::read_to_string(home.path().join(KEYSTORE_FILE)).unwrap();
    let file = json!({"passphrase": "correct horse battery staple", "good": text, "bad": bad(&text)});
    let out = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/keys/keystore.json");
    std::fs::write(out, serde_json::to_string_pretty(&file).unwrap() + "\n").unwrap();
}

/// Each replaces text of the good file, once.
fn bad(good: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(good).unwrap();
    let wrapped = |i: usize| file["keys"][i]["wrapped"].as_str().unwrap().to_owned();
    let check = file["root"]["check"].as_str().unwrap();
    let public = file["keys"][1]["public"].as_str().unwrap();
    let id = file["keys"][3]["id"].as_str().unwrap();
    let identity = file["keys"][5]["id"].as_str().unwrap();
    let destroyed = "\"purpose\":\"identity\",\"state\":\"destroyed\"";
    let case = |name: &str, from: &str, to: &str, refused: &str| {
        assert!(good.contains(from), "{name}: {from} is not in the file");
        json!({"name": name, "from": from, "to": to, "refused": refused})
    };
    vec![
        case("with a space", "\"version\":1", "\"version\": 1", "Document"),
        case("an unknown member", "\"version\":1", "\"version\":1,\"x\":1", "Document"),
        case("an unknown version", "\"version\":1", "\"version\":2", "Version"),
        case("an unknown algorithm", "ecdsa-p256", "ecdsa-p999", "Document"),
        case("an unknown way to the root", "\"source\":\"passphrase\"", "\"source\":\"volatile\"", "Document"),
        case("an unknown derivation", "argon2id", "argon2d", "Document"),
        case(
            "no derivation for a passphrase",
            &good[good.find("\"kdf\"").unwrap()..good.find("\"source\"").unwrap()],
            "",
            "Malformed",
        ),
        case("a derivation that takes 4 TiB", "\"memoryKib\":65536", "\"memoryKib\":4294967295", "Malformed"),
        case("a derivation that takes for ever", "\"iterations\":3", "\"iterations\":4294967295", "Malformed"),
        case("another salt", "\"salt\":\"", "\"salt\":\"AAAA", "WrongRoot"),
        case("another check", check, &wrapped(1), "WrongRoot"),
        case("two keys' wrapped forms exchanged", &wrapped(1), &wrapped(3), "Damaged"),
        case("another public key", public, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "Damaged"),
        case("another id", id, "key_00000000000000000000000000000000", "Damaged"),
        case("another epoch", "\"epoch\":2", "\"epoch\":3", "Damaged"),
        case("an epoch of zero", "\"epoch\":2", "\"epoch\":0", "Malformed"),
        case("an id twice", id, identity, "Malformed"),
        case("another purpose", "\"purpose\":\"index\"", "\"purpose\":\"storage\"", "Malformed"),
        case("a key that is never stored", "\"purpose\":\"log\"", "\"purpose\":\"epoch\"", "Malformed"),
        case(
            "a destroyed key that has come back",
            destroyed,
            "\"purpose\":\"identity\",\"state\":\"active\"",
            "Malformed",
        ),
        case("a wrapped form cut short", &wrapped(1), "AAAA", "Damaged"),
    ]
}
