//! How fast sealing is: `cargo run -p decores-keys --example bench_seal -- [--json] [MIB]`.
//!
//! Seals and opens from memory to nowhere, five times each; median and worst, beside AES-256-GCM of
//! AWS-LC alone in chunks of the same size.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool that is run by hand")]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use decores_keys::payload::{CHUNK_BYTES, SectionKey, SectionKind, StreamOpener, StreamSealer};
use decores_secrets::Secret;
use std::io::{self, Read, Write};
use std::time::Instant;

const RUNS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.iter().any(|a| a == "--json");
    let mib = args.iter().find_map(|a| a.parse().ok()).unwrap_or(256_usize);
    let plain = vec![0x5a; mib << 20];
    let key = SectionKey::new(SectionKind::Input, Secret::from_slice(&[1; 32]).unwrap());
    let sealed = seal(&key, &plain, Vec::with_capacity(plain.len() + plain.len() / 4096 + 16));
    report(json, "aes-256-gcm", mib, || raw(&plain));
    report(json, "seal", mib, || {
        seal(&key, &plain, io::sink());
    });
    report(json, "open", mib, || {
        let mut opener = StreamOpener::new(&key, Some(plain.len() as u64), sealed.as_slice()).unwrap();
        let mut buffer = vec![0; CHUNK_BYTES];
        while opener.read(&mut buffer).unwrap() > 0 {}
        assert!(opener.is_complete());
    });
}

/// The library alone: each chunk copied into one buffer and sealed there.
fn raw(plain: &[u8]) {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    let mut buffer = vec![0; CHUNK_BYTES];
    for (i, chunk) in plain.chunks(CHUNK_BYTES).enumerate() {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&(i as u64).to_be_bytes());
        buffer[..chunk.len()].copy_from_slice(chunk);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut buffer[..chunk.len()]).unwrap();
        let _ = std::hint::black_box(tag);
    }
}

fn seal<W: Write>(key: &SectionKey, plain: &[u8], out: W) -> W {
    let mut sealer = StreamSealer::new(key, Some(plain.len() as u64), out).unwrap();
    sealer.write_all(plain).unwrap();
    sealer.finish().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn report(json: bool, name: &str, mib: usize, run: impl Fn()) {
    let mut speeds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            (mib << 20) as f64 / 1e6 / start.elapsed().as_secs_f64()
        })
        .collect();
    speeds.sort_by(f64::total_cmp);
    let (worst, median) = (speeds[0], speeds[RUNS / 2]);
    if json {
        println!("{{\"bench\":\"{name}\",\"mib\":{mib},\"medianMBps\":{median:.0},\"worstMBps\":{worst:.0}}}");
    } else {
        println!("{name:<12} {median:>8.0} MB/s median, {worst:>8.0} worst ({mib} MiB, {RUNS} runs)");
    }
}
