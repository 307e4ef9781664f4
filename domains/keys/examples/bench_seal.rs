//! How fast sealing is, from memory to memory: `cargo run -p decores-keys --example bench_seal -- [MIB]`.
//!
//! Prints one JSON object a measurement: AES-256-GCM of AWS-LC alone in chunks of the same size, seal, open.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool that is run by hand")]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use decores_keys::payload::{CHUNK_BYTES, SectionKey, SectionKind, StreamOpener, StreamSealer, sealed_len};
use decores_secrets::Secret;
use std::io::{Read as _, Write as _};
use std::time::Instant;

fn main() {
    let mib = std::env::args().nth(1).map_or(256, |mib| mib.parse().unwrap());
    let key = SectionKey::new(SectionKind::Input, Secret::from_slice(&[1; 32]).unwrap());
    let plain = vec![0x5a; mib << 20];
    // Written before the clock runs, so that no page is touched for the first time while it does.
    let mut sealed = vec![1; sealed_len(plain.len() as u64) as usize];
    let mut opened = vec![1; plain.len()];
    report("aes-256-gcm", plain.len(), || library_alone(&plain, &mut sealed));
    report("seal", plain.len(), || {
        let mut sealer = StreamSealer::new(&key, Some(plain.len() as u64), sealed.as_mut_slice()).unwrap();
        sealer.write_all(&plain).unwrap();
        assert!(sealer.finish().unwrap().is_empty());
    });
    report("open", plain.len(), || {
        let mut opener = StreamOpener::new(&key, Some(plain.len() as u64), sealed.as_slice()).unwrap();
        opener.read_exact(&mut opened).unwrap();
        assert!(opener.is_complete());
    });
    assert!(plain == opened);
}

/// Each chunk copied to where it belongs and sealed there.
fn library_alone(plain: &[u8], sealed: &mut [u8]) {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    for (i, (chunk, out)) in (0_u64..).zip(plain.chunks(CHUNK_BYTES).zip(sealed.chunks_mut(CHUNK_BYTES))) {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&i.to_be_bytes());
        let out = &mut out[..chunk.len()];
        out.copy_from_slice(chunk);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), out).unwrap();
        let _ = std::hint::black_box(tag);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn report(name: &str, bytes: usize, mut run: impl FnMut()) {
    let start = Instant::now();
    run();
    let speed = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!("{{\"bench\":\"{name}\",\"MBps\":{speed:.0}}}");
}
