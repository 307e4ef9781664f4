//! Digests and commitments.

use crate::ambient::{Random, random_bytes};
use crate::encoding::{ParseError, parse_hex, serde_as_text};
use aws_lc_rs::{digest, hmac};
use std::fmt;

/// A SHA-256 digest; text form `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let hex = text.strip_prefix("sha256:").ok_or(ParseError("digest"))?;
        parse_hex(hex, "digest").map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(Digest);

/// SHA-256 over a stream.
#[derive(Clone)]
pub struct Hasher(digest::Context);

impl Hasher {
    /// An empty digest.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        Digest(out)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// An HMAC-SHA256 under a key that only the right people hold; 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commitment([u8; 32]);

impl Commitment {
    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse_hex(text, "commitment").map(Self)
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(Commitment);

/// The consumer's per-job commitment key (docs/formats/sealed-payload.md). Prints as stars.
#[derive(Clone, PartialEq, Eq)]
pub struct CommitmentKey([u8; 32]);

impl CommitmentKey {
    /// Draws a new key.
    pub fn random(random: &dyn Random) -> Self {
        Self(random_bytes(random))
    }

    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes: they open every commitment of the job.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Commits to a digest under a label (`program`, `input`, `output`, `logs`).
    pub fn commit(&self, label: &str, digest: &Digest) -> Commitment {
        labelled_hmac(&self.0, "decores commitment v1", label, digest.as_bytes())
    }

    /// The digest that ties a spec to this key.
    pub fn check(&self) -> Digest {
        let mut input = b"decores commitment key v1\0".to_vec();
        input.extend_from_slice(&self.0);
        Digest::of(&input)
    }
}

impl fmt::Debug for CommitmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitmentKey(***)")
    }
}

impl Drop for CommitmentKey {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// Hides a value of a log entry under its log key (docs/formats/events.md).
pub fn log_commitment(log_key: &[u8; 32], label: &str, value: &[u8]) -> Commitment {
    labelled_hmac(log_key, "decores log v1", label, value)
}

fn labelled_hmac(key: &[u8], domain: &str, label: &str, value: &[u8]) -> Commitment {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in [domain.as_bytes(), b"\0", label.as_bytes(), b"\0", value] {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    Commitment(out)
}
