//! Writes the vectors under `conformance/` that come from this program: `cargo run -p decores-audit --example make_log_vectors`.
//! Keys, ids and times are fixed: the same files come out every time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test tool")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use decores_audit::checkpoint::{Checkpoint, LogSigner as _};
use decores_audit::ports::TileStore as _;
use decores_audit::receipt::predicate::Predicate;
use decores_audit::receipt::{Receipt, ReceiptFile, build};
use decores_audit::trust::{Trust, TrustedNode};
use decores_types::job::EngineKind;
use decores_types::{Base64, Digest, JobId, JobState, Protection, Reason, Strength};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance").join(name)
}

fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(value).unwrap())).unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut vectors = Vectors { index: Vec::new() };
    good(&mut vectors).await;
    encodings(&mut vectors).await;
    signatures(&mut vectors).await;
    payloads(&mut vectors).await;
    logs(&mut vectors).await;
    openings(&mut vectors).await;
    words(&mut vectors).await;
    containers(&mut vectors).await;
    let second = TrustedNode::new("second", TestKey::new(4).public(), TestKey::new(5).key());
    let mut trust = trust();
    trust.nodes.push(second);
    write_json(&folder("receipt").join("trust.json"), &serde_json::to_value::<Trust>(trust).unwrap());
    write_json(&folder("receipt").join("index.json"), &Value::Array(vectors.index));
    tlog().await;
}

struct Vectors {
    index: Vec<Value>,
}

impl Vectors {
    /// `fails` names the claims that do not hold; none, with exit 3, where the file cannot be read at all.
    fn add(&mut self, name: &str, exit: u8, fails: &[&str], why: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(folder("receipt").join(format!("{name}.json")), bytes).unwrap();
        self.index.push(json!({ "exit": exit, "fails": fails, "file": format!("{name}.json"), "why": why }));
    }

    fn unreadable(&mut self, name: &str, why: &str, bytes: impl AsRef<[u8]>) {
        self.add(name, 3, &[], why, bytes);
    }

    fn file(&mut self, name: &str, fails: &[&str], why: &str, file: &ReceiptFile) {
        self.add(name, 3, fails, why, file.to_bytes().unwrap());
    }
}

fn text(file: &ReceiptFile) -> String {
    String::from_utf8(file.to_bytes().unwrap()).unwrap()
}

async fn good(v: &mut Vectors) {
    v.add("good-opened", 0, &[], "a job that ended well, with the consumer's opening", text(&opened().await));
    v.add("good-closed", 0, &[], "the same, as the node gives it out", text(&receipt_of(predicate()).await));
    v.add("good-never-ran", 0, &[], "an attempt whose queue time ran out", text(&receipt_of(never_ran()).await));
}

async fn encodings(v: &mut Vectors) {
    let good = text(&opened().await);
    v.add("not-json", 2, &[], "cut in the middle", &good[..good.len() / 2]);
    v.unreadable("trailing-newline", "a byte after the last", format!("{good}\n"));
    v.unreadable("leading-space", "a byte before the first", format!(" {good}"));
    let value: Value = serde_json::from_str(&good).unwrap();
    v.unreadable("indented", "the same, with white space", serde_json::to_string_pretty(&value).unwrap());
    v.unreadable("escaped", "a character written as an escape", good.replace("\"anchors\"", "\"\\u0061nchors\""));
    let reordered = good.replacen("{\"anchors\":[],\"collateral\":[],", "{\"collateral\":[],\"anchors\":[],", 1);
    v.unreadable("reordered", "members in another order", reordered);
    v.unreadable("unknown-member", "a member nobody knows", good.replacen("{\"anchors\"", "{\"a\":1,\"anchors\"", 1));
    v.unreadable(
        "twice",
        "a member that stands twice",
        good.replacen("{\"anchors\":[]", "{\"anchors\":[],\"anchors\":[]", 1),
    );
    v.unreadable("removed-member", "no collateral list", good.replacen("\"collateral\":[],", "", 1));
    v.unreadable(
        "an-anchor",
        "an anchor, before there are any",
        good.replacen("\"anchors\":[]", "\"anchors\":[{}]", 1),
    );
    v.unreadable("another-type", "of version 2", good.replace("receipt/v1\"}", "receipt/v2\"}"));
    let upper = value["opening"]["program"].as_str().unwrap();
    v.unreadable("upper-hex", "hexadecimal in capitals", good.replace(upper, &upper.to_uppercase()));
    let entry = value["entry"].as_str().unwrap();
    v.unreadable("base64-unpadded", "base64 without padding", good.replace(entry, entry.trim_end_matches('=')));
    v.unreadable("base64-newline", "base64 with a line break", good.replace(entry, &format!("{entry}\\n")));
    let sig = value["envelope"]["signatures"][0]["sig"].as_str().unwrap();
    let stray = format!("{}B==", &sig[..85]);
    v.unreadable("base64-stray-bits", "bits that belong to no byte", good.replace(sig, &stray));
    let url: String = sig
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    v.unreadable("base64-url", "the other alphabet", good.replace(sig, &url));
}

