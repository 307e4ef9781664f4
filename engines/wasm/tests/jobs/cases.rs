//! What a job is for: streams, arguments, files, exit codes, and the traces it leaves: none.

use crate::Case;
use crate::node::{Node, Order};
use crate::programs::{command, echo, exit};
use decores_sandbox::protocol::EngineEvent;
use decores_types::Reason;
use decores_types::Scratch;

pub const ALL: &[Case] = &[
    ("echo", echoes),
    ("the engine is held by everything the machine has", is_held),
    ("events come in order", events_in_order),
    ("megabytes pass unchanged", megabytes),
    ("an empty input is an input", empty_input),
    ("arguments and environment", arguments),
    ("exit code 3 is kept, with output", exit_code),
    ("random bytes and clocks", random_and_clocks),
    ("a short sleep is slept", short_sleep),
    ("of two sleeps the shorter one ends", two_sleeps),
    ("files go in and out", files),
    ("standard error is sealed as logs", logs),
    ("logs are cut at their limit", logs_cut),
];

fn echoes(node: &Node) {
    let outcome = node.run(Order::new(echo()).stdin(b"hello"));
    assert_eq!(outcome.reason(), Reason::Completed, "{:?}", outcome.logs);
    assert_eq!(outcome.stdout(), b"hello");
    let finished = outcome.finished();
    assert_eq!(finished.exit, Some(0));
    assert!(finished.program.is_some() && finished.input.is_some() && finished.output.is_some());
    assert!(finished.memory_bytes >= 3 << 16);
    assert_eq!((outcome.exit.code, outcome.exit.signal), (Some(0), None));
    assert!(!outcome.exit.deadline && !outcome.exit.out_of_memory);
}

fn is_held(node: &Node) {
    let outcome = node.run(Order::new(exit(0)));
    let Some(EngineEvent::Locked(locked)) = outcome.events.first() else { panic!("{:?}", outcome.events) };
    assert!(locked.seccomp);
    assert_eq!(locked.landlock_abi, node.host.landlock_abi.min(6));
    assert!(locked.engine.starts_with("decores-engine-wasm "));
    assert_eq!(outcome.given.namespaces, node.host.namespaces);
    assert_eq!(outcome.given.cgroup, node.host.cgroup);
    assert_eq!(outcome.given.own_user, node.host.own_users);
    if node.host.tmpfs_noswap {
        assert_eq!(outcome.given.scratch, Scratch::TmpfsNoswap);
    }
}

fn events_in_order(node: &Node) {
    let outcome = node.run(Order::new(echo()));
    let names: Vec<_> = outcome
        .events
        .iter()
        .map(|e| match e {
            EngineEvent::Locked(_) => "locked",
            EngineEvent::Compiling => "compiling",
            EngineEvent::Started { .. } => "started",
            EngineEvent::Sealing => "sealing",
            EngineEvent::Finished(_) => "finished",
        })
        .collect();
    assert_eq!(names, ["locked", "compiling", "started", "sealing", "finished"]);
}

fn megabytes(node: &Node) {
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let outcome = node.run(Order::new(echo()).stdin(&data));
    assert_eq!(outcome.reason(), Reason::Completed);
    assert_eq!(outcome.stdout(), data);
}

fn empty_input(node: &Node) {
    let outcome = node.run(Order::new(echo()));
    assert_eq!(outcome.reason(), Reason::Completed);
    assert_eq!(outcome.stdout(), b"");
    assert_eq!(outcome.logs.as_deref(), Some(""));
}

fn arguments(node: &Node) {
    let program = command(
        "",
        "(call $must (call $args_sizes (i32.const 16) (i32.const 20)))
         (call $must (call $args (i32.const 1024) (i32.const 2048)))
         (call $put (i32.const 1) (i32.const 2048) (i32.load (i32.const 20)))
         (call $must (call $env_sizes (i32.const 16) (i32.const 20)))
         (call $must (call $env (i32.const 1024) (i32.const 4096)))
         (call $put (i32.const 1) (i32.const 4096) (i32.load (i32.const 20)))",
    );
    let mut order = Order::new(program);
    order.args = vec!["one", "two words"];
    order.env = vec![("A", "b=c"), ("LANG", "C")];
    let outcome = node.run(order);
    assert_eq!(outcome.stdout(), b"program\0one\0two words\0A=b=c\0LANG=C\0");
}

