//! Go's checksum database code, which shares nothing with ours, must agree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use decores_audit::checkpoint::LogSigner as _;
use decores_audit::ports::TileStore as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const INSTALL: &str = "apt-get install --no-install-recommends golang-go golang-golang-x-mod-dev";

fn build() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/go/sumdbcheck");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join("sumdbcheck");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(".").current_dir(source);
    go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", folder.join("go-cache"));
    let built = go.output().unwrap_or_else(|e| panic!("this test needs Go ({e}): {INSTALL}"));
    assert!(built.status.success(), "{}\nthis test needs: {INSTALL}", String::from_utf8_lossy(&built.stderr));
    program
}

#[tokio::test]
async fn go_accepts_the_log_and_refuses_forgeries() {
    let program = build();
    let folder = tempfile::tempdir().unwrap();
    let log = TestLog::new();
    log.append((0..700).map(entry).collect()).await;
    let note = log.tiles.checkpoint().unwrap().unwrap();
    let accepts = |vkey: &str, note: &[u8], proof: &[u8], entry: &[u8]| {
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut check = Command::new(&program);
        check.arg(file("vkey", vkey.as_bytes())).arg(file("checkpoint", note));
        check.arg(file("proof", proof)).arg(file("entry", entry));
        match check.output().unwrap().status.code() {
            Some(0) => true,
            Some(1) => false,
            code => panic!("sumdbcheck ended with {code:?}"),
        }
    };
    let vkey = log.key.key().to_string();
    for index in [0, 255, 256, 511, 512, 699] {
        assert!(accepts(&vkey, &note, &log.prove(index).to_bytes(), &entry(index)), "entry {index}");
    }

    let proof = log.prove(300);
    let text = String::from_utf8(note.clone()).unwrap();
    let forged_note = text.replace("\n700\n", "\n701\n").into_bytes();
    let mut over_forged = proof.clone();
    over_forged.checkpoint.clone_from(&forged_note);
    assert!(!accepts(&vkey, &forged_note, &over_forged.to_bytes(), &entry(300)), "a forged note");
    let mut forged = proof.clone();
    forged.path[3] = decores_types::Digest::of(b"forged");
    assert!(!accepts(&vkey, &note, &forged.to_bytes(), &entry(300)), "a forged proof");
    assert!(!accepts(&vkey, &note, &proof.to_bytes(), &entry(301)), "another entry");
    let other = TestKey::new(3).key().to_string();
    assert!(!accepts(&other, &note, &proof.to_bytes(), &entry(300)), "another key");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/tlog/vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (vkey, note) = (text(&vectors["vkey"]), text(&vectors["checkpoints"][0]["note"]));
    for case in vectors["proofs"].as_array().unwrap() {
        let (proof, entry) = (text(&case["proof"]), text(&case["entry"]));
        // Go's parser of numbers and base64 is laxer than ours: of the bad ones only forgeries are its matter.
        let forged = ["another entry", "another index", "beyond the tree"].contains(&text(&case["name"]).as_str());
        if forged || case["good"] == true {
            assert_eq!(
                accepts(&vkey, note.as_bytes(), proof.as_bytes(), entry.as_bytes()),
                !forged,
                "{}",
                case["name"]
            );
        }
    }
}
