//! conformance/sealed-payload.

use crate::{Fixed, write};
use decores_keys::payload::{self, JobBinding, ResultBinding, SectionKey, SectionKind, StreamSealer};
use decores_keys::{Recipient, XWingKey};
use decores_secrets::Secret;
use decores_types::{Attempt, CommitmentKey, ConsumerId, Digest, JobId, KeyId};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

const SEED: [u8; 32] = [0x11; 32];
const EPOCH: u32 = 7;
const COMMITMENT: [u8; 32] = [0x22; 32];
const CHUNK: usize = 65_536;

pub(crate) fn make(folder: &Path) {
    let mut good = Vec::new();
    for (name, section, len, length) in [
        ("output-0", SectionKind::Output, 0, Some(0)),
        ("output-1", SectionKind::Output, 1, Some(1)),
        ("logs-65536", SectionKind::Logs, CHUNK, None),
        ("output-65537", SectionKind::Output, CHUNK + 1, None),
    ] {
        good.push(single(folder, name, section, len, length));
    }
    good.push(job(folder, "job", 100, 0, Some(0)));
    good.push(job(folder, "job-to-end", 2 * CHUNK + 1, 10, None));
    write(folder, "good.json", &Value::Array(good));
    write(folder, "bad.json", &Value::Array(bad()));
}

fn job_binding() -> JobBinding {
    JobBinding {
        consumer: ConsumerId::from_bytes([1; 16]),
        offer: Digest::of(b"offer"),
        output_key: KeyId::from_bytes([2; 16]),
        spec: Digest::of(b"spec"),
    }
}

fn result_binding() -> ResultBinding {
    ResultBinding {
        attempt: Attempt(1),
        consumer: ConsumerId::from_bytes([1; 16]),
        job: JobId::from_bytes([3; 16]),
        spec: Digest::of(b"spec"),
    }
}

fn recipient() -> Recipient {
    XWingKey::from_seed(Secret::from_slice(&SEED).unwrap(), EPOCH).unwrap().recipient().clone()
}

fn seal(key: &SectionKey, len: usize, length: Option<u64>, out: Vec<u8>) -> Vec<u8> {
    let plain: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    let mut sealer = StreamSealer::new(key, length, out).unwrap();
    sealer.write_all(&plain).unwrap();
    sealer.finish().unwrap()
}

fn single(folder: &Path, name: &'static str, section: SectionKind, len: usize, length: Option<u64>) -> Value {
    let binding = result_binding();
    let digest = binding.digest().unwrap();
    let sealed = payload::seal_single(section, &recipient(), length, &digest, &Fixed::new(name)).unwrap();
    std::fs::write(folder.join(format!("{name}.bin")), seal(&sealed.key, len, length, sealed.head)).unwrap();
    json!({
        "name": name, "seed": hex::encode(SEED), "epoch": EPOCH, "binding": binding,
        "bindingDigest": digest, "sections": [{"type": section.number(), "bytes": len, "announced": length.is_some()}],
    })
}

fn job(folder: &Path, name: &'static str, program: usize, input: usize, length: Option<u64>) -> Value {
    let binding = job_binding();
    let digest = binding.digest().unwrap();
    let commitment = CommitmentKey::from_bytes(COMMITMENT);
    let random = Fixed::new(name);
    let sealed = payload::seal_job(&recipient(), &digest, program as u64, length, &commitment, &random).unwrap();
    let out = seal(&sealed.program, program, Some(program as u64), sealed.head);
    std::fs::write(folder.join(format!("{name}.bin")), seal(&sealed.input, input, length, out)).unwrap();
    json!({
        "name": name, "seed": hex::encode(SEED), "epoch": EPOCH, "binding": binding, "bindingDigest": digest,
        "commitmentKey": hex::encode(COMMITMENT),
        "sections": [{"type": 1, "bytes": program, "announced": true}, {"type": 2, "bytes": input, "announced": length.is_some()}],
    })
}

