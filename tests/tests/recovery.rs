//! Bad days: what a crash leaves is ended, wiped and told at the next start; what cannot be wiped is not used again
//! until somebody mends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_api::admin::Alert;
use decores_api::jobs::Job as JobView;
use decores_api::log::LogEntries;
use decores_api::paths;
use decores_audit::event::{Entry, Event};
use decores_audit::verify::{Claim, Status, verify};
use decores_tests::cli::Cli;
use decores_tests::consumer::Consumer;
use decores_tests::job::{Input, Job};
use decores_tests::machine::{Process, family};
use decores_tests::node::{Node, Settings, signal, signal_all};
use decores_tests::oci::{Layout, tool};
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::{JobId, JobState, Limits, Reason};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A node with one place, and who uses it.
struct Scene {
    node: Node,
    consumer: String,
    operator: String,
    cli: Cli,
}

impl Scene {
    fn new() -> Self {
        let node = Node::with(&Settings { slots: 1, ..Settings::default() });
        let (consumer, operator) = (node.consumer().key().to_owned(), node.operator().key().to_owned());
        let cli = Cli::logged_in(&node, &operator);
        Self { node, consumer, operator, cli }
    }

    fn consumer(&self) -> Consumer<'_> {
        Consumer::new(&self.node, &self.consumer)
    }

    fn operator(&self) -> Consumer<'_> {
        Consumer::new(&self.node, &self.operator)
    }

    /// A job that runs until it is stopped.
    fn run(&self) -> JobId {
        let limits = Limits { wall_ms: 600_000, ..Limits::default() };
        let view: JobView = self.consumer().submit(&Job::limited(&wasm::loops(), Input::default(), limits)).json();
        self.consumer().wait_for(view.job, |view| view.state == JobState::Running);
        view.job
    }

    /// A container whose program runs until it is stopped.
    fn run_contained(&self) -> JobId {
        let image = Layout::busybox(&self.cli.path("image")).packed("busybox");
        let limits = Limits { wall_ms: 600_000, memory_bytes: 96 << 20, scratch_bytes: 32 << 20, ..Limits::default() };
        let input = Input { args: ["sleep", "600"].map(str::to_owned).to_vec(), ..Input::default() };
        let view: JobView = self.consumer().submit(&Job::contained(&image, input, limits)).json();
        self.consumer().wait_for(view.job, |view| view.state == JobState::Running);
        view.job
    }

    /// A job that waits for its place.
    fn queue(&self) -> JobId {
        let view: JobView = self.consumer().submit(&Job::new(&wasm::nothing(), Input::default())).json();
        assert_eq!(self.consumer().show(view.job).state, JobState::Queued);
        view.job
    }

    fn cancel(&self, job: JobId) {
        assert_eq!(self.consumer().post(&paths::JOB_CANCEL.replace("{job}", &job.to_string()), b"").status, 200);
        self.consumer().wait(job).is(JobState::Cancelled, Reason::ByConsumer);
    }

    /// Everything in the log.
    fn events(&self) -> Vec<Event> {
        let log: LogEntries = self.operator().get(&format!("{}?from=0&limit=1000", paths::LOG_ENTRIES)).json();
        assert_eq!(log.size, log.entries.len() as u64);
        log.entries.iter().map(|entry| Entry::parse(&entry.entry.0).unwrap().event).collect()
    }

    /// The results of a job's wipes, as the log tells them.
    fn wipes(&self, of: JobId) -> Vec<bool> {
        let wiped = |event: &Event| match event {
            Event::JobWiped { job, complete, .. } if *job == of => Some(*complete),
            _ => None,
        };
        self.events().iter().filter_map(wiped).collect()
    }

    fn alerts(&self, kind: &str) -> Vec<Alert> {
        let alerts: Vec<Alert> = self.operator().get(paths::ALERTS).json();
        alerts.into_iter().filter(|alert| alert.kind == kind).collect()
    }

    fn left(&self) -> Vec<Vec<String>> {
        self.operator().status().leftovers.unwrap().into_iter().map(|left| left.what).collect()
    }

    fn payload(&self, job: JobId) -> PathBuf {
        self.node.home().join(format!("blobs/{job}-1.payload"))
    }

    /// Whether the receipt says that the wipe was complete; everything else in it holds in any case.
    #[track_caller]
    fn receipt_says_wiped(&self, job: JobId) -> bool {
        let report = verify(&self.consumer().receipt(job), &self.node.trust(), None, &[]).unwrap();
        let failed = Claim::ALL.iter().filter(|claim| report.status(**claim) == Status::DoesNotHold);
        let failed: Vec<Claim> = failed.copied().collect();
        assert!(failed.iter().all(|claim| *claim == Claim::Wipe), "{:#?}", report.claims);
        assert_eq!(report.is_accepted(), failed.is_empty(), "{:#?}", report.verdict);
        failed.is_empty()
    }

    #[track_caller]
    fn ended_once(&self, of: JobId) {
        let ends = self.events().iter().filter(|e| matches!(e, Event::JobEnded { job, .. } if *job == of)).count();
        assert_eq!(ends, 1, "an attempt ends once");
    }

    /// Nothing of the job is on the machine any more.
    #[track_caller]
    fn is_gone(&self, job: JobId) {
        let name = format!("{job}-1");
        assert!(!self.node.home().join("jails").join(&name).exists());
        assert!(!self.payload(job).exists());
        assert_eq!(groups(job), Vec::<String>::new());
        for process in fs::read_dir("/proc").unwrap() {
            for file in ["cgroup", "mountinfo"] {
                let text = fs::read_to_string(process.as_ref().unwrap().path().join(file)).unwrap_or_default();
                assert!(!text.contains(&name), "{file} of {process:?}");
            }
        }
    }

    /// One place, and it is blocked: the next job is not taken, and the answer says why.
    #[track_caller]
    fn is_blocked(&self) {
        until("the node says that its places are blocked", 30, || {
            self.operator().status().degraded.contains(&"places".to_owned()).then_some(())
        });
        let answer = self.consumer().ask_offer();
        answer.refused(503, "unavailable");
        assert!(String::from_utf8_lossy(&answer.body).contains("place"), "{answer:?}");
    }

    #[track_caller]
    fn is_free(&self) {
        until("the node takes jobs again", 30, || self.operator().status().degraded.is_empty().then_some(()));
        self.consumer().run(&Job::new(&wasm::nothing(), Input::default())).is(JobState::Done, Reason::Completed);
    }
}