async fn signatures(v: &mut Vectors) {
    let good = opened().await;
    let payload = good.envelope.payload.0.clone();
    let by = |seed| ReceiptFile { envelope: TestKey::new(seed).envelope(payload.clone()), ..good.clone() };
    v.file("unknown-issuer", &["issuer"], "signed by a key that nobody pinned", &by(3));
    v.file("another-issuer", &["issuer"], "signed by a pinned node, for another node", &by(4));
    let mut file = good.clone();
    file.envelope.signatures[0].keyid = TestKey::new(4).id();
    v.file("wrong-keyid", &["issuer"], "the key id of another pinned node", &file);
    let mut file = good.clone();
    file.envelope.signatures[0].sig.0[0] ^= 1;
    v.file("wrong-signature", &["issuer"], "one bit of the signature", &file);
    let mut file = good.clone();
    let first = file.envelope.signatures[0].clone();
    file.envelope.signatures.push(first);
    v.file("two-signatures", &[], "the same signature twice", &file);
    file.envelope.signatures.clear();
    v.file("no-signature", &[], "none", &file);
    let mut file = good.clone();
    file.envelope.payload_type = "application/json".to_owned();
    v.file("payload-type", &[], "another payload type", &file);
    let mut file = good.clone();
    let at = file.envelope.payload.0.len() / 2;
    file.envelope.payload.0[at] ^= 1;
    v.file("changed-payload", &["issuer"], "one bit of the payload", &file);
}

/// Payloads the node could have signed, which still are none.
async fn payloads(v: &mut Vectors) {
    let good = opened().await;
    let signed = |payload: String| ReceiptFile { envelope: identity().envelope(payload.into_bytes()), ..good.clone() };
    let payload = String::from_utf8(good.envelope.payload.0.clone()).unwrap();
    let mut value: Value = serde_json::from_str(&payload).unwrap();
    v.file(
        "payload-space",
        &[],
        "signed, but not canonical",
        &signed(payload.replacen("{\"_type\"", "{ \"_type\"", 1)),
    );
    v.file(
        "payload-more",
        &[],
        "signed, with a member nobody knows",
        &signed(payload.replacen("\"attempt\":1", "\"attempt\":1,\"best\":true", 1)),
    );
    v.file(
        "payload-statement",
        &[],
        "signed, but another statement type",
        &signed(payload.replace("Statement/v1", "Statement/v2")),
    );
    value["predicate"].as_object_mut().unwrap().remove("wipe");
    let without = String::from_utf8(decores_types::canonical::to_vec(&value).unwrap()).unwrap();
    v.file("removed-claim", &[], "signed, without saying what was wiped", &signed(without));
    let statement = payload.replace("[\"ipc\",\"mount\",\"net\",\"pid\"]", "[\"pid\",\"net\",\"mount\",\"ipc\"]");
    v.file("unsorted-list", &[], "signed, with a list in another order", &signed(statement));
    let subject = payload.replace("\"name\":\"output\"", "\"name\":\"job\"");
    v.file("another-subject", &["commitment", "spec"], "signed, about something else", &signed(subject));
}

