//! The vectors under `conformance/`: what is read, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_audit::check::check_log;
use decores_audit::checkpoint::{Checkpoint, LogKey};
use decores_audit::event::Entry;
use decores_audit::memory::MemoryTiles;
use decores_audit::ports::TileStore as _;
use decores_audit::proof::InclusionProof;
use decores_audit::tree::{Head, grow};
use decores_audit::trust::Trust;
use decores_audit::verify::{Claim, Status, verify};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&read(name)).unwrap()
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().unwrap()
}

#[test]
fn receipts() {
    let trust = Trust::parse(&read("receipt/trust.json")).unwrap();
    let index = json("receipt/index.json");
    let cases = index.as_array().unwrap();
    for case in cases {
        let (file, exit) = (case["file"].as_str().unwrap(), case["exit"].as_u64().unwrap());
        let Ok(report) = verify(&read(&format!("receipt/{file}")), &trust, None, &[]) else {
            assert_eq!(exit, 2, "{file}");
            continue;
        };
        let fails = report.claims.iter().filter(|r| r.status == Status::DoesNotHold).map(|r| r.claim.name());
        let (mut fails, mut expected): (Vec<_>, Vec<_>) =
            (fails.collect(), list(case, "fails").iter().map(|c| c.as_str().unwrap()).collect());
        fails.sort_unstable();
        expected.sort_unstable();
        assert_eq!(
            (if report.is_accepted() { 0 } else { 3 }, &fails),
            (exit, &expected),
            "{file}: {:?}",
            report.verdict
        );
        let unreadable = report.claims.iter().all(|r| r.status == Status::NotChecked);
        assert_eq!(unreadable, exit == 3 && expected.is_empty(), "{file}: {:?}", report.verdict);
        assert!(expected.iter().all(|name| Claim::parse(name).is_some()), "{file}");
    }
    let files = std::fs::read_dir(path("receipt")).unwrap().count();
    assert_eq!(files, cases.len() + 3, "every file but trust, index and README stands in the index");
}

#[test]
fn events() {
    let vectors = json("events/vectors.json");
    for entry in list(&vectors, "good") {
        let text = entry.as_str().unwrap();
        let parsed = Entry::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(parsed.to_bytes().unwrap(), text.as_bytes());
    }
    for case in list(&vectors, "bad") {
        assert!(Entry::parse(case["entry"].as_str().unwrap().as_bytes()).is_err(), "{}", case["why"]);
    }
}

#[test]
fn checkpoints_and_proofs() {
    let vectors = json("tlog/vectors.json");
    let key = LogKey::parse(vectors["vkey"].as_str().unwrap()).unwrap();
    assert_eq!(key.to_string(), vectors["vkey"].as_str().unwrap());
    let other = LogKey::parse(vectors["otherVkey"].as_str().unwrap()).unwrap();
    for case in list(&vectors, "checkpoints") {
        let note = case["note"].as_str().unwrap().as_bytes();
        assert_eq!(Checkpoint::open(note, &key).is_ok(), case["open"].as_bool().unwrap(), "{}", case["name"]);
        assert_eq!(Checkpoint::open_strict(note, &key).is_ok(), case["strict"].as_bool().unwrap(), "{}", case["name"]);
        assert!(Checkpoint::open(note, &other).is_err(), "{}", case["name"]);
    }
    for case in list(&vectors, "proofs") {
        let (proof, entry) = (case["proof"].as_str().unwrap(), case["entry"].as_str().unwrap().as_bytes());
        let accepted = InclusionProof::parse(proof.as_bytes()).is_ok_and(|p| p.verify(entry, &key).is_ok());
        assert_eq!(accepted, case["good"].as_bool().unwrap(), "{}", case["name"]);
    }
}

/// The example key of c2sp.org/signed-note and Go's sumdb/note, and what is near it.
#[test]
fn log_keys() {
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    assert_eq!(LogKey::parse(VKEY).unwrap().to_string(), VKEY);
    let bad = [
        VKEY.replace("c74f20a3", "c74f20a4"),
        VKEY.replace("c74f20a3", "C74F20A3"),
        VKEY.replace("Peter", "Peter "),
        VKEY.replace("+AR", "+AB"),
        VKEY.replace("10TW", "10TX"),
        format!("{VKEY}="),
        VKEY.replacen('+', "", 1),
        String::new(),
    ];
    for text in bad {
        assert!(LogKey::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn roots_of_rfc_6962() {
    let vectors = json("tlog/rfc6962.json");
    let leaves: Vec<Vec<u8>> =
        list(&vectors, "leaves").iter().map(|l| hex::decode(l.as_str().unwrap()).unwrap()).collect();
    let tiles = MemoryTiles::default();
    let mut head = Head::EMPTY;
    for (size, root) in list(&vectors, "roots").iter().enumerate() {
        let growth = grow(&|p| tiles.get(p), head, &leaves[..size]).unwrap();
        for tile in &growth.tiles {
            tiles.put(&tile.path, &tile.bytes).unwrap();
        }
        head = growth.head;
        assert_eq!(hex::encode(head.root.as_bytes()), root.as_str().unwrap(), "size {size}");
    }
    let checkpoint = Checkpoint { origin: "x".to_owned(), size: head.size, root: head.root };
    // The tree is right; its leaves are no events.
    check_log(&|p| tiles.get(p), &checkpoint, None, &mut |_, _| {}).unwrap_err();
}