fn process(node: &Node, name: &str) -> u32 {
    let family = family(node.pid());
    family.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no `{name}` in {family:?}")).pid
}

/// Control groups of a job's, in every hierarchy.
fn groups(job: JobId) -> Vec<String> {
    let found = tool("find", &["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{job}*")]);
    found.lines().map(str::to_owned).collect()
}

fn are_gone(processes: &[Process]) {
    until("what was killed is gone", 10, || {
        processes.iter().all(|p| !Path::new(&format!("/proc/{}", p.pid)).exists()).then_some(())
    });
}

#[test]
fn a_crash_is_told_in_the_log_and_by_an_alert_and_every_attempt_ends_once() {
    let mut scene = Scene::new();
    let (running, waiting) = (scene.run(), scene.queue());
    let started = scene.operator().status().started;
    scene.node.crash();
    scene.node.start_again();
    scene.consumer().wait(running).failed(Reason::EngineLost);
    scene.consumer().wait(waiting).failed(Reason::Resubmit);
    for job in [running, waiting] {
        assert!(scene.receipt_says_wiped(job));
        assert_eq!(scene.wipes(job), [true]);
        scene.ended_once(job);
        scene.is_gone(job);
    }
    let events = scene.events();
    let at = events.iter().position(|e| matches!(e, Event::NodeCrashed { .. })).unwrap();
    let Event::NodeCrashed { last_seen, rebooted } = events[at] else { unreachable!() };
    assert!(last_seen > started && !rebooted);
    assert!(matches!(events[at + 1], Event::NodeAbsent { from, until } if from == last_seen && until > from));
    let alerts = scene.alerts("node-crashed");
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].message.contains(&last_seen.to_string()), "{}", alerts[0].message);

    // A goodbye is no crash, but the node was away all the same.
    scene.node.stop();
    scene.node.start_again();
    let events = scene.events();
    let count = |is: fn(&Event) -> bool| events.iter().filter(|e| is(e)).count();
    assert_eq!(count(|e| matches!(e, Event::NodeCrashed { .. })), 1);
    assert_eq!(count(|e| matches!(e, Event::NodeAbsent { .. })), 2);
    assert_eq!(scene.alerts("node-crashed").len(), 1);
    scene.cli.run(["log", "check"]).is(0);
}