async fn logs(v: &mut Vectors) {
    let good = opened().await;
    let key = log_key();
    let proof = |change: &dyn Fn(String) -> String| ReceiptFile { proof: change(good.proof.clone()), ..good.clone() };
    let mut other = predicate();
    other.job = JobId::from_bytes([0xb0; 16]);
    let other = receipt_of(other).await;
    let swapped = ReceiptFile { entry: other.entry.clone(), proof: other.proof.clone(), ..good.clone() };
    v.file("other-jobs-proof", &["commitment"], "entry and proof of another job", &swapped);
    let mut told = predicate();
    told.times.ended = told.times.ended.plus_ms(1);
    let second = identity().envelope(build::payload(told).unwrap());
    v.file(
        "second-receipt",
        &["commitment"],
        "a second receipt for one attempt",
        &ReceiptFile { envelope: second, ..good.clone() },
    );
    let entry = String::from_utf8(good.entry.0.clone()).unwrap();
    let changed = entry.replace("\"done\"", "\"failed\"").replace("\"completed\"", "\"trap\"");
    let changed = ReceiptFile { entry: Base64(changed.into_bytes()), ..good.clone() };
    v.file("changed-entry", &["log", "commitment"], "an entry with another end", &changed);
    v.file("proof-index", &["log"], "another index", &proof(&|p| p.replace("index 2", "index 3")));
    v.file("proof-index-zero", &["log"], "an index with a leading zero", &proof(&|p| p.replace("index 2", "index 02")));
    v.file(
        "proof-extra",
        &["log"],
        "extra data, which nothing signs",
        &proof(&|p| p.replace("index 2", "extra eA==\nindex 2")),
    );
    v.file(
        "proof-shorter",
        &["log"],
        "one hash less",
        &proof(&|p| {
            let mut lines: Vec<&str> = p.split('\n').collect();
            lines.remove(2);
            lines.join("\n")
        }),
    );
    v.file("proof-trailing", &["log"], "a line after the checkpoint", &proof(&|p| p + "\n"));
    v.file(
        "checkpoint-size",
        &["log"],
        "another size under the same signature",
        &proof(&|p| p.replace("\n5\n", "\n6\n")),
    );
    let line = |p: &str| p.lines().last().unwrap().to_owned();
    v.file(
        "checkpoint-unknown-line",
        &["log"],
        "a signature line by nobody known",
        &proof(&|p| format!("{p}{}\n", line(&p).replace(ORIGIN, "witness.example"))),
    );
    v.file("checkpoint-two-lines", &["log"], "the log's line twice", &proof(&|p| format!("{p}{}\n", line(&p))));
    let checkpoint = Checkpoint::open(good.proof.split_once("\n\n").unwrap().1.as_bytes(), key.key()).unwrap();
    let resign = |checkpoint: &Checkpoint, seed| {
        let note = String::from_utf8(checkpoint.sign(&TestKey::new(seed)).unwrap()).unwrap();
        proof(&|p| format!("{}\n\n{note}", p.split_once("\n\n").unwrap().0))
    };
    v.file("checkpoint-key", &["log"], "signed by another key of the same name", &resign(&checkpoint, 5));
    let forked = Checkpoint { root: Digest::of(b"another history"), ..checkpoint };
    v.file("checkpoint-root", &["log"], "signed by the log, over another tree", &resign(&forked, 2));
}

