//! Sealed payloads against conformance/sealed-payload.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_keys::payload::{
    CHUNK_BYTES, Head, JobBinding, PayloadKind, ResultBinding, SectionKey, SectionKind, StreamError, StreamOpener,
    StreamSealer, expect_end, sealed_len,
};
use decores_keys::{XWingKey, payload};
use decores_secrets::Secret;
use decores_types::{CommitmentKey, Digest, Random};
use serde_json::Value;
use std::error::Error;
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/sealed-payload")
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Opens a whole payload; the sections' plaintexts, or the name of the refusal.
fn open(key: &XWingKey, binding: &Digest, payload: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut reader = Cursor::new(payload);
    let head = Head::read(&mut reader).map_err(|e| variant(&e))?;
    let keys = match head.header().kind {
        PayloadKind::Job => {
            let keys = head.open_job(key, binding).map_err(|e| variant(&e))?;
            vec![keys.program, keys.input]
        }
        PayloadKind::Output => vec![head.open_single(SectionKind::Output, key, binding).map_err(|e| variant(&e))?],
        PayloadKind::Logs => vec![head.open_single(SectionKind::Logs, key, binding).map_err(|e| variant(&e))?],
    };
    let mut plain = Vec::new();
    for (key, section) in keys.iter().zip(&head.header().sections) {
        let mut opener = StreamOpener::new(key, section.length, &mut reader).unwrap();
        let mut bytes = Vec::new();
        opener.read_to_end(&mut bytes).map_err(|e| variant(stream_error(&e)))?;
        assert!(opener.is_complete());
        opener.finish().unwrap();
        plain.push(bytes);
    }
    expect_end(&mut reader).map_err(|e| variant(stream_error(&e)))?;
    Ok(plain)
}

fn stream_error(error: &std::io::Error) -> &StreamError {
    error.get_ref().and_then(|e| e.downcast_ref()).unwrap_or_else(|| panic!("no refusal of ours: {error}"))
}

/// `Chunk` of `Chunk(3)`.
fn variant(error: &(impl Error + ?Sized)) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn binding_of(case: &Value) -> Digest {
    let b = &case["binding"];
    let text = |name: &str| b[name].as_str().unwrap();
    let digest = if b.get("offer").is_some() {
        JobBinding {
            consumer: text("consumer").parse().unwrap(),
            offer: text("offer").parse().unwrap(),
            output_key: text("outputKey").parse().unwrap(),
            spec: text("spec").parse().unwrap(),
        }
        .digest()
    } else {
        ResultBinding {
            attempt: decores_types::Attempt(b["attempt"].as_u64().unwrap() as u32),
            consumer: text("consumer").parse().unwrap(),
            job: text("job").parse().unwrap(),
            spec: text("spec").parse().unwrap(),
        }
        .digest()
    };
    assert_eq!(digest.as_ref().unwrap().to_string(), case["bindingDigest"].as_str().unwrap());
    digest.unwrap()
}

fn key_of(case: &Value) -> XWingKey {
    let seed = Secret::from_slice(&hex(&case["seed"])).unwrap();
    XWingKey::from_seed(seed, case["epoch"].as_u64().unwrap() as u32).unwrap()
}

#[test]
fn good_vectors_open() {
    let cases = read("good.json");
    for case in cases.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let payload = std::fs::read(folder().join(format!("{name}.bin"))).unwrap();
        let plain = open(&key_of(case), &binding_of(case), &payload).unwrap_or_else(|e| panic!("{name}: {e}"));
        let wanted: Vec<_> = case["sections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| pattern(s["bytes"].as_u64().unwrap() as usize))
            .collect();
        assert!(plain == wanted, "{name}: another plaintext");
        if let Some(commitment) = case.get("commitmentKey") {
            let head = Head::read(&mut payload.as_slice()).unwrap();
            let keys = head.open_job(&key_of(case), &binding_of(case)).unwrap();
            assert_eq!(keys.commitment.expose(), hex(commitment));
            assert!(keys.destroy());
        }
    }
}

/// Applies a change of a bad vector.
fn change(mut payload: Vec<u8>, change: &Value) -> Vec<u8> {
    let number = |name: &str| change[name].as_u64().unwrap() as usize;
    match change["op"].as_str().unwrap() {
        "none" => {}
        "flip" => payload[number("at")] ^= 1,
        "set" => {
            let bytes = hex(&change["hex"]);
            payload[number("at")..][..bytes.len()].copy_from_slice(&bytes);
        }
        "truncate" => payload.truncate(number("to")),
        "append" => payload.extend(hex(&change["hex"])),
        "swap" => {
            let (a, b, len) = (number("a"), number("b"), number("length"));
            for i in 0..len {
                payload.swap(a + i, b + i);
            }
        }
        "repeat" => {
            let again = payload[number("at")..][..number("length")].to_vec();
            payload.splice(number("at")..number("at"), again);
        }
        "cut" => drop(payload.drain(number("at")..number("at") + number("length"))),
        other => panic!("unknown change {other}"),
    }
    payload
}

