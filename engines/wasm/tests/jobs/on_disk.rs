//! Jobs whose scratch is larger than their memory: encrypted files on disk.

use crate::Case;
use crate::node::{Node, Order, Outcome};
use crate::programs::command;
use decores_types::{Limits, Reason, Scratch};
use std::fs;
use std::path::{Path, PathBuf};

pub const ALL: &[Case] = &[
    ("files and streams larger than memory pass unchanged", larger_than_memory),
    ("what lies on disk cannot be read there", not_readable),
    ("files on disk without end end the job", flood),
    ("files without a name count too", unnamed_flood),
    ("folders without end end the job", folder_flood),
    ("open files without end end the job", open_flood),
    ("what is written over does not count twice", written_over),
];

const SECRET: &[u8] = b"a-planted-secret-of-the-consumer";

fn small(limits: &mut Limits) {
    (limits.memory_bytes, limits.scratch_bytes) = (1 << 20, 16 << 20);
}

/// Whether there is one; the launcher's tests say when there must be.
fn has(node: &Node) -> bool {
    if !node.host.encrypted_scratch {
        println!("no gocryptfs, or no right to mount: not asserted");
    }
    node.host.encrypted_scratch
}

fn failed(outcome: &Outcome) {
    assert_eq!(outcome.given.scratch, Scratch::EncryptedFile);
    assert_eq!(outcome.reason(), Reason::LimitScratch, "{:?}", outcome.logs);
    assert!(outcome.output.is_none());
}

/// Copies a file, and standard input.
fn copies(after: &str) -> Vec<u8> {
    command(
        r#"(data (i32.const 1024) "filesubsub/copy")"#,
        &format!(
            "(call $must (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
             (call $must (call $mkdir (i32.const 4) (i32.const 1028) (i32.const 3)))
             (call $must (call $open (i32.const 4) (i32.const 0) (i32.const 1031) (i32.const 8) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 20)))
             (call $copy (i32.load (i32.const 16)) (i32.load (i32.const 20)))
             (call $copy (i32.const 0) (i32.const 1)) {after}"
        ),
    )
}

fn larger_than_memory(node: &Node) {
    if !has(node) {
        return;
    }
    let file: Vec<u8> = (0..5_000_001_u32).map(|n| (n % 251) as u8).collect();
    let stdin = SECRET.repeat(100_000);
    let mut order = Order::new(copies("")).stdin(&stdin).limits(small).limits(|l| l.output_bytes = 16 << 20);
    order.files = vec![("file", file.clone())];
    let outcome = node.run(order);
    assert_eq!(outcome.given.scratch, Scratch::EncryptedFile);
    assert_eq!(outcome.reason(), Reason::Completed, "{:?}", outcome.logs);
    let (manifest, contents) = outcome.output.as_ref().unwrap();
    assert_eq!(manifest.files[0].path.as_str(), "sub/copy");
    assert!(contents[0] == stdin && contents[1] == file);
}

fn not_readable(node: &Node) {
    if !has(node) {
        return;
    }
    let content = SECRET.repeat(60_000);
    let order = |program| {
        let mut order = Order::new(program).stdin(&content).limits(small).limits(|l| l.wall_ms = 600_000);
        order.files = vec![("file", content.clone())];
        order
    };
    let endless = copies("(loop $l (br $l))");
    let outcome = node.run_watched(
        order(endless),
        |_| {},
        |sent| {
            // Standard input and output, the file and its copy.
            let taken = |files: &[PathBuf]| files.iter().map(|f| f.metadata().map_or(0, |m| m.len())).sum::<u64>();
            let mut files = Vec::new();
            while taken(&files) < 4 * content.len() as u64 {
                std::thread::yield_now();
                files = files_below(&node.scratch());
            }
            for file in files {
                let name = file.to_str().unwrap();
                assert!(!name.contains("stdin") && !name.contains("copy"), "{name}");
                let bytes = fs::read(&file).unwrap();
                assert!(!bytes.windows(8).any(|w| w == &SECRET[..8]), "{name}");
            }
            node.launcher.kill(sent.job.job, sent.job.attempt).unwrap();
        },
    );
    assert_eq!(outcome.exit.signal, Some(9));
    assert_eq!(files_below(&node.scratch()), Vec::<PathBuf>::new());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

const OPENED: &str = "(call $must (call $open (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1)
    (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))";
const FLOOD: &str = "(loop $l (call $put (i32.load (i32.const 16)) (i32.const 65536) (i32.const 65536)) (br $l))";
const NAME: &str = r#"(data (i32.const 1024) "f")"#;

fn flood(node: &Node) {
    if has(node) {
        failed(&node.run(Order::new(command(NAME, &format!("{OPENED} {FLOOD}"))).limits(small)));
        // Standard output lies there too.
        let endless = command("", "(loop $l (call $put (i32.const 1) (i32.const 65536) (i32.const 65536)) (br $l))");
        failed(&node.run(Order::new(endless).limits(small).limits(|l| l.output_bytes = 1 << 30)));
    }
}

fn unnamed_flood(node: &Node) {
    if has(node) {
        let unlinked = "(call $must (call $unlink (i32.const 4) (i32.const 1024) (i32.const 1)))";
        failed(&node.run(Order::new(command(NAME, &format!("{OPENED} {unlinked} {FLOOD}"))).limits(small)));
    }
}

fn open_flood(node: &Node) {
    if has(node) {
        // As many as there may be, so that nothing is left to look with; then it writes without end.
        let body = format!(
            "(loop $l (br_if $l (i32.eqz (call $open (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const 1)
                (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))))
             {FLOOD}"
        );
        failed(&node.run(Order::new(command(NAME, &body)).limits(small)));
    }
}

fn folder_flood(node: &Node) {
    if has(node) {
        // Names of four letters, counted up.
        let body = "(i32.store (i32.const 1024) (i32.const 0x61616161))
            (loop $l
              (drop (call $mkdir (i32.const 4) (i32.const 1024) (i32.const 4)))
              (i32.store8 (i32.const 1024) (i32.add (i32.load8_u (i32.const 1024)) (i32.const 1)))
              (if (i32.gt_u (i32.load8_u (i32.const 1024)) (i32.const 122)) (then
                (i32.store8 (i32.const 1024) (i32.const 97))
                (i32.store8 (i32.const 1025) (i32.add (i32.load8_u (i32.const 1025)) (i32.const 1)))
                (if (i32.gt_u (i32.load8_u (i32.const 1025)) (i32.const 122)) (then
                  (i32.store8 (i32.const 1025) (i32.const 97))
                  (i32.store8 (i32.const 1026) (i32.add (i32.load8_u (i32.const 1026)) (i32.const 1)))))))
              (br $l))";
        failed(&node.run(Order::new(command("", body)).limits(small).limits(|l| l.wall_ms = 600_000)));
    }
}

fn written_over(node: &Node) {
    if !has(node) {
        return;
    }
    let body = format!(
        "{OPENED}
         (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 65536))
         (loop $l
           (call $must (call $pwrite (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 8)))
           (i32.store (i32.const 20) (i32.add (i32.load (i32.const 20)) (i32.const 1)))
           (br_if $l (i32.lt_u (i32.load (i32.const 20)) (i32.const 2000))))"
    );
    let outcome = node.run(Order::new(command(NAME, &body)).limits(small));
    assert_eq!(outcome.reason(), Reason::Completed, "{:?}", outcome.logs);
    assert_eq!(outcome.output.as_ref().unwrap().0.files[0].size, 65536);
}
