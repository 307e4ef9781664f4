//! Jobs through the real engine and its unpacking process, with both locks closed; a stand-in plays the helper.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "tests"
)]
#![allow(unsafe_code, reason = "gives a process numbered descriptors")]

mod node;
#[path = "../images/pack.rs"]
mod pack;
mod play;

use decores_sandbox::container::{MAX_ANSWER, RunAnswer};
use decores_sandbox::protocol::EngineEvent;
use decores_types::{Digest, Reason};
use node::{Order, run};
use pack::{Image, Tar};
use play::{Container, ended, line};
use serde_json::json;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

fn image() -> Image {
    Image::of([Tar::default().mode("bin/true", 0o755, "program").link("sh", "bin/true")])
}

fn play(code: i32) -> impl FnOnce(&mut Container) -> Vec<u8> {
    move |_| ended(code)
}

fn say(container: &mut Container, stdout: &[u8], stderr: &[u8]) {
    container.stdout.as_mut().unwrap().write_all(stdout).unwrap();
    container.stderr.as_mut().unwrap().write_all(stderr).unwrap();
}

#[test]
fn a_container_gets_its_image_its_words_and_its_input_and_what_it_leaves_is_sealed() {
    let mut image = image();
    image.config = json!({"Entrypoint": ["/bin/true"], "Cmd": ["unused"], "Env": ["A=1", "B=2"], "User": "5:6"});
    let digest = Digest::of(&image.manifest());
    let mut order = Order::new(&image);
    order.args = vec!["x"];
    order.env = vec![("A", "3")];
    order.stdin = b"hello".to_vec();
    order.files = vec![("data", vec![1; 100_000]), ("folder/more", b"more".to_vec())];
    let outcome = run(order, |container| {
        let request = &container.request;
        assert_eq!(request.args, ["/bin/true", "x"]);
        assert_eq!(request.env[..3], ["A=3", "B=2", "HOME=/"]);
        assert_eq!((request.cwd.as_str(), request.uid, request.gid), ("/", 5, 6));
        let at = |name: &str| container.scratch.join(name);
        assert_eq!(fs::read_to_string(at("rootfs/bin/true")).unwrap(), "program");
        assert_eq!(fs::read(at("in/data")).unwrap(), vec![1; 100_000]);
        assert_eq!(fs::read_to_string(at("in/folder/more")).unwrap(), "more");
        assert_eq!(fs::metadata(at("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_dir(at("blobs")).unwrap().count(), 0);
        fs::write(at("out/result"), "result").unwrap();
        let mut input = Vec::new();
        container.stdin.read_to_end(&mut input).unwrap();
        say(container, &input, b"log");
        ended(0)
    });
    assert_eq!(outcome.reason(), Reason::Completed, "{:?}", outcome.logs);
    let (manifest, contents) = outcome.output.as_ref().unwrap();
    assert_eq!((contents[0].as_slice(), contents[1].as_slice()), (b"hello".as_slice(), b"result".as_slice()));
    assert_eq!((manifest.exit, manifest.files[0].path.as_str(), outcome.logs()), (0, "result", "log"));
    let finished = outcome.finished();
    assert_eq!(finished.image, Some(outcome.commitment.commit("image", &digest)));
    assert!(finished.program.is_some() && finished.input.is_some() && finished.logs.is_some());
    assert_eq!((finished.exit, finished.wall_ms), (Some(0), 12));
    let names: Vec<_> = outcome.events.iter().map(name).collect();
    assert_eq!(names, ["locked", "compiling", "started", "sealing", "finished"]);
    let EngineEvent::Locked(locked) = &outcome.events[0] else { panic!("{:?}", outcome.events) };
    assert!(locked.seccomp && locked.engine.starts_with("decores-engine-container "));
}

fn name(event: &EngineEvent) -> &'static str {
    match event {
        EngineEvent::Locked(_) => "locked",
        EngineEvent::Compiling => "compiling",
        EngineEvent::Started { .. } => "started",
        EngineEvent::Sealing => "sealing",
        EngineEvent::Finished(_) => "finished",
    }
}

/// Ids of the processes whose command line names a folder, and of all their children.
fn processes(named: &str) -> (Vec<u32>, Vec<u32>) {
    let all = || fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let says = |id: u32| fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains(named));
    let found: Vec<u32> = all().filter(|id| says(*id)).collect();
    let parent = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let children = all().filter(|id| parent(*id).is_some_and(|parent| found.contains(&parent)));
    (found.clone(), children.collect())
}

#[test]
fn the_process_that_unpacked_is_gone_before_the_container_is_asked_for() {
    let outcome = run(Order::new(&image()), |container| {
        let (engine, children) = processes(container.scratch.to_str().unwrap());
        say(container, format!("{} {}", engine.len(), children.len()).as_bytes(), b"");
        ended(0)
    });
    assert_eq!(outcome.output.unwrap().1[0], b"1 0");
}

#[test]
fn exit_codes_are_kept_and_signals_become_some() {
    let outcome = run(Order::new(&image()), |container| {
        say(container, b"out", b"");
        ended(3)
    });
    assert_eq!((outcome.reason(), outcome.finished().exit), (Reason::ExitNonzero, Some(3)));
    assert_eq!(outcome.output.as_ref().unwrap().1[0], b"out");
    let killed = RunAnswer::Ended { code: None, signal: Some(9), late: false, wall_ms: 1 };
    let outcome = run(Order::new(&image()), move |_| line(&killed));
    assert_eq!((outcome.reason(), outcome.finished().exit), (Reason::ExitNonzero, Some(137)));
    let neither = RunAnswer::Ended { code: None, signal: None, late: false, wall_ms: 1 };
    assert!(run(Order::new(&image()), move |_| line(&neither)).is_lost());
}

#[test]
fn a_program_that_ran_too_long_has_logs_and_no_output() {
    let outcome = run(Order::new(&image()), |container| {
        say(container, b"out", b"err");
        line(&RunAnswer::Ended { code: None, signal: Some(9), late: true, wall_ms: 10_000 })
    });
    assert_eq!((outcome.reason(), outcome.finished().exit), (Reason::LimitTime, None));
    assert!(outcome.output.is_none());
    assert_eq!(outcome.logs(), "err\nengine: the program ran longer than its limit\n");
}

#[test]
fn output_beyond_the_limit_ends_the_container() {
    let outcome = run(Order::new(&image()), |container| {
        let mut stdout = container.stdout.take().unwrap();
        let broken = (0..1000).find_map(|_| stdout.write_all(&[b'x'; 4096]).err());
        assert!(broken.is_some(), "it is read to its limit and then no more");
        ended(0)
    });
    assert_eq!(outcome.reason(), Reason::LimitOutput);
    assert!(outcome.output.is_none());
    let outcome = run(Order::new(&image()), |container| {
        say(container, &vec![b'x'; 1 << 20], b"");
        ended(0)
    });
    assert_eq!(outcome.reason(), Reason::Completed, "just as much as the limit");
}

#[test]
fn logs_beyond_the_limit_are_dropped_and_the_program_goes_on() {
    let outcome = run(Order::new(&image()), |container| {
        say(container, b"", &vec![b'x'; 1 << 20]);
        say(container, b"done", b"");
        ended(0)
    });
    assert_eq!((outcome.reason(), outcome.logs().len()), (Reason::Completed, 4096));
    assert_eq!(outcome.output.unwrap().1[0], b"done");
}

#[test]
fn what_was_written_last_is_read_after_the_end() {
    let outcome = run(Order::new(&image()), |container| {
        say(container, &vec![b'y'; 60_000], b"last");
        ended(0)
    });
    assert_eq!((outcome.output.as_ref().unwrap().1[0].len(), outcome.logs()), (60_000, "last"));
}

#[test]
fn a_container_that_is_refused_is_the_programs_fault_and_one_that_failed_is_ours() {
    let refused = line(&RunAnswer::Refused { why: "no such program".to_owned() });
    let outcome = run(Order::new(&image()), move |_| refused);
    assert_eq!(outcome.reason(), Reason::ProgramInvalid);
    assert_eq!(outcome.logs(), "engine: the container is refused: no such program\n");
    let failed = line(&RunAnswer::Failed { why: "no memory".to_owned() });
    assert!(run(Order::new(&image()), move |_| failed).is_lost());
}

#[test]
fn a_helper_that_says_nothing_or_nonsense_is_no_end() {
    assert!(run(Order::new(&image()), |_| Vec::new()).is_lost());
    assert!(run(Order::new(&image()), |_| b"{}\n".to_vec()).is_lost());
    assert!(run(Order::new(&image()), |_| vec![b' '; 2 * MAX_ANSWER]).is_lost());
    assert!(run(Order::new(&image()), |_| [b"{\"answer\":\"started\"}\n".as_slice(), b"x\n"].concat()).is_lost());
}

#[test]
fn a_hostile_image_is_refused_by_name_and_nothing_is_run() {
    let hostile = Image::of([Tar::default().file("../x", "x")]);
    let digest = Digest::of(&hostile.layers[0].bytes);
    let outcome = run(Order::new(&hostile), play(0));
    assert_eq!((outcome.reason(), outcome.asked), (Reason::ProgramInvalid, false));
    let why = format!("engine: the image is refused: layer {digest}: `../x`: its path leads upwards\n");
    assert_eq!(outcome.logs(), why);
    let finished = outcome.finished();
    assert!(finished.program.is_some() && finished.image.is_none() && finished.input.is_none());
}

#[test]
fn an_image_that_names_no_program_needs_arguments() {
    let mut bare = image();
    bare.config = json!({});
    let outcome = run(Order::new(&bare), play(0));
    assert_eq!((outcome.reason(), outcome.asked), (Reason::ProgramInvalid, false));
    assert!(outcome.logs().contains("names no program"));
    let mut order = Order::new(&bare);
    order.args = vec!["sh"];
    let outcome = run(order, |container| {
        assert_eq!(container.request.args, ["sh"]);
        ended(0)
    });
    assert_eq!(outcome.reason(), Reason::Completed);
}

#[test]
fn a_payload_that_was_altered_or_exchanged_is_refused() {
    let mut altered = Order::new(&image());
    altered.alter = |payload, program_at| payload[program_at + 100] ^= 1;
    let outcome = run(altered, play(0));
    assert_eq!((outcome.reason(), outcome.asked), (Reason::PayloadInvalid, false));
    assert!(outcome.logs().contains("does not authenticate"));
    let mut exchanged = Order::new(&image());
    exchanged.lie = true;
    let outcome = run(exchanged, play(0));
    assert_eq!((outcome.reason(), outcome.asked), (Reason::PayloadInvalid, false));
    let mut short = Order::new(&image());
    short.alter = |payload, program_at| payload.truncate(program_at + 100);
    assert_eq!(run(short, play(0)).reason(), Reason::PayloadInvalid);
}

#[test]
fn an_image_that_unpacks_too_slowly_is_stopped() {
    let mut order = Order::new(&image());
    order.limits.compile_ms = 0;
    let outcome = run(order, play(0));
    assert_eq!((outcome.reason(), outcome.asked), (Reason::LimitCompile, false));
}

#[test]
fn what_is_left_in_the_output_is_read_without_following_anything() {
    let outcome = run(Order::new(&image()), |container| {
        let out = container.scratch.join("out");
        fs::create_dir(out.join("closed")).unwrap();
        fs::write(out.join("closed/file"), "closed").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", out.join("link")).unwrap();
        std::os::unix::fs::symlink(container.scratch.join("rootfs"), out.join("folder")).unwrap();
        std::os::unix::fs::symlink("nowhere", out.join("closed/dangling")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap());
        for closed in ["closed/file", "closed"] {
            fs::set_permissions(out.join(closed), Permissions::from_mode(0o0)).unwrap();
        }
        ended(0)
    });
    assert_eq!(outcome.reason(), Reason::Completed, "{:?}", outcome.logs);
    let (manifest, contents) = outcome.output.as_ref().unwrap();
    let names: Vec<_> = manifest.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!((names, contents[1].as_slice()), (vec!["closed/file"], b"closed".as_slice()));
}

#[test]
fn output_files_beyond_the_limits_are_refused() {
    let holes = run(Order::new(&image()), |container| {
        let file = fs::File::create(container.scratch.join("out/holes")).unwrap();
        file.set_len(1 << 40).unwrap();
        ended(0)
    });
    assert_eq!(holes.reason(), Reason::LimitOutput);
    let many = run(Order::new(&image()), |container| {
        (0..20_000).for_each(|n| fs::create_dir(container.scratch.join(format!("out/{n}"))).unwrap());
        ended(0)
    });
    assert_eq!(many.reason(), Reason::LimitOutput);
    let deep = run(Order::new(&image()), |container| {
        fs::create_dir_all(container.scratch.join("out").join("d/".repeat(300))).unwrap();
        ended(0)
    });
    assert_eq!(deep.reason(), Reason::LimitOutput);
    let odd = run(Order::new(&image()), |container| {
        use std::os::unix::ffi::OsStrExt;
        fs::write(container.scratch.join("out").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        ended(0)
    });
    assert_eq!(odd.reason(), Reason::LimitOutput);
}

#[test]
fn a_docker_archive_is_known_by_its_configuration() {
    let image = image();
    let manifest: serde_json::Value = serde_json::from_slice(&image.manifest()).unwrap();
    let digest = Digest::parse(manifest["config"]["digest"].as_str().unwrap()).unwrap();
    let outcome = run(Order::of(image.docker_archive(|n| format!("{n}.tar"))), play(0));
    assert_eq!(outcome.reason(), Reason::Completed, "{:?}", outcome.logs);
    assert_eq!(outcome.finished().image, Some(outcome.commitment.commit("image", &digest)));
}
