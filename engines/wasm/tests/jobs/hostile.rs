//! Guests and payloads that mean harm.

use crate::Case;
use crate::node::{Node, Order, Outcome};
use crate::programs::{command, echo, endless, exit, memory_bomb, opens};
use decores_sandbox::Namespace;
use decores_sandbox::protocol::EngineEvent;
use decores_types::Scratch;
use decores_types::{Commitment, Digest, Reason};
use std::fmt::Write as _;

pub const ALL: &[Case] = &[
    ("a trap ends without output", trap),
    ("endless recursion is a trap", recursion),
    ("an endless loop meets its time limit", endless_loop),
    ("an endless sleep meets its time limit", endless_sleep),
    ("a loop before _start meets its time limit", endless_start),
    ("memory without end meets its limit", memory),
    ("a program that lives with less memory completes", memory_denied_but_fine),
    ("a huge first memory meets its limit", memory_at_first),
    ("output without end meets its limit", flood),
    ("files without end meet the scratch", file_flood),
    ("/etc/passwd does not open", passwd),
    ("the input folder is read-only", input_is_read_only),
    ("links are not made", links),
    ("what is not wasm is invalid", not_wasm),
    ("a component is invalid", component),
    ("a module without _start is invalid", no_start),
    ("an unknown import is invalid, its name stays in the logs", unknown_import),
    ("minutes of compiling meet their limit", compile_bomb),
    ("compiling without memory meets its limit", compile_memory),
    ("input beyond the scratch limit is refused", input_too_large),
    ("one changed bit is refused wherever it lies", changed_bits),
    ("cut and lengthened payloads are refused", cut_and_lengthened),
    ("a payload for another place does not open", another_place),
    ("another program or input than committed is refused", another_commitment),
    ("the launcher's deadline ends an engine", deadline),
    ("a killed job leaves nothing", killed),
];

fn failed(outcome: &Outcome, reason: Reason) {
    assert_eq!(outcome.reason(), reason, "{:?}", outcome.logs);
    assert!(outcome.output.is_none() && outcome.finished().output.is_none(), "no output of a program that did not end");
    assert_eq!(outcome.finished().exit, None);
    assert_eq!(outcome.exit.code, Some(0), "the engine itself ended well");
}

fn trap(node: &Node) {
    let outcome = node.run(Order::new(command("", "(unreachable)")).stdin(b"x"));
    failed(&outcome, Reason::Trap);
    assert!(outcome.logs.unwrap().contains("unreachable"));
}

fn recursion(node: &Node) {
    let program =
        wat::parse_str("(module (memory (export \"memory\") 1) (func $f (export \"_start\") (call $f)))").unwrap();
    failed(&node.run(Order::new(program)), Reason::Trap);
}

fn endless_loop(node: &Node) {
    let outcome = node.run(Order::new(endless()).limits(|l| l.wall_ms = 300));
    failed(&outcome, Reason::LimitTime);
    assert!((300..5000).contains(&outcome.finished().wall_ms), "{}", outcome.finished().wall_ms);
}

fn endless_sleep(node: &Node) {
    let program = command(
        "",
        "(i32.store8 (i32.const 1032) (i32.const 0))
         (i32.store (i32.const 1040) (i32.const 1))
         (i64.store (i32.const 1048) (i64.const 3600000000000))
         (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 16)))",
    );
    failed(&node.run(Order::new(program).limits(|l| l.wall_ms = 300)), Reason::LimitTime);
}

fn endless_start(node: &Node) {
    let program =
        "(module (memory (export \"memory\") 1) (func $s (loop $l (br $l))) (start $s) (func (export \"_start\")))";
    let program = wat::parse_str(program).unwrap();
    failed(&node.run(Order::new(program).limits(|l| l.wall_ms = 300)), Reason::LimitTime);
}

fn memory(node: &Node) {
    let outcome = node.run(Order::new(memory_bomb("(unreachable)")));
    failed(&outcome, Reason::LimitMemory);
    assert!(outcome.finished().memory_bytes <= 16 << 20);
    failed(&node.run(Order::new(memory_bomb("(call $exit (i32.const 1))"))), Reason::LimitMemory);
}

