//! A receipt is what is left when the node is gone, so everybody has reason to forge one: the node that wants to
//! have said something else, the consumer who wants to show something else. Whatever is changed in it, the real
//! `decores verify` must refuse: exit 3, or 2 where it is no JSON any more. It must name what fails.

use decores_audit::receipt::Receipt;
use decores_audit::verify::verify;
use decores_tests::cli::{Cli, Ran};
use decores_tests::job::{Input, Job};
use decores_tests::node::Node;
use decores_tests::wasm;
use decores_types::Base64;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Two good receipts of one node, and what it takes to verify them.
struct Bench {
    cli: Cli,
    trust: PathBuf,
    output: PathBuf,
    good: Vec<u8>,
    other: Vec<u8>,
    node: Node,
}

impl Bench {
    fn new() -> Self {
        let node = Node::start();
        let consumer = node.consumer();
        let receipt = |text: &[u8]| {
            let job = Job::new(&wasm::cat(), Input::stdin(text));
            let ended = consumer.run(&job);
            let output = consumer.output(&job, &ended);
            job.complete(&consumer.receipt(ended.view.job), Some(output.manifest))
        };
        let (good, other) = (receipt(b"what came out"), receipt(b"something else"));
        let cli = Cli::default();
        let trust = cli.write("trust.json", &node.trust().to_bytes().unwrap());
        let output = cli.write("output", b"what came out");
        let this = Self { cli, trust, output, good, other, node };
        this.verify(&this.good).is(0);
        this
    }

    fn verify(&self, receipt: &[u8]) -> Ran {
        self.verify_against(receipt, &self.trust, &self.output)
    }

    fn verify_against(&self, receipt: &[u8], trust: &Path, output: &Path) -> Ran {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let file = self.cli.write(&format!("receipt{}.json", FILES.fetch_add(1, Ordering::Relaxed)), receipt);
        let ran = self.cli.run([
            "verify".as_ref(),
            file.as_os_str(),
            "--trust".as_ref(),
            trust.as_os_str(),
            "--output".as_ref(),
            output.as_os_str(),
        ]);
        std::fs::remove_file(file).unwrap();
        ran
    }

    /// The good receipt after a change to its JSON.
    fn changed(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value: Value = serde_json::from_slice(&self.good).unwrap();
        change(&mut value);
        decores_types::canonical::to_vec(&value).unwrap()
    }

    /// The good receipt after a change to its signed statement.
    fn restated(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        self.changed(|receipt| {
            let payload = Base64::parse(receipt["envelope"]["payload"].as_str().unwrap()).unwrap();
            let mut statement: Value = serde_json::from_slice(&payload.0).unwrap();
            change(&mut statement);
            let payload = Base64(decores_types::canonical::to_vec(&statement).unwrap());
            receipt["envelope"]["payload"] = json!(payload.to_string());
        })
    }
}

#[test]
fn an_unknown_issuer_is_refused() {
    let bench = Bench::new();
    let stranger = Node::start();
    let trust = bench.cli.write("stranger.json", &stranger.trust().to_bytes().unwrap());
    bench.verify_against(&bench.good, &trust, &bench.output).is(3).says("issuer");
    let empty = decores_audit::Trust::default().to_bytes().unwrap();
    let trust = bench.cli.write("empty.json", &empty);
    bench.verify_against(&bench.good, &trust, &bench.output).is(3).says("issuer");

    // The same identity with another node's log: who signed is known, where it stands is not.
    let mut mixed = bench.node.trust();
    mixed.nodes[0].log = stranger.trust().nodes[0].log.clone();
    let trust = bench.cli.write("mixed.json", &mixed.to_bytes().unwrap());
    bench.verify_against(&bench.good, &trust, &bench.output).is(3).says("log");
}

