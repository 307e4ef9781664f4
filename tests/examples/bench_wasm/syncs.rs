//! What it costs to make something durable, and how often a job does.

use crate::{at, node};
use decores_tests::node::{Node, signal};
use decores_tests::wait::until;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Milliseconds of an `fdatasync` after a few pages, as the store's log has them.
pub(crate) fn cost(folder: &Path) -> f64 {
    let path = folder.join("bench-sync");
    let mut file = File::create(&path).unwrap();
    let ms = (0..100).map(|_| {
        let start = Instant::now();
        file.write_all(&[7; 12 << 10]).unwrap();
        file.sync_data().unwrap();
        start.elapsed().as_secs_f64() * 1e3
    });
    let ms = at(ms.collect(), 50);
    std::fs::remove_file(path).unwrap();
    ms
}

/// How often a node syncs for one job between its submission and its receipt, as `strace` counts.
pub(crate) fn counted(node: &Node, program: &[u8], jobs: usize) -> f64 {
    let consumer = node.consumer();
    let mut jobs_run = node::prepared(node, &consumer, program, jobs);
    let path = node.beside("syncs");
    let mut strace = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs", "-o"])
        .arg(&path)
        .args(["-p", &node.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("`strace` counts the syncs: install it");
    // It has taken hold of the node once the node is being traced.
    let status = format!("/proc/{}/status", node.pid());
    until("strace takes hold", 10, || {
        let status = std::fs::read_to_string(&status).unwrap();
        (!status.lines().any(|line| line == "TracerPid:\t0")).then_some(())
    });
    jobs_run.run();
    signal("INT", strace.id());
    strace.wait().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let calls = text.lines().filter(|line| line.contains("sync") && !line.contains("resumed")).count();
    calls as f64 / jobs as f64
}