fn memory_denied_but_fine(node: &Node) {
    assert_eq!(node.run(Order::new(memory_bomb(""))).reason(), Reason::Completed);
}

fn memory_at_first(node: &Node) {
    let program = wat::parse_str("(module (memory (export \"memory\") 65536) (func (export \"_start\")))").unwrap();
    failed(&node.run(Order::new(program)), Reason::LimitMemory);
}

fn flood(node: &Node) {
    let program = command("", "(loop $l (call $put (i32.const 1) (i32.const 65536) (i32.const 65536)) (br $l))");
    failed(&node.run(Order::new(program)), Reason::LimitOutput);
}

fn file_flood(node: &Node) {
    let program = command(
        "(data (i32.const 1024) \"f\")",
        "(call $must (call $open (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
         (loop $l (call $put (i32.load (i32.const 16)) (i32.const 65536) (i32.const 65536)) (br $l))",
    );
    let outcome = node.run(Order::new(program));
    // 51 is ENOSPC: the guest is told, and here gives up; without a scratch it has no descriptor 4 (8: EBADF).
    let expected = if outcome.given.scratch == Scratch::None { 8 } else { 51 };
    assert_eq!(
        outcome.events.iter().rev().find_map(|e| match e {
            EngineEvent::Finished(f) => Some((f.reason, f.exit)),
            _ => None,
        }),
        if expected == 51 { Some((Reason::LimitOutput, Some(51))) } else { Some((Reason::ExitNonzero, Some(8))) }
    );
}

fn passwd(node: &Node) {
    for path in ["/etc/passwd", "../../etc/passwd", "../../../../../../etc/passwd", "../out"] {
        let outcome = node.run(Order::new(opens(3, path, false)));
        assert_eq!(outcome.reason(), Reason::ExitNonzero, "{path}");
        let code = outcome.finished().exit.unwrap();
        assert!([2, 8, 44, 63, 76].contains(&code), "{path}: {code}");
    }
}

fn input_is_read_only(node: &Node) {
    let outcome = node.run(Order::new(opens(3, "new", true)));
    assert_eq!(outcome.reason(), Reason::ExitNonzero);
}

fn links(node: &Node) {
    let program = command(
        "(data (i32.const 1024) \"/etc/passwdlink\")",
        "(call $must (call $symlink (i32.const 1024) (i32.const 11) (i32.const 4) (i32.const 1035) (i32.const 4)))",
    );
    assert_eq!(node.run(Order::new(program)).reason(), Reason::ExitNonzero);
}

fn not_wasm(node: &Node) {
    for program in [&b"hello"[..], b"", b"\0asm", b"\0asm\x01\0\0\0\xff\xff", b"#!/bin/sh\n"] {
        failed(&node.run(Order::new(program.to_vec())), Reason::ProgramInvalid);
    }
}

fn component(node: &Node) {
    failed(&node.run(Order::new(wat::parse_str("(component)").unwrap())), Reason::ProgramInvalid);
}

fn no_start(node: &Node) {
    for program in
        ["(module)", "(module (func (export \"_start\") (param i32)))", "(module (memory (export \"_start\") 1))"]
    {
        failed(&node.run(Order::new(wat::parse_str(program).unwrap())), Reason::ProgramInvalid);
    }
}

fn unknown_import(node: &Node) {
    let program = "(module (import \"env\" \"launch_missiles\" (func)) (func (export \"_start\")))";
    let outcome = node.run(Order::new(wat::parse_str(program).unwrap()));
    failed(&outcome, Reason::ProgramInvalid);
    assert!(outcome.logs.as_ref().unwrap().contains("launch_missiles"));
    assert!(!format!("{:?}", outcome.events).contains("launch_missiles"), "the node does not learn it");
}

/// One large function: compilers take more than linear time for it.
fn large_program() -> Vec<u8> {
    let mut body = String::new();
    for i in 0..60_000 {
        let _ = write!(
            body,
            "(if (i32.eq (local.get 0) (i32.const {i})) (then (local.set 1 (i32.mul (local.get 0) (local.get 1)))))"
        );
    }
    wat::parse_str(format!("(module (memory (export \"memory\") 1) (func (export \"_start\") (local i32 i32) {body}))"))
        .unwrap()
}