#[test]
fn when_node_launcher_and_engine_are_killed_at_once_the_next_start_wipes() {
    let mut scene = Scene::new();
    let job = scene.run();
    let all = family(scene.node.pid());
    let pids: Vec<u32> = all.iter().map(|p| p.pid).collect();
    assert!(signal_all("KILL", &pids));
    scene.node.crash();
    are_gone(&all);
    scene.node.start_again();
    scene.consumer().wait(job).failed(Reason::EngineLost);
    assert!(scene.receipt_says_wiped(job));
    scene.ended_once(job);
    scene.is_gone(job);
    scene.is_free();
}

#[test]
fn a_container_that_runs_while_node_and_launcher_are_killed_is_ended_wiped_and_told() {
    let mut scene = Scene::new();
    let job = scene.run_contained();
    let all = family(scene.node.pid());
    for name in ["decores-helper", "engine", "sleep"] {
        assert!(all.iter().any(|p| p.name == name), "no `{name}` in {all:?}");
    }
    assert!(signal_all("KILL", &[scene.node.pid(), process(&scene.node, "decores-launch")]));
    scene.node.crash();
    are_gone(&all);
    let left = groups(job);
    assert!(left.iter().any(|group| group.ends_with(&format!("{job}-1.container"))), "nobody removed them: {left:?}");

    scene.node.start_again();
    scene.consumer().wait(job).failed(Reason::EngineLost);
    assert!(scene.receipt_says_wiped(job));
    assert_eq!(scene.wipes(job), [true]);
    scene.ended_once(job);
    scene.is_gone(job);
    assert!(scene.events().iter().any(|e| matches!(e, Event::NodeCrashed { .. })));
    assert_eq!(scene.alerts("node-crashed").len(), 1);
    scene.is_free();
}

#[test]
fn a_node_whose_launcher_dies_stops_with_an_error_and_the_next_start_mends() {
    let mut scene = Scene::new();
    let (running, waiting) = (scene.run(), scene.queue());
    let all = family(scene.node.pid());
    signal("KILL", process(&scene.node, "decores-launch"));
    let code = scene.node.ended();
    assert_eq!(code, Some(1), "a service manager must see a failure");
    assert!(scene.node.log().contains("the process that starts engines is gone"));
    are_gone(&all);
    scene.node.start_again();
    scene.consumer().wait(running).failed(Reason::EngineLost);
    scene.consumer().wait(waiting).failed(Reason::Resubmit);
    assert!(!scene.receipt_says_wiped(running), "nobody was there to look");
    assert!(scene.receipt_says_wiped(waiting));
    assert_eq!(scene.wipes(running), [false, true], "the start finished it");
    assert_eq!(scene.left(), Vec::<Vec<String>>::new());
    for job in [running, waiting] {
        scene.ended_once(job);
        scene.is_gone(job);
    }
    let stopped = |e: &Event| matches!(e, Event::NodeStopped { reason } if reason.as_str() == "launcher-lost");
    assert!(scene.events().iter().any(stopped));
    assert!(scene.alerts("node-crashed").is_empty(), "it said goodbye");
    scene.is_free();
}

/// A file that nothing can delete, until it is allowed again.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: PathBuf) -> Self {
        let changed = Command::new("chattr").arg("+i").arg(&path).status().unwrap();
        assert!(changed.success(), "this test must be root, on a file system with attributes (ext4, xfs, btrfs)");
        Self(path)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let changed = Command::new("chattr").arg("-i").arg(&self.0).status();
        assert!(std::thread::panicking() || changed.is_ok_and(|c| c.success()));
    }
}

