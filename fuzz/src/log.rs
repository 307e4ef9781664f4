//! The log as others serve it: checkpoints, proofs, entries, tiles.

use crate::fixtures::{LogPair, Numbers, altered, conformance};
use decores_audit::check::check_log;
use decores_audit::checkpoint::{Checkpoint, LogKey, LogSigner as _, MAX_CHECKPOINT, MAX_SIZE};
use decores_audit::event::{Entry, Event, MAX_ENTRY};
use decores_audit::proof::{InclusionProof, MAX_PROOF, check_consistency, prove_consistency};
use decores_audit::tree::{Head, grow, split_bundle};
use decores_types::{Base64, Timestamp};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Entries of the log: more than one tile.
const SIZE: u64 = 270;

/// A log of [`SIZE`] entries, with every head it ever had.
struct Log {
    signer: LogPair,
    entries: Vec<Vec<u8>>,
    heads: Vec<Head>,
    tiles: BTreeMap<String, Vec<u8>>,
    checkpoint: Checkpoint,
    note: Vec<u8>,
    /// Every text that the key has signed as a checkpoint.
    signed: Vec<Vec<u8>>,
}

/// The path of a tile, however much of it there is.
fn place(path: &str) -> &str {
    path.split_once(".p/").map_or(path, |(place, _)| place)
}

/// A tile of any width: whoever asks for less cuts it.
fn found(tiles: &BTreeMap<String, Vec<u8>>, path: &str) -> Option<Vec<u8>> {
    tiles.iter().find(|(known, _)| place(known) == place(path)).map(|(_, bytes)| bytes.clone())
}

impl Log {
    fn get() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(Self::make)
    }

    fn make() -> Self {
        let (mut entries, mut heads, mut tiles) = (Vec::new(), vec![Head::EMPTY], BTreeMap::new());
        for count in 1..=SIZE {
            let cause = "no-key".parse().unwrap();
            let (from, until) = (Timestamp::from_ms(0), Timestamp::from_ms(count as i64));
            let event = Event::AccessSummary { cause, count, from, until };
            entries.push(Entry::new(event, until).to_bytes().unwrap());
            let first = ((count - 1) / 256 * 256) as usize;
            let fetch = |path: &str| Ok(found(&tiles, path));
            let grown = grow(&fetch, heads[heads.len() - 1], &entries[first..]).unwrap();
            heads.push(grown.head);
            for tile in grown.tiles {
                tiles.retain(|path: &String, _| place(path) != place(&tile.path));
                tiles.insert(tile.path, tile.bytes);
            }
        }
        let signer = LogPair::new();
        let head = heads[heads.len() - 1];
        let checkpoint = Checkpoint { origin: signer.key.name().to_owned(), size: head.size, root: head.root };
        let note = checkpoint.sign(&signer).unwrap();
        let signed = vectors().into_iter().chain([text(&note)]).collect();
        Self { signer, entries, heads, tiles, checkpoint, note, signed }
    }

    fn fetch(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(found(&self.tiles, path))
    }

    /// The proof of one entry.
    fn proof(&self, index: u64) -> InclusionProof {
        InclusionProof::make(&|path| self.fetch(path), self.checkpoint.head(), self.note.clone(), index).unwrap()
    }
}

/// A checkpoint and a proof that are good; inputs start from them.
pub(crate) fn good() -> (Vec<u8>, Vec<u8>) {
    (Log::get().note.clone(), Log::get().proof(3).to_bytes())
}

