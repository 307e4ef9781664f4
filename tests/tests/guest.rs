//! Control groups of version 2, in an emulated machine that has no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_tests::guest::{self, Told, Transcript};
use decores_tests::wait::timed;
use std::collections::BTreeMap;

const ALL_FOUR: &str = "cgroup cpu io memory pids";

/// A step that ended so, and said this.
#[track_caller]
fn ended<'a>(transcript: &'a Transcript, name: &str, code: i32, says: &[&str]) -> Told<'a> {
    let told = transcript.step(name);
    assert_eq!(told.code, code, "step `{name}`:\n{}", told.text);
    for words in says {
        assert!(told.text.contains(words), "step `{name}` does not say `{words}`:\n{}", told.text);
    }
    told
}

/// A machine with version 2 alone holds a module and a container by all four controllers, as the kernel itself tells; a
/// container that wants more memory, or more tasks, than it may have gets neither; what a crash leaves is removed.
#[test]
fn version_2_alone_limits_jobs_and_nothing_is_left_of_them() {
    let (transcript, took) = timed(guest::run);
    println!("{}\nthe guest took {} s", transcript.text(), took.as_secs());
    assert!(transcript.is_whole(), "the guest did not come to its end:\n{}", transcript.text());
    let machine = ended(&transcript, "machine", 0, &["cgroup2 /sys/fs/cgroup cgroup2"]);
    assert_eq!(machine.text.matches("cgroup").count(), 3, "no version 1: {}", machine.text);

    ended(&transcript, "wasm", 0, &["the receipt holds"]);
    ended(&transcript, "wasm-verify", 0, &[ALL_FOUR]);
    ended(&transcript, "container", 0, &[]);
    ended(&transcript, "container-log", 0, &["/in/data", "the receipt holds"]);
    ended(&transcript, "container-verify", 0, &[ALL_FOUR, "container by libcontainer"]);
    held_by_the_kernel(ended(&transcript, "held", 0, &[]));

    ended(&transcript, "bomb", 1, &["limit-memory"]);
    ended(&transcript, "bomb-verify", 0, &[ALL_FOUR, "container by libcontainer"]);
    let forks = ended(&transcript, "forks", 0, &["cancelled"]);
    let mut numbers = forks.text.lines().map_while(|line| line.parse::<u32>().ok());
    let (tasks, most) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!((500..=most).contains(&tasks) && most < 1000, "{tasks} of {most} tasks");
    ended(&transcript, "forks-verify", 0, &["accepted"]);

    let crash = ended(&transcript, "crash", 0, &["the engine ended without a result", "the receipt holds"]);
    assert!(!crash.text.contains("/sys/fs/cgroup"), "the start removes what the crash left:\n{}", crash.text);
    ended(&transcript, "crash-verify", 0, &[ALL_FOUR]);
    ended(&transcript, "log", 0, &[]);
    assert_eq!(ended(&transcript, "left", 0, &[]).text, "");
}

/// Both groups of the job, that of its engine and that of its container, with each limit a number.
fn held_by_the_kernel(held: Told<'_>) {
    let mut groups: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for line in held.text.lines() {
        let [group, file, value] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        groups.entry(group).or_default().insert(file, value);
    }
    assert_eq!(groups.len(), 2, "{}", held.text);
    assert!(groups.keys().any(|name| name.ends_with(".container")), "{}", held.text);
    for (name, limits) in &groups {
        assert!(limits["memory.max"].parse::<u64>().is_ok_and(|bytes| bytes > 0), "{limits:?}");
        assert!(limits["pids.max"].parse::<u64>().is_ok_and(|tasks| tasks > 0), "{limits:?}");
        assert_eq!((limits["memory.swap.max"], limits["cpu.weight"]), ("0", "50"), "{limits:?}");
        // A module has one thread; a container has a share of the processors.
        assert_eq!(!limits["cpu.max"].starts_with("max"), name.ends_with(".container"), "{limits:?}");
        assert!(limits["io.max"].contains("rbps=") && !limits["io.max"].contains("rbps=max"), "{limits:?}");
    }
}