#[test]
fn a_payload_that_cannot_be_deleted_blocks_its_place_until_it_is_mended() {
    let mut scene = Scene::new();
    let (job, waiting) = (scene.run(), scene.queue());
    let immutable = Immutable::new(scene.payload(job));
    scene.cancel(job);
    // Nothing is wrong with what waited: its client has it still, and may submit it again.
    scene.consumer().wait(waiting).failed(Reason::Resubmit);
    assert!(scene.receipt_says_wiped(waiting));
    assert!(!scene.receipt_says_wiped(job));
    assert_eq!(scene.left(), [["sealed-input"]]);
    assert!(scene.alerts("wipe-incomplete")[0].message.contains("sealed-input"));
    scene.cli.run(["status"]).is(0).says("1 unfinished").says("sealed-input").says(&job.to_string());
    scene.is_blocked();

    // Neither trying while it is held nor a restart changes that.
    let mend = scene.cli.run(["doctor", "--mend"]).is(1);
    mend.says("Operation not permitted").says("0 cleared, 1 left");
    scene.node.stop();
    scene.cli.run(["doctor", "--mend"]).is(4).says("when it starts");
    scene.node.start_again();
    assert_eq!(scene.left(), [["sealed-input"]]);
    scene.is_blocked();
    assert_eq!(scene.wipes(job), [false], "nothing changed, nothing was said");

    drop(immutable);
    let mend = scene.cli.run(["doctor", "--mend", "--json"]).is(0).json();
    assert_eq!(mend["cleared"][0]["job"], job.to_string());
    assert!(mend["left"].as_array().unwrap().is_empty());
    assert_eq!(scene.wipes(job), [false, true]);
    assert_eq!(scene.left(), Vec::<Vec<String>>::new());
    scene.is_gone(job);
    scene.is_free();
    scene.cli.run(["doctor", "--mend"]).is(0).says("every wipe is finished");
    assert!(!scene.receipt_says_wiped(job), "the receipt keeps the truth");
    let receipt = scene.cli.write("r.json", &scene.consumer().receipt(job));
    scene.cli.run(["verify", receipt.to_str().unwrap(), "--require", "wipe"]).is(3).says("`wipe` does not hold");
}

/// A process that holds a job's mounts, until it is ended.
struct Holder(Child);