/// First byte `0`: a text that the log's key signs. Else a note, or a log key, as it came.
pub(crate) fn checkpoint(data: &[u8]) {
    let log = Log::get();
    if let Some((0, text)) = data.split_first() {
        let signature = log.signer.sign(text).unwrap();
        let line = Base64([log.signer.key.id().to_be_bytes().as_slice(), &signature].concat());
        let note = [text, format!("\n\u{2014} {} {line}\n", log.signer.key.name()).as_bytes()].concat();
        read_checkpoint(&note, log);
        return;
    }
    if let Some(text) = read_checkpoint(data, log) {
        assert!(log.signed.contains(&text), "nobody signed this");
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = LogKey::parse(text)
    {
        assert_eq!(key.to_string(), text, "one form");
        assert_eq!(LogKey::new(key.name(), *key.public()).unwrap(), key);
    }
}

/// The text that the log's key signed, if it is a checkpoint of the log.
fn read_checkpoint(note: &[u8], log: &Log) -> Option<Vec<u8>> {
    let key = &log.signer.key;
    let (open, strict) = (Checkpoint::open(note, key), Checkpoint::open_strict(note, key));
    let Ok(open) = open else {
        assert!(strict.is_err(), "what is strict is open");
        return None;
    };
    assert!(note.len() <= MAX_CHECKPOINT && open.size <= MAX_SIZE && open.origin == key.name());
    let signed = open.sign(&log.signer).unwrap();
    if let Ok(strict) = strict {
        assert_eq!(strict, open);
        assert_eq!(signed, note, "one form");
    }
    let text = text(&signed);
    assert!(note.starts_with(&text), "the text that is signed has one form");
    Some(text)
}

/// What stands before the signatures.
fn text(note: &[u8]) -> Vec<u8> {
    let end = note.windows(2).position(|pair| pair == b"\n\n").unwrap();
    note[..end + 2].to_vec()
}

/// The texts of the vectors' notes that are the log key's.
fn vectors() -> Vec<Vec<u8>> {
    let vectors: serde_json::Value = serde_json::from_slice(&conformance("tlog/vectors.json")).unwrap();
    let good = vectors["checkpoints"].as_array().unwrap().iter().filter(|case| case["open"] == true);
    good.map(|case| text(case["note"].as_str().unwrap().as_bytes())).collect()
}

/// First byte `0`: a good inclusion proof, altered; `1`: a good consistency proof, altered. Else a proof as it came.
pub(crate) fn proof(data: &[u8]) {
    let log = Log::get();
    match data.split_first() {
        Some((0, how)) => inclusion(log, Numbers(how)),
        Some((1, how)) => consistency(log, Numbers(how)),
        _ => {
            let Ok(proof) = InclusionProof::parse(data) else { return };
            assert!(data.len() <= MAX_PROOF && proof.path.len() <= 64);
            assert_eq!(proof.to_bytes(), data, "one form");
            for index in [proof.index % SIZE, 0] {
                if proof.verify(&log.entries[index as usize], &log.signer.key).is_ok() {
                    assert_eq!(proof, log.proof(index), "one proof of each entry");
                }
            }
        }
    }
}

fn inclusion(log: &Log, mut how: Numbers<'_>) {
    let (index, claimed) = (how.short() as u64 % SIZE, how.short() as u64 % SIZE);
    let mut proof = log.proof(index);
    let good = proof.to_bytes();
    let bytes = altered(&good, &mut how);
    if bytes != good {
        let Ok(parsed) = InclusionProof::parse(&bytes) else { return };
        assert_eq!(parsed.to_bytes(), bytes);
        proof = parsed;
    }
    let entry = &log.entries[claimed as usize];
    let holds = proof.verify(entry, &log.signer.key).is_ok();
    assert_eq!(holds, bytes == good && index == claimed);
}

fn consistency(log: &Log, mut how: Numbers<'_>) {
    let new = how.short() % (log.heads.len());
    let old = how.short() % (new + 1);
    let other = how.short() % log.heads.len();
    let (old, new, other) = (log.heads[old], log.heads[new], log.heads[other]);
    let good = prove_consistency(&|path| log.fetch(path), new, old.size).unwrap();
    check_consistency(&good, old, new).unwrap();
    let bytes: Vec<u8> = good.iter().flat_map(|hash| *hash.as_bytes()).collect();
    let changed = altered(&bytes, &mut how);
    let hashes: Vec<_> =
        changed.chunks_exact(32).map(|hash| decores_types::Digest::from_bytes(hash.try_into().unwrap())).collect();
    let same = hashes == good;
    assert_eq!(check_consistency(&hashes, old, new).is_ok(), same, "one proof of each pair");
    if other.size != old.size {
        let claimed = Head { size: old.size, root: other.root };
        assert!(check_consistency(&hashes, claimed, new).is_err(), "another root of the same size");
    }
}

/// One entry, and the bundle that starts with it.
pub(crate) fn log_entries(data: &[u8]) {
    if let Ok(entry) = Entry::parse(data) {
        assert!(data.len() <= MAX_ENTRY);
        assert_eq!(entry.to_bytes().unwrap(), data, "one form");
    }
    let Some((width, bytes)) = data.split_first() else { return };
    let Some(entries) = split_bundle(bytes, u64::from(*width)) else { return };
    assert_eq!(entries.len(), usize::from(*width));
    let mut again = Vec::new();
    for entry in entries {
        again.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        again.extend_from_slice(entry);
        if let Ok(read) = Entry::parse(entry) {
            assert_eq!(read.to_bytes().unwrap(), entry, "one form");
        }
    }
    assert!(bytes.starts_with(&again));
}

/// A log where one tile or bundle is altered: the check finds it, and nothing grows on top of it.
pub(crate) fn log_tiles(data: &[u8]) {
    let log = Log::get();
    let mut how = Numbers(data);
    let at = usize::from(how.byte()) % log.tiles.len();
    let Some((path, good)) = log.tiles.iter().nth(at) else { return };
    // An input that does not say how is the tile itself.
    let served = match how.byte() {
        0 => None,
        1 => Some(how.0.to_vec()),
        _ => Some(altered(good, &mut how)),
    };
    let fetch = |asked: &str| if place(asked) == place(path) { Ok(served.clone()) } else { log.fetch(asked) };
    let checked = check_log(&fetch, &log.checkpoint, None, &mut |_, _| {});
    // Bytes after a tile's end belong to entries that the tree does not have yet: they may be there, and need not be taken.
    let holds_it = served.as_ref().is_some_and(|bytes| bytes.starts_with(good));
    assert!(checked.is_err() || holds_it, "`{path}` was altered, and nobody noticed");
    assert!(checked.is_ok() || served.as_ref() != Some(good), "`{path}`: {checked:?}");
    let first = (SIZE / 256 * 256) as usize;
    if let Ok(grown) = grow(&fetch, log.checkpoint.head(), &log.entries[first..]) {
        assert_eq!(grown.head, log.checkpoint.head());
    }
    let proof = InclusionProof::make(&fetch, log.checkpoint.head(), log.note.clone(), 3);
    assert!(proof.is_err() || proof.is_ok_and(|proof| proof == log.proof(3)));
}