#[test]
fn a_receipt_with_one_claim_removed_is_refused() {
    let bench = Bench::new();
    let mut members = Vec::new();
    bench.restated(|statement| members = statement["predicate"].as_object().unwrap().keys().cloned().collect());
    assert!(members.len() > 15, "{members:?}");
    for member in &members {
        let forged = bench.restated(|statement| {
            statement["predicate"].as_object_mut().unwrap().remove(member);
        });
        bench.verify(&forged).is(3);
    }
    let mut members = Vec::new();
    bench.changed(|receipt| members = receipt.as_object().unwrap().keys().cloned().collect());
    for member in members.iter().filter(|name| *name != "opening") {
        let forged = bench.changed(|receipt| {
            receipt.as_object_mut().unwrap().remove(member);
        });
        bench.verify(&forged).is(3);
    }
    // Without the opening the receipt is good, but the demanded comparison was not made.
    let closed = bench.changed(|receipt| {
        receipt.as_object_mut().unwrap().remove("opening");
    });
    bench.verify(&closed).is(3).says("output");
}

#[test]
fn a_claim_that_says_more_is_refused() {
    let bench = Bench::new();
    for (pointer, value) in [
        ("/predicate/protection", json!("enclave")),
        ("/predicate/isolation/seccomp", json!(false)),
        ("/predicate/wipe/complete", json!(false)),
        ("/predicate/result/state", json!("failed")),
        ("/predicate/rootSource", json!("passphrase")),
        ("/predicate/limits/memoryBytes", json!(1)),
        ("/predicate/strength/wipe", json!("proved")),
        ("/predicateType", json!("https://example.org/receipt")),
    ] {
        let forged = bench.restated(|statement| *statement.pointer_mut(pointer).unwrap() = value);
        bench.verify(&forged).is(3);
    }
    let more = bench.restated(|statement| statement["predicate"]["certified"] = json!(true));
    bench.verify(&more).is(3);
    let more = bench.changed(|receipt| receipt["note"] = json!("trust me"));
    bench.verify(&more).is(3);
}