#[test]
fn bad_vectors_are_refused_by_name() {
    let (good, bad) = (read("good.json"), read("bad.json"));
    for case in bad.as_array().unwrap() {
        let base = good.as_array().unwrap().iter().find(|g| g["name"] == case["base"]).unwrap();
        let payload = std::fs::read(folder().join(format!("{}.bin", case["base"].as_str().unwrap()))).unwrap();
        let mut with = base.clone();
        for member in ["binding", "bindingDigest", "seed", "epoch"] {
            if let Some(value) = case.get(member) {
                with[member] = value.clone();
            }
        }
        let refused = open(&key_of(&with), &binding_of(&with), &change(payload, &case["change"]));
        assert_eq!(refused.unwrap_err(), case["refused"].as_str().unwrap(), "{}", case["name"]);
    }
}

#[test]
fn any_flipped_bit_of_a_small_payload_is_refused() {
    let good = read("good.json");
    let case = good.as_array().unwrap().iter().find(|g| g["name"] == "output-1").unwrap();
    let payload = std::fs::read(folder().join("output-1.bin")).unwrap();
    let (key, binding) = (key_of(case), binding_of(case));
    for at in 0..payload.len() {
        let mut bad = payload.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(open(&key, &binding, &bad).is_err(), "byte {at}");
        assert!(open(&key, &binding, &payload[..at]).is_err(), "cut at {at}");
    }
}

/// Feeds fixed bytes to a library that draws its own.
struct Fixed(std::sync::Mutex<Vec<u8>>);

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) {
        let mut left = self.0.lock().unwrap();
        out.copy_from_slice(&left.drain(..out.len()).collect::<Vec<_>>());
    }
}

/// draft-connolly-cfrg-xwing-kem: our public key and our encapsulated key are the draft's.
#[test]
fn x_wing_is_the_drafts() {
    let cases = read("x-wing.json");
    for case in cases.as_array().unwrap() {
        let key = XWingKey::from_seed(Secret::from_slice(&hex(&case["sk"])).unwrap(), 1).unwrap();
        assert_eq!(key.recipient().public(), hex(&case["pk"]));
        // Sealing draws the data key first, then what the library encapsulates with.
        let random = Fixed(std::sync::Mutex::new([vec![0; 32], hex(&case["eseed"])].concat()));
        let binding = Digest::of(b"");
        let sealed = payload::seal_single(SectionKind::Output, key.recipient(), None, &binding, &random).unwrap();
        assert_eq!(sealed.head[38..38 + 1120], hex(&case["ct"]));
        let head = Head::read(&mut sealed.head.as_slice()).unwrap();
        head.open_single(SectionKind::Output, &key, &binding).expect("and it opens");
    }
}

fn section_key() -> SectionKey {
    SectionKey::new(SectionKind::Input, Secret::from_slice(&[7; 32]).unwrap())
}

/// The independent implementation of STREAM gives the same bytes and opens ours.
#[test]
fn stream_is_what_another_implementation_makes() {
    use aead_stream::{DecryptorBE32, EncryptorBE32};
    use aes_gcm::{Aes256Gcm, KeyInit};
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5] {
        let plain = pattern(len);
        let mut sealer = StreamSealer::new(&section_key(), None, Vec::new()).unwrap();
        sealer.write_all(&plain).unwrap();
        let ours = sealer.finish().unwrap();
        assert_eq!(ours.len() as u64, sealed_len(len as u64));

        let prefix = [SectionKind::Input.number(), 0, 0, 0, 0, 0, 0].into();
        let cipher = || Aes256Gcm::new(&[7; 32].into());
        let mut encryptor = EncryptorBE32::from_aead(cipher(), &prefix);
        let mut decryptor = DecryptorBE32::from_aead(cipher(), &prefix);
        let at = plain.len().div_ceil(CHUNK_BYTES).saturating_sub(1) * CHUNK_BYTES;
        let (body, last) = plain.split_at(at);
        let mut theirs = Vec::new();
        for chunk in body.chunks(CHUNK_BYTES) {
            theirs.extend(encryptor.encrypt_next(chunk).unwrap());
        }
        theirs.extend(encryptor.encrypt_last(last).unwrap());
        assert!(ours == theirs, "{len} bytes differ");

        let (body, last) = ours.split_at(body.len() / CHUNK_BYTES * (CHUNK_BYTES + 16));
        let mut opened = Vec::new();
        for chunk in body.chunks(CHUNK_BYTES + 16) {
            opened.extend(decryptor.decrypt_next(chunk).unwrap());
        }
        opened.extend(decryptor.decrypt_last(last).unwrap());
        assert!(opened == plain, "{len} bytes open differently");
    }
}

