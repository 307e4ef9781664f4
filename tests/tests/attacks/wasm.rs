//! The consumer's program is the attacker: it loops, allocates or writes without end, looks for files it was
//! not given, traps, is no program at all, or is made to keep the compiler busy. Each ends with its own reason
//! code, within its limits, and the node serves the next job.

use decores_api::jobs::Job as JobView;
use decores_api::paths;
use decores_audit::verify::verify;
use decores_tests::consumer::{Consumer, path};
use decores_tests::job::{Input, Job};
use decores_tests::node::Node;
use decores_tests::wait::timed;
use decores_tests::wasm;
use decores_types::{JobState, Limits, Reason};
use std::time::Duration;

fn limits() -> Limits {
    Limits {
        memory_bytes: 16 << 20,
        wall_ms: 1_000,
        compile_ms: 20_000,
        output_bytes: 1 << 20,
        log_bytes: 4_096,
        scratch_bytes: 1 << 20,
    }
}

/// Runs a program that must fail for this reason; its logs.
fn fails(node: &Node, consumer: &Consumer<'_>, program: &[u8], limits: Limits, reason: Reason) -> String {
    let job = Job::limited(program, Input::default(), limits);
    let ended = consumer.run(&job);
    ended.failed(reason);
    let report = verify(&consumer.receipt(ended.view.job), &node.trust(), None, &[]).unwrap();
    assert!(report.is_accepted(), "{:#?}", report.verdict);
    if reason != Reason::ExitNonzero {
        consumer.get(&path(paths::JOB_RESULT, ended.view.job)).refused(409, "state-conflict");
    }
    consumer.logs(&job, &ended)
}

fn serves(consumer: &Consumer<'_>) {
    let job = Job::new(&wasm::cat(), Input::stdin(b"next"));
    let ended = consumer.run(&job);
    assert_eq!(consumer.output(&job, &ended).stdout, b"next");
}

#[test]
fn a_loop_ends_at_the_time_limit() {
    let node = Node::start();
    let consumer = node.consumer();
    let (_, took) = timed(|| fails(&node, &consumer, &wasm::loops(), limits(), Reason::LimitTime));
    assert!(took < Duration::from_secs(10), "{took:?}");
    serves(&consumer);
}

#[test]
fn allocating_without_end_ends_at_the_memory_limit() {
    let node = Node::start();
    let consumer = node.consumer();
    fails(&node, &consumer, &wasm::allocates(), limits(), Reason::LimitMemory);
    serves(&consumer);
}

#[test]
fn writing_without_end_ends_at_the_output_limit() {
    let node = Node::start();
    let consumer = node.consumer();
    fails(&node, &consumer, &wasm::writes(1), limits(), Reason::LimitOutput);
    serves(&consumer);
}

#[test]
fn logs_without_end_are_cut_at_their_limit() {
    let node = Node::start();
    let consumer = node.consumer();
    let logs = fails(&node, &consumer, &wasm::writes(2), limits(), Reason::LimitTime);
    assert!(logs.len() <= 4_096, "{} bytes", logs.len());
}

#[test]
fn files_without_end_end_at_the_scratch_limit() {
    let node = Node::start();
    let consumer = node.consumer();
    let job = Job::limited(&wasm::fills_scratch(), Input::default(), limits());
    let ended = consumer.run(&job);
    assert_eq!(ended.view.state, JobState::Failed);
    assert!(matches!(ended.view.reason, Reason::LimitScratch | Reason::Trap), "{}", ended.view.reason);
    serves(&consumer);
}

#[test]
fn files_that_were_not_given_do_not_open() {
    let node = Node::start();
    let consumer = node.consumer();
    let home = node.home().join("keys/keystore.json").display().to_string();
    let paths = [
        "/etc/passwd",
        "../etc/passwd",
        "../../../../../../etc/passwd",
        "a/../../../etc/passwd",
        "/proc/self/environ",
        "../proc/self/mem",
        "../in/../../engine",
        home.as_str(),
    ];
    let job = Job::limited(&wasm::opens(&paths), Input::default(), limits());
    let ended = consumer.run(&job);
    ended.is(JobState::Done, Reason::Completed);
    assert!(consumer.output(&job, &ended).stdout.is_empty());
}

#[test]
fn a_trap_and_endless_recursion_are_told_from_limits() {
    let node = Node::start();
    let consumer = node.consumer();
    let logs = fails(&node, &consumer, &wasm::traps(), limits(), Reason::Trap);
    assert!(logs.contains("unreachable"), "{logs}");
    fails(&node, &consumer, &wasm::recurses(), limits(), Reason::Trap);
    serves(&consumer);
}

#[test]
fn what_is_no_program_is_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let cut = wasm::cat();
    let elf = std::fs::read("/bin/true").unwrap();
    for program in [b"".as_slice(), b"#!/bin/sh\n", &cut[..cut.len() / 2], &elf, &wasm::library()] {
        fails(&node, &consumer, program, limits(), Reason::ProgramInvalid);
    }
    serves(&consumer);
}

#[test]
fn imports_that_do_not_exist_are_refused_by_name() {
    let node = Node::start();
    let consumer = node.consumer();
    for (from, name) in [("env", "system"), ("wasi_snapshot_preview1", "sock_connect"), ("wasi_unstable", "fd_read")] {
        let logs = fails(&node, &consumer, &wasm::imports(from, name), limits(), Reason::ProgramInvalid);
        assert!(logs.contains(name), "{logs}");
    }
}

/// Eight functions of 7 KB, each of which alone keeps the compiler busy for more than half a minute.
#[test]
fn a_program_that_takes_minutes_to_compile_ends_at_the_compile_limit() {
    let node = Node::start();
    let consumer = node.consumer();
    let program = wasm::takes_long_to_compile(8);
    let limits = Limits { compile_ms: 1_500, ..limits() };
    let (_, took) = timed(|| fails(&node, &consumer, &program, limits, Reason::LimitCompile));
    assert!(took < Duration::from_secs(30), "{took:?}");
    serves(&consumer);
}

/// All slots are taken by programs that never end: the next job waits, and runs when they are over.
#[test]
fn endless_programs_do_not_keep_others_out() {
    let node = Node::start();
    let (attacker, consumer) = (node.consumer(), node.consumer());
    let endless: Vec<JobView> =
        (0..6).map(|_| attacker.submit(&Job::limited(&wasm::loops(), Input::default(), limits())).json()).collect();
    serves(&consumer);
    for view in endless {
        attacker.wait(view.job).failed(Reason::LimitTime);
    }
}