#[test]
fn a_reordered_or_reencoded_receipt_is_refused() {
    let bench = Bench::new();
    let text = String::from_utf8(bench.good.clone()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let payload = value["envelope"]["payload"].as_str().unwrap();
    let first = text.find("\"anchors\":[],").unwrap();
    let reordered = format!("{{{}", &text[first + "\"anchors\":[],".len()..text.len() - 1]) + ",\"anchors\":[]}";
    assert!(serde_json::from_str::<Value>(&reordered).is_ok());
    let variants = [
        ("members reordered", reordered),
        ("pretty", serde_json::to_string_pretty(&value).unwrap()),
        ("escaped", text.replacen("\"anchors\"", "\"\\u0061nchors\"", 1)),
        ("spaced", text.replacen(':', ": ", 1)),
        ("a member twice", text.replacen("\"anchors\":[],", "\"anchors\":[],\"anchors\":[],", 1)),
        ("base64 without padding", text.replacen(payload, payload.trim_end_matches('='), 1)),
        ("base64 with more padding", text.replacen(payload, &format!("{payload}="), 1)),
        ("base64 for URLs", text.replacen("\"sig\":\"", "\"sig\":\"-_", 1)),
        ("base64 with a line break", text.replacen(payload, &format!("{}\\n{}", &payload[..60], &payload[60..]), 1)),
        ("byte-order mark", format!("\u{feff}{text}")),
    ];
    for (what, forged) in variants {
        if forged == text {
            // This payload happens to need no padding.
            assert!(what.contains("padding"), "{what}");
            continue;
        }
        let code = if forged.starts_with('\u{feff}') { 2 } else { 3 };
        let ran = bench.verify(forged.as_bytes());
        assert_eq!(ran.code, code, "{what}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let bench = Bench::new();
    for (tail, code) in [("\n", 3), (" ", 3), ("{}", 2), ("\0", 2), ("x", 2)] {
        bench.verify(&[bench.good.as_slice(), tail.as_bytes()].concat()).is(code);
    }
    bench.verify(&[b" ".as_slice(), &bench.good].concat()).is(3);
    bench.verify(b"").is(2);
    bench.verify(b"null").is(3);
    bench.verify(&bench.good[..bench.good.len() / 2]).is(2);
}

#[test]
fn another_jobs_proof_entry_or_signature_is_refused() {
    let bench = Bench::new();
    let other: Value = serde_json::from_slice(&bench.other).unwrap();
    bench.verify(&bench.changed(|r| r["proof"] = other["proof"].clone())).is(3).says("log");
    bench.verify(&bench.changed(|r| r["entry"] = other["entry"].clone())).is(3);
    let both = bench.changed(|r| {
        r["proof"] = other["proof"].clone();
        r["entry"] = other["entry"].clone();
    });
    bench.verify(&both).is(3).says("commitment");
    bench.verify(&bench.changed(|r| r["envelope"]["signatures"] = other["envelope"]["signatures"].clone())).is(3);
    bench.verify(&bench.changed(|r| r["envelope"]["payload"] = other["envelope"]["payload"].clone())).is(3);
    bench.verify(&bench.changed(|r| r["opening"] = other["opening"].clone())).is(3);
    let twice = bench.changed(|r| {
        let signature = r["envelope"]["signatures"][0].clone();
        r["envelope"]["signatures"].as_array_mut().unwrap().push(signature);
    });
    bench.verify(&twice).is(3);
}

#[test]
fn another_output_is_refused_by_name() {
    let bench = Bench::new();
    for (n, output) in [b"what came ouT".as_slice(), b"what came out\n", b"", b"something else"].iter().enumerate() {
        let path = bench.cli.write(&format!("output{n}"), output);
        bench.verify_against(&bench.good, &bench.trust, &path).is(3).says("`output` does not hold");
    }
}

/// One bit of every byte through the library, and a sample through the program itself.
#[test]
fn any_flipped_bit_is_refused() {
    let bench = Bench::new();
    let trust = bench.node.trust();
    for at in 0..bench.good.len() {
        let mut forged = bench.good.clone();
        forged[at] ^= 1 << (at % 8);
        let accepted = verify(&forged, &trust, None, &[]).is_ok_and(|report| report.is_accepted());
        assert!(!accepted, "bit {} of byte {at}", at % 8);
    }
    let sample = sample(&bench.good, 2_000);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((at, bit)) = sample.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut forged = bench.good.clone();
                    forged[*at] ^= 1 << bit;
                    let is_json = serde_json::from_slice::<Value>(&forged).is_ok();
                    let ran = bench.verify(&forged);
                    // Bytes that are no UTF-8 may be called either.
                    let either = std::str::from_utf8(&forged).is_err() && matches!(ran.code, 2 | 3);
                    assert!(
                        either || ran.code == if is_json { 3 } else { 2 },
                        "bit {bit} of byte {at}: {}{}",
                        ran.stdout,
                        ran.stderr
                    );
                    assert!(!ran.stdout.is_empty() || !ran.stderr.is_empty(), "it says why");
                }
            });
        }
    });
}

/// Every structural byte, and bits spread over the rest by a fixed sequence.
fn sample(bytes: &[u8], count: usize) -> Vec<(usize, usize)> {
    let structural = bytes.iter().enumerate().filter(|(_, b)| b"{}[]\",:".contains(b));
    let mut chosen: Vec<(usize, usize)> = structural.map(|(at, _)| (at, at % 8)).collect();
    let mut state = 0x9e37_79b9_u64;
    while chosen.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 33) as usize % (bytes.len() * 8);
        chosen.push((bit / 8, bit % 8));
    }
    chosen
}

/// What is read is what was written: nothing is lost between bytes and document.
#[test]
fn a_good_receipt_is_its_one_encoding() {
    let bench = Bench::new();
    for bytes in [&bench.good, &bench.other] {
        assert_eq!(Receipt::parse(bytes).unwrap().file.to_bytes().unwrap(), *bytes);
    }
}
