//! Keys, vectors and randomness that are the same at every run.

use decores_audit::checkpoint::{LogSigner, SignerError};
use decores_audit::{LogKey, Trust};
use decores_keys::{Ed25519Key, Envelope};
use decores_secrets::Secret;
use decores_types::{Digest, Random};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seed of the node's identity, as in `conformance/receipt`.
pub(crate) const IDENTITY: u8 = 1;
/// Seed of its log key, as there.
pub(crate) const LOG: u8 = 2;

/// SHA-256 of a counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Random for Counter {
    fn fill(&self, out: &mut [u8]) {
        for part in out.chunks_mut(32) {
            let digest = Digest::of(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            part.copy_from_slice(&digest.as_bytes()[..part.len()]);
        }
    }
}

/// The key whose seed is one repeated byte.
pub(crate) fn ed25519(seed: u8) -> Ed25519Key {
    Ed25519Key::from_seed(Secret::from_slice(&[seed; 32]).unwrap()).unwrap()
}

/// An envelope by a key.
pub(crate) fn envelope(kind: &str, payload: Vec<u8>, key: &Ed25519Key) -> Envelope {
    Envelope::sign(kind, payload, key.public().id(), |message| key.sign(message)).unwrap()
}

/// A file below `conformance/`.
pub(crate) fn conformance(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The trust file of the vectors: it pins [`IDENTITY`] and [`LOG`].
pub(crate) fn trust() -> Trust {
    Trust::parse(&conformance("receipt/trust.json")).unwrap()
}

/// The log key of the vectors, with its private half.
pub(crate) struct LogPair {
    pub(crate) key: LogKey,
    pub(crate) pair: Ed25519Key,
}

impl LogPair {
    pub(crate) fn new() -> Self {
        let key = trust().node(&ed25519(IDENTITY).public().id()).unwrap().log_key().unwrap();
        let pair = ed25519(LOG);
        assert_eq!(pair.public().as_bytes(), key.public());
        Self { key, pair }
    }
}

impl LogSigner for LogPair {
    fn key(&self) -> &LogKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        let signature = self.pair.sign(message).map_err(|e| SignerError(Box::new(e)))?;
        signature.try_into().map_err(|_| SignerError("a signature has 64 bytes".into()))
    }
}

/// Takes numbers from the front of an input; zeros where it ends.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl Numbers<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn short(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Changes a copy of `good` as the input says: turn bits, cut, leave out, repeat, insert. No input, no change.
pub(crate) fn altered(good: &[u8], how: &mut Numbers<'_>) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..16 {
        if how.is_empty() || bytes.is_empty() {
            break;
        }
        let (what, at) = (how.byte(), how.short() % bytes.len());
        let length = how.short() % 64;
        let end = (at + length).min(bytes.len());
        match what % 5 {
            0 => bytes[at] ^= how.byte(),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..end)),
            3 => bytes = [&bytes[..end], &bytes[at..]].concat(),
            _ => {
                let new = [how.byte()];
                bytes.splice(at..at, new);
            }
        }
    }
    bytes
}