fn exit_code(node: &Node) {
    let program = command(
        "(data (i32.const 1024) \"out\")",
        "(call $put (i32.const 1) (i32.const 1024) (i32.const 3)) (call $exit (i32.const 3))",
    );
    let outcome = node.run(Order::new(program));
    assert_eq!((outcome.reason(), outcome.finished().exit), (Reason::ExitNonzero, Some(3)));
    assert_eq!(outcome.output.as_ref().unwrap().0.exit, 3);
    assert_eq!(outcome.stdout(), b"out");
}

fn random_and_clocks(node: &Node) {
    let program = command(
        "",
        "(call $must (call $random (i32.const 1024) (i32.const 32)))
         (call $must (call $clock (i32.const 0) (i64.const 1) (i32.const 1056)))
         (call $must (call $clock (i32.const 1) (i64.const 1) (i32.const 1064)))
         (call $put (i32.const 1) (i32.const 1024) (i32.const 48))",
    );
    let first = node.run(Order::new(program.clone()));
    let second = node.run(Order::new(program));
    assert_eq!(first.reason(), Reason::Completed);
    assert_ne!(first.stdout()[..32], second.stdout()[..32]);
    assert_ne!(first.stdout()[32..40], [0; 8]);
}

fn files(node: &Node) {
    let program = command(
        r#"(data (i32.const 1024) "folder/a.txtsubsub/b.txt")"#,
        "(call $must (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 12) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
         (call $must (call $mkdir (i32.const 4) (i32.const 1036) (i32.const 3)))
         (call $must (call $open (i32.const 4) (i32.const 0) (i32.const 1039) (i32.const 9) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 20)))
         (call $copy (i32.load (i32.const 16)) (i32.load (i32.const 20)))",
    );
    let mut order = Order::new(program);
    order.files = vec![("folder/a.txt", b"a file".to_vec()), ("z", vec![1; 100_000])];
    let outcome = node.run(order);
    if outcome.given.scratch == Scratch::None {
        println!("no mount namespace here: jobs with files are refused, and that is asserted instead");
        assert_eq!(outcome.reason(), Reason::LimitScratch);
        return;
    }
    assert_eq!(outcome.reason(), Reason::Completed, "{:?} {:?}", outcome.finished().exit, outcome.logs);
    let (manifest, contents) = outcome.output.as_ref().unwrap();
    assert_eq!(manifest.files.len(), 1);
    assert_eq!(manifest.files[0].path.as_str(), "sub/b.txt");
    assert_eq!(contents[1], b"a file");
}

fn logs(node: &Node) {
    let outcome = node.run(Order::new(command(
        "(data (i32.const 1024) \"warning\")",
        "(call $put (i32.const 2) (i32.const 1024) (i32.const 7))",
    )));
    assert_eq!(outcome.reason(), Reason::Completed);
    assert_eq!(outcome.logs.as_deref(), Some("warning"));
    assert!(outcome.finished().logs.is_some());
}

fn logs_cut(node: &Node) {
    let outcome = node.run(Order::new(command("", "(call $put (i32.const 2) (i32.const 65536) (i32.const 65536))")));
    assert_eq!(outcome.reason(), Reason::Completed);
    assert_eq!(outcome.logs.unwrap().len(), 4096);
}

fn two_sleeps(node: &Node) {
    // One of 50 milliseconds, and one of an hour.
    let program = command(
        "",
        "(i64.store (i32.const 1024) (i64.const 77))
         (i32.store (i32.const 1040) (i32.const 1))
         (i64.store (i32.const 1048) (i64.const 50000000))
         (i64.store (i32.const 1072) (i64.const 78))
         (i32.store (i32.const 1088) (i32.const 1))
         (i64.store (i32.const 1096) (i64.const 3600000000000))
         (call $must (call $poll (i32.const 1024) (i32.const 2048) (i32.const 2) (i32.const 16)))
         (call $put (i32.const 1) (i32.const 2048) (i32.const 8))
         (call $put (i32.const 1) (i32.const 16) (i32.const 4))",
    );
    let outcome = node.run(Order::new(program));
    assert_eq!(outcome.reason(), Reason::Completed, "{:?}", outcome.logs);
    assert_eq!(outcome.stdout(), [77, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
}

fn short_sleep(node: &Node) {
    let program = command(
        "",
        "(i64.store (i32.const 1024) (i64.const 77))
         (i32.store (i32.const 1040) (i32.const 1))
         (i64.store (i32.const 1048) (i64.const 50000000))
         (call $must (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 16)))
         (call $put (i32.const 1) (i32.const 2048) (i32.const 8))
         (call $put (i32.const 1) (i32.const 16) (i32.const 4))",
    );
    let outcome = node.run(Order::new(program));
    assert_eq!(outcome.stdout(), [77, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert!(outcome.finished().wall_ms >= 50);
}