impl Holder {
    fn new(engine: u32) -> Self {
        // A jail has no programs, so this one is loaded before it enters; 0x20000 is CLONE_NEWNS.
        let enter = "import ctypes, os, sys, time\n\
                     view = os.open(f'/proc/{sys.argv[1]}/ns/mnt', os.O_RDONLY)\n\
                     assert ctypes.CDLL(None).setns(view, 0x20000) == 0\n\
                     time.sleep(600)";
        let mut python = Command::new("python3");
        python.args(["-c", enter, &engine.to_string()]).stdin(Stdio::null());
        Self(python.spawn().unwrap_or_else(|e| panic!("this test needs python3 ({e})")))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_busy_mount_blocks_its_place_until_it_is_mended() {
    let mut scene = Scene::new();
    let job = scene.run();
    let holder = hold_mounts(&scene, job);
    scene.cancel(job);
    assert!(!scene.receipt_says_wiped(job));
    assert!(scene.left()[0].contains(&"mounts".to_owned()), "{:?}", scene.left());
    scene.is_blocked();
    let mend = scene.cli.run(["doctor", "--mend"]).is(1);
    mend.says("mounts").says("/mountinfo").says("0 cleared, 1 left");
    scene.node.stop();
    scene.node.start_again();
    assert!(scene.left()[0].contains(&"mounts".to_owned()), "{:?}", scene.left());
    scene.is_blocked();

    drop(holder);
    scene.cli.run(["doctor", "--mend"]).is(0).says("1 cleared, 0 left");
    assert_eq!(scene.wipes(job).last(), Some(&true));
    scene.is_gone(job);
    scene.is_free();
    assert!(!scene.receipt_says_wiped(job), "the receipt keeps the truth");
}

/// Enters the view that the job's engine has of the file systems.
fn hold_mounts(scene: &Scene, job: JobId) -> Holder {
    let holder = Holder::new(process(&scene.node, "engine"));
    let mounts = format!("/proc/{}/mountinfo", holder.0.id());
    until("the mounts are held", 10, || {
        fs::read_to_string(&mounts).unwrap().contains(&format!("{job}-1")).then_some(())
    });
    holder
}

#[test]
fn a_payload_of_nobody_that_cannot_be_deleted_is_told_and_blocks_no_place() {
    let mut scene = Scene::new();
    scene.node.stop();
    let job = JobId::from_bytes([7; 16]);
    fs::write(scene.payload(job), b"sealed").unwrap();
    let immutable = Immutable::new(scene.payload(job));
    scene.node.start_again();
    assert_eq!(scene.left(), [["sealed-input"]]);
    assert_eq!(scene.alerts("wipe-incomplete").len(), 1);
    scene.is_free();
    drop(immutable);
    scene.node.stop();
    scene.node.start_again();
    assert_eq!(scene.left(), Vec::<Vec<String>>::new(), "the next start tries again by itself");
    scene.is_gone(job);
}

#[test]
fn a_result_that_cannot_be_kept_ends_as_lost_is_deleted_and_may_be_tried_again() {
    let scene = Scene::new();
    let job = Job::new(&wasm::patient(3_000), Input::default());
    let view: JobView = scene.consumer().submit(&job).json();
    scene.consumer().wait_for(view.job, |view| view.state == JobState::Running);
    // Nothing can be renamed to it, nor is it deleted like a file.
    let name = scene.node.home().join(format!("blobs/{}-1.output", view.job));
    fs::create_dir(&name).unwrap();
    scene.consumer().wait(view.job).failed(Reason::EngineLost);
    assert!(scene.alerts("engine-lost")[0].message.contains("could not be kept"));
    assert_eq!(scene.left(), [["sealed-output"]]);
    assert!(!scene.receipt_says_wiped(view.job));
    scene.is_blocked();
    fs::remove_dir(&name).unwrap();
    scene.cli.run(["doctor", "--mend"]).is(0).says("1 cleared, 0 left");
    scene.is_free();
    assert_eq!(scene.consumer().submit(&job).status, 201);
    scene.consumer().wait(view.job).is(JobState::Done, Reason::Completed);
}

#[test]
fn mending_takes_nothing_from_an_attempt_that_began_since() {
    let mut scene = Scene::new();
    let limits = Limits { wall_ms: 600_000, ..Limits::default() };
    let job = Job::limited(&wasm::loops(), Input::default(), limits);
    let view: JobView = scene.consumer().submit(&job).json();
    scene.consumer().wait_for(view.job, |view| view.state == JobState::Running);
    scene.node.crash();
    // As if a second attempt had been stored and never queued.
    let payload = scene.node.home().join(format!("blobs/{}-2.payload", view.job));
    fs::write(&payload, b"sealed").unwrap();
    let immutable = Immutable::new(payload.clone());
    scene.node.start_again();
    scene.consumer().wait(view.job).failed(Reason::EngineLost);
    assert_eq!(scene.left(), [["sealed-input"]]);
    drop(immutable);
    fs::remove_file(&payload).unwrap();

    assert_eq!(scene.consumer().submit(&job).status, 201);
    scene.consumer().wait_for(view.job, |view| view.state == JobState::Running);
    scene.cli.run(["doctor", "--mend"]).is(1).says("0 cleared, 1 left");
    assert!(payload.exists(), "the payload of an attempt that runs");
    scene.cancel(view.job);
    assert!(!payload.exists());
    assert_eq!(scene.left(), Vec::<Vec<String>>::new(), "its end forgets what was known under its name");
}

#[test]
fn the_doctor_counts_unfinished_wipes_where_no_node_runs_and_asks_one_that_does() {
    let mut scene = Scene::new();
    // The same home for both: the node of this folder is the one we are logged in to.
    std::os::unix::fs::symlink(scene.node.home(), scene.cli.home().join("node")).unwrap();
    scene.cli.run(["doctor"]).says("every wipe is finished");
    let job = scene.run();
    let immutable = Immutable::new(scene.payload(job));
    scene.cancel(job);
    scene.cli.run(["doctor"]).is(1).says("unfinished wipes: 1");
    let stranger = Cli::default();
    fs::create_dir_all(stranger.home()).unwrap();
    std::os::unix::fs::symlink(scene.node.home(), stranger.home().join("node")).unwrap();
    stranger.run(["doctor"]).says("not known").says("decores login");
    scene.node.stop();
    scene.cli.run(["doctor"]).is(1).says("unfinished wipes: 1");
    drop(immutable);
    scene.node.start_again();
    scene.cli.run(["doctor"]).says("every wipe is finished");
    // What a crash cut off counts as well.
    scene.run();
    scene.node.crash();
    scene.cli.run(["doctor"]).is(1).says("unfinished wipes: 1").says("decores up");
    scene.node.start_again();
    scene.cli.run(["doctor"]).says("every wipe is finished");
}
