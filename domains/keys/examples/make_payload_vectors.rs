//! Writes conformance/sealed-payload and conformance/keys anew. The same bytes at every run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool that is run by hand")]

#[path = "make_vectors/keys.rs"]
mod keys;
#[path = "make_vectors/sealed.rs"]
mod sealed;

use decores_types::{Digest, Random};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// No randomness at all: SHA-256 of a name and a counter.
struct Fixed {
    name: &'static str,
    counter: AtomicU64,
}

impl Fixed {
    fn new(name: &'static str) -> Self {
        Self { name, counter: AtomicU64::new(0) }
    }
}

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) {
        for part in out.chunks_mut(32) {
            let n = self.counter.fetch_add(1, Ordering::Relaxed);
            let digest = Digest::of(format!("{} {n}", self.name).as_bytes());
            part.copy_from_slice(&digest.as_bytes()[..part.len()]);
        }
    }
}

fn write(folder: &Path, name: &str, value: &Value) {
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    std::fs::write(folder.join(name), text).unwrap();
}

fn main() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    sealed::make(&root.join("sealed-payload"));
    keys::make(&root.join("keys"));
}
