//! How fast the client seals and opens files, and in how much memory: `cargo run -p decores-client --example
//! bench_files -- [MIB]`. Each measurement is a process of its own, so that its peak of memory is its own.
//!
//! Prints one JSON object a measurement.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a tool that is run by hand")]

use decores_client::{JobInput, Source, fuzzing};
use decores_keys::XWingKey;
use decores_keys::payload::{SectionKind, StreamSealer, seal_job, seal_single};
use decores_secrets::Secret;
use decores_system::SystemRandom;
use decores_types::bundle::{Manifest as _, OutputManifest};
use decores_types::{CommitmentKey, Digest};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [what, folder] => measure(what, Path::new(folder)),
        _ => all(words.first().map_or(1024, |mib| mib.parse().unwrap())),
    }
}

fn all(mib: usize) {
    let folder = tempfile::Builder::new().prefix("decores-bench-files-").tempdir().unwrap();
    let mut plain = File::create(folder.path().join("plain")).unwrap();
    (0..mib).for_each(|number| plain.write_all(&vec![number as u8; 1 << 20]).unwrap());
    plain.sync_all().unwrap();
    seal_as_engine(folder.path());
    for what in ["copy", "sha256", "seal", "open"] {
        let status = Command::new(std::env::current_exe().unwrap()).arg(what).arg(folder.path()).status().unwrap();
        assert!(status.success());
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(what: &str, folder: &Path) {
    let bytes = std::fs::metadata(folder.join("plain")).unwrap().len();
    let start = Instant::now();
    match what {
        "copy" => {
            let mut from = File::open(folder.join("plain")).unwrap();
            // By hand, since the kernel would share the blocks of a whole copy.
            let (mut to, mut buffer) = (File::create(folder.join("copy")).unwrap(), vec![0; 1 << 16]);
            while let Some(read) = Some(io::Read::read(&mut from, &mut buffer).unwrap()).filter(|read| *read > 0) {
                to.write_all(&buffer[..read]).unwrap();
            }
        }
        "sha256" => {
            Source::File(folder.join("plain")).measure(&mut |_| {}).unwrap();
        }
        "seal" => seal(folder),
        _ => open(folder),
    }
    let speed = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!("{{\"bench\":\"{what}\",\"MBps\":{speed:.0},\"peakMiB\":{:.1}}}", peak_mib());
}

/// What `decores job run` does with an input, into a file in place of the network.
fn seal(folder: &Path) {
    let input = JobInput {
        program: Source::Bytes(Arc::from(*b"program")),
        args: Vec::new(),
        env: BTreeMap::new(),
        stdin: Source::File(folder.join("plain")),
        files: BTreeMap::new(),
    };
    let prepared = input.prepare(&mut |_| {}).unwrap();
    let (key, random) = (output_key(), SystemRandom);
    let recipient = key.recipient();
    let (program_len, input_len) = (prepared.program_size(), Some(prepared.input_size()));
    let sealed = seal_job(recipient, &BINDING, program_len, input_len, &commitment(), &random).unwrap();
    let mut out = File::create(folder.join("sealed")).unwrap();
    out.write_all(&sealed.head).unwrap();
    let mut sealer = StreamSealer::new(&sealed.program, Some(program_len), &mut out).unwrap();
    sealer.write_all(b"program").unwrap();
    sealer.finish().unwrap();
    let mut sealer = StreamSealer::new(&sealed.input, input_len, &mut out).unwrap();
    prepared.read_input(|bytes| sealer.write_all(bytes).map_err(|error| panic!("{error}"))).unwrap();
    sealer.finish().unwrap();
}

/// What `decores job run` does with an output that it has fetched.
fn open(folder: &Path) {
    let sealed = File::open(folder.join("output")).unwrap();
    let mut output = fuzzing::output(sealed, &output_key(), &BINDING, &commitment()).unwrap();
    output.save_stdout(&folder.join("opened")).unwrap();
}

/// The output of a job that copies its input.
fn seal_as_engine(folder: &Path) {
    let stdout = Source::File(folder.join("plain")).measure(&mut |_| {}).unwrap();
    let manifest = OutputManifest { exit: 0, files: Vec::new(), stdout };
    let prelude = manifest.prelude().unwrap();
    let length = Some(prelude.len() as u64 + manifest.stdout.size);
    let recipient = output_key();
    let sealed = seal_single(SectionKind::Output, recipient.recipient(), length, &BINDING, &SystemRandom).unwrap();
    let mut out = File::create(folder.join("output")).unwrap();
    out.write_all(&sealed.head).unwrap();
    let mut sealer = StreamSealer::new(&sealed.key, length, &mut out).unwrap();
    sealer.write_all(&prelude).unwrap();
    io::copy(&mut File::open(folder.join("plain")).unwrap(), &mut sealer).unwrap();
    sealer.finish().unwrap();
}

const BINDING: Digest = Digest::from_bytes([3; 32]);

fn output_key() -> XWingKey {
    XWingKey::from_seed(Secret::from_slice(&[1; 32]).unwrap(), 0).unwrap()
}

fn commitment() -> CommitmentKey {
    CommitmentKey::from_bytes([2; 32])
}

/// The most memory this process ever had, by the kernel's account.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024.0
}