fn bad() -> Vec<Value> {
    let case = |name: &str, base: &str, change: Value, refused: &str| json!({"name": name, "base": base, "change": change, "refused": refused});
    let set = |at: usize, hex: &str| json!({"op": "set", "at": at, "hex": hex});
    let flip = |at: usize| json!({"op": "flip", "at": at});
    // Heads: 47 + 1120 + 112 bytes for a job, 38 + 1120 + 48 for a result.
    let (job_head, head, sealed) = (1279, 1206, CHUNK + 16);
    let mut cases = vec![
        case("another format", "job", set(0, "44435349"), "Magic"),
        case("unknown version", "job", set(4, "02"), "Version"),
        case("kind 0", "job", set(5, "00"), "Kind"),
        case("unknown kind", "job", set(5, "04"), "Kind"),
        case("a job said to be an output", "job", set(5, "02"), "SectionCount"),
        case("an output said to be logs", "output-1", set(5, "03"), "SectionType"),
        case("unknown suite", "job", set(6, "0002"), "Suite"),
        case("another recipient", "job", flip(8), "Recipient"),
        case("another epoch", "job", flip(27), "Recipient"),
        case("one section in a job", "job", set(28, "01"), "SectionCount"),
        case("sections in the wrong order", "job", set(29, "02"), "SectionType"),
        case("the same section twice", "job", set(38, "01"), "SectionType"),
        case("unknown section", "job", set(38, "05"), "SectionType"),
        case("a first section to the end", "job", set(30, "ffffffffffffffff"), "SectionLength"),
        case("an altered length of the program", "job", flip(37), "Refused"),
        case("an announced length made open", "output-1", set(30, "ffffffffffffffff"), "Refused"),
        case("an altered encapsulated key, ML-KEM", "job", flip(47), "Refused"),
        case("an altered encapsulated key, X25519", "job", flip(47 + 1119), "Refused"),
        case("an altered sealed key", "job", flip(47 + 1120), "Refused"),
        case("an altered commitment key", "job", flip(47 + 1120 + 64), "Refused"),
        case("an altered tag of the keys", "job", flip(job_head - 1), "Refused"),
        case("an altered chunk", "job", flip(job_head), "Chunk"),
        case("an altered tag", "job", flip(job_head + 115), "Chunk"),
        case("an altered last chunk", "output-65537", flip(head + sealed), "Chunk"),
        case("no magic", "job", json!({"op": "truncate", "to": 3}), "Read"),
        case("cut in the header", "job", json!({"op": "truncate", "to": 40}), "Read"),
        case("cut in the encapsulated key", "job", json!({"op": "truncate", "to": 600}), "Read"),
        case("cut before the first section", "job", json!({"op": "truncate", "to": job_head}), "Truncated"),
        case("cut in the first section", "job", json!({"op": "truncate", "to": job_head + 50}), "Truncated"),
        case("cut before the second section", "job", json!({"op": "truncate", "to": job_head + 116}), "Truncated"),
        case("cut by one byte", "job", json!({"op": "truncate", "to": job_head + 131}), "Truncated"),
        case(
            "cut at a chunk's end, to the end",
            "output-65537",
            json!({"op": "truncate", "to": head + sealed}),
            "Chunk",
        ),
        case(
            "cut in the last tag, to the end",
            "output-65537",
            json!({"op": "truncate", "to": head + sealed + 9}),
            "Truncated",
        ),
        case("bytes after the last section", "job", json!({"op": "append", "hex": "00"}), "Trailing"),
        case("bytes after the last chunk, to the end", "logs-65536", json!({"op": "append", "hex": "00"}), "Chunk"),
        case(
            "an empty chunk added, to the end",
            "logs-65536",
            json!({"op": "append", "hex": "00".repeat(16)}),
            "Chunk",
        ),
    ];
    cases.extend([
        case(
            "two chunks exchanged",
            "job-to-end",
            json!({"op": "swap", "a": job_head, "b": job_head + sealed, "length": sealed}),
            "Chunk",
        ),
        case("a chunk twice", "job-to-end", json!({"op": "repeat", "at": job_head, "length": sealed}), "Chunk"),
        case("a chunk left out", "job-to-end", json!({"op": "cut", "at": job_head, "length": sealed}), "Chunk"),
    ]);
    let other = job_binding();
    for (name, binding) in [
        ("another consumer", JobBinding { consumer: ConsumerId::from_bytes([9; 16]), ..other }),
        ("another offer", JobBinding { offer: Digest::of(b"another"), ..other }),
        ("another output key", JobBinding { output_key: KeyId::from_bytes([9; 16]), ..other }),
        ("another spec", JobBinding { spec: Digest::of(b"another"), ..other }),
    ] {
        let mut case = case(name, "job", json!({"op": "none"}), "Refused");
        case["binding"] = json!(binding);
        case["bindingDigest"] = json!(binding.digest().unwrap());
        cases.push(case);
    }
    let result = result_binding();
    for (name, binding) in [
        ("another attempt", ResultBinding { attempt: Attempt(2), ..result }),
        ("another job", ResultBinding { job: JobId::from_bytes([9; 16]), ..result }),
    ] {
        let mut case = case(name, "output-1", json!({"op": "none"}), "Refused");
        case["binding"] = json!(binding);
        case["bindingDigest"] = json!(binding.digest().unwrap());
        cases.push(case);
    }
    let mut foreign = case("another key", "job", json!({"op": "none"}), "Recipient");
    foreign["seed"] = json!("33".repeat(32));
    cases.push(foreign);
    cases
}