/// Gives and takes a few bytes at a time.
struct Slow<T>(T);

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = out.len().min(997);
        self.0.read(&mut out[..len])
    }
}

#[test]
fn sections_open_however_they_are_cut_on_the_way() {
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES] {
        for length in [None, Some(len as u64)] {
            let plain = pattern(len);
            let mut sealer = StreamSealer::new(&section_key(), length, Vec::new()).unwrap();
            for part in plain.chunks(1009) {
                sealer.write_all(part).unwrap();
            }
            let sealed = sealer.finish().unwrap();
            let mut opener = StreamOpener::new(&section_key(), length, Slow(sealed.as_slice())).unwrap();
            let mut opened = Vec::new();
            opener.read_to_end(&mut opened).unwrap();
            assert!(opened == plain && opener.is_complete(), "{len} bytes, announced {length:?}");
        }
    }
}

#[test]
fn nothing_of_a_chunk_is_released_before_it_authenticates() {
    let mut sealer = StreamSealer::new(&section_key(), None, Vec::new()).unwrap();
    sealer.write_all(&pattern(CHUNK_BYTES + 9)).unwrap();
    let mut sealed = sealer.finish().unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    let mut opener = StreamOpener::new(&section_key(), None, sealed.as_slice()).unwrap();
    let mut opened = Vec::new();
    let error = opener.read_to_end(&mut opened).unwrap_err();
    assert_eq!(stream_error(&error), &StreamError::Chunk(1));
    assert!(opened == pattern(CHUNK_BYTES), "the first chunk, and no byte of the second");
    assert_eq!(stream_error(&opener.read(&mut [0]).unwrap_err()), &StreamError::Ended, "and it stays refused");
    assert!(opener.finish().is_err());
}

#[test]
fn refuses_to_seal_another_length_than_announced() {
    let mut sealer = StreamSealer::new(&section_key(), Some(3), Vec::new()).unwrap();
    sealer.write_all(b"ab").unwrap();
    assert_eq!(stream_error(&sealer.write_all(b"cd").unwrap_err()), &StreamError::Length);
    assert_eq!(stream_error(&sealer.finish().unwrap_err()), &StreamError::Length);
}

#[test]
fn the_announced_length_is_held() {
    let seal = |len: usize| {
        let mut sealer = StreamSealer::new(&section_key(), None, Vec::new()).unwrap();
        sealer.write_all(&pattern(len)).unwrap();
        sealer.finish().unwrap()
    };
    let open = |sealed: &[u8], length| {
        let mut opener = StreamOpener::new(&section_key(), Some(length), sealed).unwrap();
        opener.read_to_end(&mut Vec::new()).map_err(|e| *stream_error(&e))
    };
    assert_eq!(open(&seal(10), 11), Err(StreamError::Truncated));
    assert_eq!(open(&seal(10), 9), Err(StreamError::Chunk(0)));
    assert_eq!(open(&seal(CHUNK_BYTES), CHUNK_BYTES as u64 + 1), Err(StreamError::Chunk(0)));
    assert_eq!(open(&seal(10), 10), Ok(10));
}

#[test]
fn programs_are_not_sealed_alone_and_results_not_opened_as_jobs() {
    let random = Fixed(std::sync::Mutex::new(pattern(1000)));
    let key = XWingKey::generate(1, &random).unwrap();
    let binding = Digest::of(b"x");
    let alone = payload::seal_single(SectionKind::Program, key.recipient(), None, &binding, &random);
    assert!(matches!(alone, Err(payload::SealError::Section)));
    let job =
        payload::seal_job(key.recipient(), &binding, 1, None, &CommitmentKey::from_bytes([1; 32]), &random).unwrap();
    let head = Head::read(&mut job.head.as_slice()).unwrap();
    assert_eq!(head.as_bytes().len(), Head::MAX_BYTES);
    let commitment = head.open_job(&key, &binding).unwrap().commitment_key().unwrap();
    assert_eq!(commitment.check(), CommitmentKey::from_bytes([1; 32]).check());
    assert!(matches!(head.open_single(SectionKind::Program, &key, &binding), Err(payload::OpenError::Kind)));
    let logs = payload::seal_single(SectionKind::Logs, key.recipient(), None, &binding, &random).unwrap();
    let head = Head::read(&mut logs.head.as_slice()).unwrap();
    assert!(matches!(head.open_job(&key, &binding), Err(payload::OpenError::Kind)));
    assert!(matches!(head.open_single(SectionKind::Output, &key, &binding), Err(payload::OpenError::Kind)));
    assert_eq!(head.open_single(SectionKind::Logs, &key, &binding).unwrap().expose(), logs.key.expose());
}