async fn openings(v: &mut Vectors) {
    let good = opened().await;
    let with = |change: &dyn Fn(&mut decores_audit::receipt::Opening)| {
        let mut file = good.clone();
        change(file.opening.as_mut().unwrap());
        file
    };
    v.file("opening-program", &["program"], "another program", &with(&|o| o.program = Digest::of(b"other").into()));
    v.file("opening-input", &["input"], "another input", &with(&|o| o.input = Digest::of(b"other").into()));
    let output = with(&|o| o.output.as_mut().unwrap().stdout.size += 1);
    v.file("opening-output", &["output"], "another output", &output);
    v.file("opening-key", &["input", "output", "program", "spec"], "another key", &with(&|o| o.key.0[0] ^= 1));
    v.file(
        "opening-short-key",
        &["input", "output", "program", "spec"],
        "a key of 31 bytes",
        &with(&|o| o.key.0.truncate(31)),
    );
}

/// What a lying node could sign and log.
async fn words(v: &mut Vectors) {
    type Lie = (&'static str, &'static [&'static str], &'static str, fn(&mut Predicate));
    let lies: [Lie; 13] = [
        ("lie-program", &["program"], "another program than the spec names", |p| p.program = p.output),
        ("lie-no-output", &["output"], "done, but no output", |p| p.output = None),
        ("lie-protection", &["protection"], "less protection than the spec asks for", |p| {
            p.spec.protection = Protection::Vm
        }),
        ("lie-enclave", &["evidence"], "`enclave` without evidence", |p| p.protection = Some(Protection::Enclave)),
        ("lie-strength", &["evidence"], "its word, called proved", |p| {
            p.strength.insert("wipe".to_owned(), Strength::Proved);
        }),
        ("lie-seccomp", &["isolation"], "no seccomp filter", |p| p.isolation.as_mut().unwrap().seccomp = false),
        ("lie-limits", &["limits"], "other limits than the spec's", |p| p.limits.as_mut().unwrap().wall_ms += 1),
        ("lie-exit", &["result"], "completed, with exit code 1", |p| p.result.exit = Some(1)),
        ("lie-times", &["times"], "ended before it started", |p| p.times.ended = NOW),
        ("wipe-one-check", &["wipe"], "one check, where an engine held six things", |p| p.wipe.checks.truncate(1)),
        ("wipe-no-scratch", &["wipe"], "nobody looked at the scratch", |p| {
            p.wipe.checks.remove(3);
        }),
        ("lie-exit-no-program", &["program"], "an exit code, but no program", |p| {
            (p.result.state, p.result.reason, p.result.exit) = (JobState::Failed, Reason::ExitNonzero, Some(3));
            p.program = None;
        }),
        ("wipe-incomplete", &["wipe"], "a check of the wipe did not pass", |p| p.wipe.checks[1].passed = false),
    ];
    for (name, fails, why, lie) in lies {
        let mut told = predicate();
        lie(&mut told);
        v.file(name, fails, why, &receipt_of(told).await);
    }
    let closed = text(&receipt_of(predicate()).await);
    assert!(Receipt::parse(closed.as_bytes()).is_ok());
}

async fn containers(v: &mut Vectors) {
    v.add("good-container", 0, &[], "a container that ended well, opened", text(&contained_opened().await));
    v.add("good-container-closed", 0, &[], "the same, as the node gives it out", text(&receipt_of(contained()).await));
    let lost = |p: &mut Predicate| {
        (p.result.state, p.result.reason, p.result.exit) = (JobState::Failed, Reason::EngineLost, None);
        (p.program, p.image, p.input, p.output) = (None, None, None, None);
        p.isolation.as_mut().unwrap().container = None;
    };
    let mut told = contained();
    lost(&mut told);
    v.add("good-container-lost", 0, &[], "a container that was lost with its engine", text(&receipt_of(told).await));
    let mut file = contained_opened().await;
    file.opening.as_mut().unwrap().image = Some(Digest::of(b"other").into());
    v.file("opening-image", &["image"], "another image", &file);
    type Lie = (&'static str, &'static [&'static str], &'static str, fn(&mut Predicate));
    let lies: [Lie; 7] = [
        ("lie-no-image", &["image"], "a container ran, but no image is named", |p| p.image = None),
        ("lie-image", &["image"], "an image, where no container was asked for", |p| {
            p.spec.engine = EngineKind::Wasm;
            p.strength.remove("image");
        }),
        ("lie-no-container", &["protection"], "`container`, but not what held it", |p| {
            p.isolation.as_mut().unwrap().container = None;
        }),
        ("lie-vm", &["protection"], "`vm`, by a runtime that shares the kernel", |p| {
            p.protection = Some(Protection::Vm)
        }),
        ("lie-container-powers", &["isolation"], "a container with capabilities", |p| {
            held(p).powerless = false;
        }),
        ("lie-container-seccomp", &["isolation"], "a container without a seccomp filter", |p| held(p).seccomp = false),
        ("lie-strength-image", &["evidence"], "the image's strength is not said", |p| {
            p.strength.remove("image");
        }),
    ];
    for (name, fails, why, lie) in lies {
        let mut told = contained();
        lie(&mut told);
        v.file(name, fails, why, &receipt_of(told).await);
    }
    let payload = String::from_utf8(contained_opened().await.envelope.payload.0).unwrap();
    let unsorted = payload.replace("\"uts\"]", "\"user\"]");
    let file = ReceiptFile { envelope: identity().envelope(unsorted.into_bytes()), ..contained_opened().await };
    v.file("unsorted-container", &[], "signed, with a namespace twice", &file);
}

fn held(p: &mut Predicate) -> &mut decores_audit::receipt::predicate::Container {
    p.isolation.as_mut().unwrap().container.as_mut().unwrap()
}

async fn tlog() {
    let log = TestLog::new();
    log.append((0..300).map(entry).collect()).await;
    let note = String::from_utf8(log.tiles.checkpoint().unwrap().unwrap()).unwrap();
    let line = note.lines().last().unwrap().to_owned();
    let witness = format!("{note}{}\n", line.replace(ORIGIN, "witness.example"));
    let other_key = TestKey::new(3).key().to_string();
    let checkpoint = |name: &str, note: &str, open: bool, strict: bool| json!({ "name": name, "note": note, "open": open, "strict": strict });
    let checkpoints = [
        checkpoint("good", &note, true, true),
        checkpoint("a line by an unknown witness", &witness, true, false),
        checkpoint("the log's line twice", &format!("{note}{line}\n"), true, false),
        checkpoint("another size", &note.replace("\n300\n", "\n301\n"), false, false),
        checkpoint("a leading zero", &note.replace("\n300\n", "\n0300\n"), false, false),
        checkpoint("another origin", &note.replacen(ORIGIN, "other.example/log", 1), false, false),
        checkpoint("an extension line", &note.replacen("\n\n", "\nextension\n\n", 1), false, false),
        checkpoint("no signature", note.split_once("\n\n").unwrap().0, false, false),
        checkpoint("a short dash before the signature", &note.replace('—', "-"), false, false),
        checkpoint("no line end", note.trim_end(), false, false),
    ];
    let proof = String::from_utf8(log.prove(256).to_bytes()).unwrap();
    let case = |name: &str, proof: &str, index: u64, good: bool| json!({ "entry": String::from_utf8(entry(index)).unwrap(), "good": good, "name": name, "proof": proof });
    let proofs = [
        case("good", &proof, 256, true),
        case("another entry", &proof, 255, false),
        case("another index", &proof.replace("index 256", "index 255"), 256, false),
        case("an index with a sign", &proof.replace("index 256", "index +256"), 256, false),
        case("beyond the tree", &proof.replace("index 256", "index 300"), 256, false),
        case("another version", &proof.replace("@v1", "@v2"), 256, false),
        case("extra data", &proof.replace("index", "extra eA==\nindex"), 256, false),
        case("lax base64", &proof.replacen("=\n", "\n", 1), 256, false),
        case("a carriage return", &proof.replacen("=\n", "=\r\n", 1), 256, false),
    ];
    let vectors = json!({
        "checkpoints": checkpoints,
        "otherVkey": other_key,
        "proofs": proofs,
        "vkey": log.key.key().to_string(),
    });
    write_json(&folder("tlog").join("vectors.json"), &vectors);
}