fn compile_bomb(node: &Node) {
    let outcome = node.run(Order::new(large_program()).limits(|l| l.compile_ms = 100));
    failed(&outcome, Reason::LimitCompile);
}

fn compile_memory(node: &Node) {
    let outcome = node.run_altered(Order::new(large_program()), |sent| sent.job.compile_address_space = 96 << 20);
    failed(&outcome, Reason::LimitCompile);
}

fn input_too_large(node: &Node) {
    let outcome = node.run(Order::new(echo()).stdin(&vec![0; 100_000]).limits(|l| l.scratch_bytes = 99_999));
    failed(&outcome, Reason::LimitScratch);
}

fn changed_bits(node: &Node) {
    // Header, encapsulated key, sealed keys, program, input.
    for place in [5, 30, 200, 1180, -1, -2, -3] {
        let outcome = node.run_altered(Order::new(echo()).stdin(b"x"), |sent| {
            let at = match place {
                -1 => sent.program_at + 3,
                -2 => sent.input_at + 3,
                -3 => sent.payload.len() - 1,
                at => at as usize,
            };
            sent.payload[at] ^= 1;
        });
        failed(&outcome, Reason::PayloadInvalid);
    }
}

fn cut_and_lengthened(node: &Node) {
    let order = || Order::new(echo()).stdin(&[7; 200_000]);
    let invalid = |alter: fn(&mut crate::node::Sent)| failed(&node.run_altered(order(), alter), Reason::PayloadInvalid);
    invalid(|s| s.payload.clear());
    invalid(|s| s.payload.truncate(100));
    invalid(|s| s.payload.truncate(s.program_at + 5));
    invalid(|s| s.payload.truncate(s.input_at));
    invalid(|s| s.payload.truncate(s.payload.len() - 1));
    invalid(|s| s.payload.truncate(s.input_at + 65_552));
    invalid(|s| s.payload.push(0));
    // The second and the third chunk of the input, swapped.
    invalid(|s| {
        let (a, b) = (s.input_at + 65_552, s.input_at + 2 * 65_552);
        let (first, second) = s.payload.split_at_mut(b);
        first[a..].swap_with_slice(&mut second[..65_552]);
    });
}

fn another_place(node: &Node) {
    let invalid = |alter: fn(&mut crate::node::Sent)| {
        failed(&node.run_altered(Order::new(echo()), alter), Reason::PayloadInvalid)
    };
    invalid(|s| s.job.offer = Digest::of(b"another"));
    invalid(|s| s.job.consumer = decores_types::ConsumerId::from_bytes([0; 16]));
    invalid(|s| s.job.spec.limits.wall_ms += 1);
}

fn another_commitment(node: &Node) {
    // The spec is part of what the payload is bound to, so a changed commitment does not even open it.
    let zero = Commitment::parse(&"0".repeat(64)).unwrap();
    let outcome = node.run_altered(Order::new(echo()), |s| s.job.spec.program = zero);
    failed(&outcome, Reason::PayloadInvalid);
    let outcome = node.run_altered(Order::new(echo()), |s| s.job.spec.key_check = Digest::of(b"x"));
    failed(&outcome, Reason::PayloadInvalid);
}

fn deadline(node: &Node) {
    let outcome = node.run_altered(Order::new(endless()), |sent| sent.plan.deadline_ms = 1500);
    assert!(outcome.exit.deadline);
    assert_eq!(outcome.exit.signal, Some(9));
    assert!(!matches!(outcome.events.last(), Some(EngineEvent::Finished(_))));
}

fn killed(node: &Node) {
    let outcome = node.run_watched(
        Order::new(exit(0)),
        |_| {},
        |sent| {
            let left = node.launcher.inspect(sent.job.job, sent.job.attempt).unwrap();
            assert!(left.processes, "the inspection sees a job that lives");
            assert_eq!(left.cgroup, !node.host.cgroup.is_empty());
            let mounts = node.host.namespaces.contains(&Namespace::Mount);
            assert_eq!((left.mounts, left.scratch), (mounts, mounts));
            // It may have ended by itself in the meantime.
            let _ = node.launcher.kill(sent.job.job, sent.job.attempt);
        },
    );
    assert!(outcome.exit.signal == Some(9) || outcome.exit.code == Some(0));
}
