//! Bad days: the disk full, descriptors and memory used up. The node stops promising before it stops working, says so,
//! and goes on by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_api::admin::Alert;
use decores_api::headers::{IDEMPOTENCY_KEY, SUBMISSION};
use decores_api::jobs::Job as JobView;
use decores_api::log::LogEntries;
use decores_api::paths;
use decores_audit::event::{Entry, Event};
use decores_audit::verify::verify;
use decores_tests::cli::Cli;
use decores_tests::consumer::{Consumer, path};
use decores_tests::image::Image;
use decores_tests::job::{Input, Job, submission};
use decores_tests::node::{Node, Settings};
use decores_tests::transport::{Line, Response, head};
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::{JobState, Limits, Reason};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A small disk of its own for a node's home.
struct Disk {
    image: Image,
    folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("decores-disk-").tempdir().unwrap();
        let open = |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        // Jobs' users must reach the jails inside.
        open(folder.path().to_owned(), 0o711);
        let image = Image::make(&folder.path().join("image"), &folder.path().join("home"))
            .expect("this test must be root, with mkfs.ext4 and loop devices");
        let this = Self { image, folder };
        open(this.home(), 0o700);
        this
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Names of sealed files.
    fn blobs(&self) -> Vec<String> {
        let files = fs::read_dir(self.home().join("blobs")).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// A job that runs until it is stopped.
fn endless() -> Job {
    Job::limited(&wasm::loops(), Input::default(), Limits { wall_ms: 600_000, ..Limits::default() })
}

/// Waits until the node says that it is short of something, by this name.
fn becomes(consumer: &Consumer<'_>, cause: &str) {
    until(cause, 60, || consumer.status().degraded.iter().any(|found| found == cause).then_some(()));
}

fn recovers(consumer: &Consumer<'_>) {
    until("the node goes on", 120, || consumer.status().degraded.is_empty().then_some(()));
}

/// A refusal that names its cause and says when to ask again.
#[track_caller]
fn refuses(answer: &Response, cause: &str) {
    answer.refused(503, "unavailable");
    let body = String::from_utf8_lossy(&answer.body);
    assert!(body.contains(&format!("({cause})")), "{body}");
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
}

fn events(node: &Node) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let page: LogEntries =
            node.operator().get(&format!("{}?from={}&limit=100", paths::LOG_ENTRIES, events.len())).json();
        if page.entries.is_empty() {
            return events;
        }
        events.extend(page.entries.iter().map(|entry| Entry::parse(&entry.entry.0).unwrap().event));
    }
}

/// That the log tells of the cause's beginning, and then of its end, once each; and an alert of the beginning.
fn told(node: &Node, cause: &str) {
    let tells = until("the log tells of it", 60, || {
        let tells: Vec<bool> = events(node)
            .into_iter()
            .filter_map(|event| match event {
                Event::NodeDegraded { cause: found } if found.as_str() == cause => Some(true),
                Event::NodeRecovered { cause: found } if found.as_str() == cause => Some(false),
                _ => None,
            })
            .collect();
        (tells.last() == Some(&false)).then_some(tells)
    });
    assert!(tells.iter().enumerate().all(|(at, degraded)| *degraded == (at % 2 == 0)), "{tells:?}");
    let alerts: Vec<Alert> = node.operator().get(paths::ALERTS).json();
    let alert = alerts.iter().find(|a| a.kind == "node-degraded" && a.message.contains(&format!("({cause})")));
    assert!(alert.is_some(), "{alerts:?}");
}

fn consistent(node: &Node) {
    let operator = node.operator();
    let cli = Cli::logged_in(node, operator.key());
    until("the log takes in what was written", 60, || (cli.run(["log", "check"]).code == 0).then_some(()));
}

fn holds(node: &Node, consumer: &Consumer<'_>, view: &JobView) {
    let report = verify(&consumer.receipt(view.job), &node.trust(), None, &[]).unwrap();
    assert!(report.is_accepted(), "{:#?}", report.verdict);
}

/// The disk fills up while one job runs, one waits, and a third one's payload is arriving.
#[test]
fn a_full_disk_loses_nothing_that_was_promised() {
    let disk = Disk::new();
    let settings = Settings { home: Some(disk.home()), slots: 1, body_seconds: 60, ..Settings::default() };
    let node = Node::with(&settings);
    let consumer = node.consumer();
    assert!(consumer.status().degraded.is_empty(), "{:?}", consumer.status().degraded);
    let before = Job::new(&wasm::cat(), Input::stdin(b"before"));
    let ended = consumer.run(&before);
    ended.is(JobState::Done, Reason::Completed);
    let (running, waiting) = (endless(), endless());
    let running: JobView = consumer.submit(&running).json();
    consumer.wait_for(running.job, |view| view.state == JobState::Running);
    let waiting: JobView = consumer.submit(&waiting).json();

    // What will not fit is refused before it is sent.
    let headers = [("content-type", SUBMISSION), (IDEMPOTENCY_KEY, "0123456789abcdef")];
    refuses(&announce(&node, &consumer, &headers, 100 << 20), "disk");
    let late = Job::new(&wasm::cat(), Input::stdin(&vec![7; 4 << 20]));
    let (mut line, rest) = half(&node, &consumer, &late);
    let spare = consumer.offer();

    disk.image.fill().unwrap();
    becomes(&consumer, "disk");
    refuses(&consumer.ask_offer(), "disk");
    let job = Job::new(&wasm::nothing(), Input::default());
    let payload = job.seal(spare.recipient(), &job.binding(consumer.id(), &spare));
    refuses(&consumer.send(&job, spare.document().offer, &payload), "disk");
    // What was acknowledged is acknowledged again, whatever the node is short of.
    let payload = before.seal(spare.recipient(), &before.binding(consumer.id(), &spare));
    let again = consumer.send(&before, spare.document().offer, &payload);
    assert_eq!((again.status, again.json::<JobView>().job), (200, ended.view.job));
    let _ = line.write_all(&rest);
    Response::read(&mut line).unwrap().refused(503, "unavailable");
    until("a payload that was not taken is gone", 60, || {
        let kept = disk.blobs().iter().filter(|name| name.contains(".payload")).count();
        // Of the running and the waiting job.
        (kept == 2).then_some(())
    });
    let metrics = String::from_utf8(node.operator().get(paths::METRICS).body).unwrap();
    assert!(metrics.contains("decores_degraded{cause=\"disk\"} 1"), "{metrics}");
    assert!(metrics.contains("decores_degraded{cause=\"memory\"} 0"), "{metrics}");

    // What was promised goes on: results are fetched, and a job is stopped and wiped, whether or not it can be written.
    assert_eq!(consumer.output(&before, &ended).stdout, b"before");
    let stopped = consumer.post(&path(paths::JOB_CANCEL, waiting.job), b"").status;
    assert!(stopped == 200 || stopped == 503, "{stopped}");
    // What was written found room in what the store had already; what was not is said.
    if stopped == 503 {
        becomes(&consumer, "store");
    }
    until("its payload is gone", 60, || {
        let kept = disk.blobs().iter().filter(|name| name.contains(".payload")).count();
        (kept == 1).then_some(())
    });

    disk.image.free().unwrap();
    recovers(&consumer);
    consumer.wait(waiting.job).is(JobState::Cancelled, Reason::ByConsumer);
    assert_eq!(consumer.post(&path(paths::JOB_CANCEL, running.job), b"").status, 200);
    let running = consumer.wait(running.job);
    running.is(JobState::Cancelled, Reason::ByConsumer);
    for view in [&ended.view, &waiting, &running.view] {
        holds(&node, &consumer, view);
    }
    // The offers that were refused are used up or expired; a new one does.
    consumer.run(&late).is(JobState::Done, Reason::Completed);
    told(&node, "disk");
    consistent(&node);
}

/// A submission's head, with this length and no payload.
fn announce(node: &Node, consumer: &Consumer<'_>, headers: &[(&str, &str)], length: usize) -> Response {
    let bearer = format!("Bearer {}", consumer.key());
    let headers = [&[("authorization", bearer.as_str())], headers].concat();
    let mut line = node.transport().connect().unwrap();
    line.write_all(head("POST", paths::JOBS, &headers, length).as_bytes()).unwrap();
    Response::read(&mut line).unwrap()
}

/// Sends the first half of a submission; gives back the second.
fn half(node: &Node, consumer: &Consumer<'_>, job: &Job) -> (Line, Vec<u8>) {
    let offer = consumer.offer();
    let payload = job.seal(offer.recipient(), &job.binding(consumer.id(), &offer));
    let mut body = submission(offer.document().offer, &job.spec, &payload);
    let bearer = format!("Bearer {}", consumer.key());
    let key = job.idempotency_key.as_str();
    let headers = [("authorization", bearer.as_str()), ("content-type", SUBMISSION), (IDEMPOTENCY_KEY, key)];
    let mut line = node.transport().connect().unwrap();
    line.write_all(head("POST", paths::JOBS, &headers, body.len()).as_bytes()).unwrap();
    let rest = body.split_off(body.len() / 2);
    line.write_all(&body).unwrap();
    line.flush().unwrap();
    (line, rest)
}

/// A file that can be written, but not renamed or deleted, not even by root, until it is allowed again.
struct AppendOnly(PathBuf);

impl AppendOnly {
    fn new(path: PathBuf) -> Self {
        let changed = Command::new("chattr").arg("+a").arg(&path).status().unwrap();
        assert!(changed.success(), "this test must be root, on a file system with attributes (ext4, xfs, btrfs)");
        Self(path)
    }
}

impl Drop for AppendOnly {
    fn drop(&mut self) {
        let changed = Command::new("chattr").arg("-a").arg(&self.0).status();
        assert!(std::thread::panicking() || changed.is_ok_and(|c| c.success()));
    }
}

/// The next try of a job is in the way of the one after it: both sides learn why, and mending ends it.
#[test]
fn a_payload_that_was_not_taken_and_cannot_be_deleted_is_told_and_mended() {
    let mut node = Node::with(&Settings { body_seconds: 60, ..Settings::default() });
    let limits = Limits { wall_ms: 600_000, ..Limits::default() };
    let job = Job::limited(&wasm::loops(), Input::stdin(&vec![7; 1 << 20]), limits);
    // The consumer's own key outlives the node's crash.
    let key = node.consumer().key().to_owned();
    let view: JobView = Consumer::new(&node, &key).submit(&job).json();
    Consumer::new(&node, &key).wait_for(view.job, |view| view.state == JobState::Running);
    node.crash();
    node.start_again();
    Consumer::new(&node, &key).wait(view.job).failed(Reason::EngineLost);

    let blobs = node.home().join("blobs");
    let arriving = || {
        let mut files = fs::read_dir(&blobs).unwrap().map(|file| file.unwrap().path());
        files.find(|path| path.display().to_string().contains("/.tmp-"))
    };
    let (mut line, rest) = half(&node, &Consumer::new(&node, &key), &job);
    until("the payload arrives", 60, &arriving);
    Consumer::new(&node, &key).submit(&job).refused(409, "state-conflict");
    let kept = AppendOnly::new(arriving().unwrap());
    line.write_all(&rest).unwrap();
    Response::read(&mut line).unwrap().refused(503, "unavailable");
    let left = |node: &Node| -> Vec<_> {
        node.operator().status().leftovers.unwrap().into_iter().map(|left| (left.job, left.what)).collect()
    };
    let expected = [(view.job, vec!["sealed-input".to_owned()])];
    until("it is remembered", 60, || (left(&node) == expected).then_some(()));
    let alerts = |node: &Node| {
        let alerts: Vec<Alert> = node.operator().get(paths::ALERTS).json();
        alerts.iter().filter(|a| a.kind == "wipe-incomplete" && a.message.contains(&view.job.to_string())).count()
    };
    until("an alert tells of it", 60, || (alerts(&node) == 1).then_some(()));
    let told = until("nobody is taking it", 60, || {
        let answer = Consumer::new(&node, &key).submit(&job);
        (answer.status != 409).then_some(answer)
    });
    told.refused(503, "unavailable");
    let body = String::from_utf8_lossy(&told.body);
    assert!(body.contains("could not be deleted") && body.contains("operator was told"), "{body}");

    // It keeps no node from starting.
    node.stop();
    node.start_again();
    assert_eq!((left(&node), alerts(&node)), (expected.to_vec(), 1));
    drop(kept);
    let cli = Cli::logged_in(&node, node.operator().key());
    cli.run(["status"]).is(0).says("sealed-input").says("mend: decores doctor --mend");
    cli.run(["doctor", "--mend"]).is(0).says("1 cleared, 0 left");
    assert!(arriving().is_none() && left(&node).is_empty());
    let consumer = Consumer::new(&node, &key);
    let again: JobView = consumer.submit(&job).json();
    assert_eq!((again.job, again.attempt.0), (view.job, 2));
    assert_eq!(consumer.post(&path(paths::JOB_CANCEL, view.job), b"").status, 200);
}

/// A folder in a file's place cannot be removed as one.
#[test]
fn a_half_written_file_that_cannot_be_removed_keeps_no_node_from_starting() {
    let mut node = Node::start();
    node.stop();
    let job = "job_0102030405060708090a0b0c0d0e0f10";
    fs::create_dir(node.home().join(format!("blobs/.tmp-{job}-1.output"))).unwrap();
    node.start_again();
    let left = node.operator().status().leftovers.unwrap();
    assert_eq!(
        left.iter().map(|left| (left.job.to_string(), left.what.clone())).collect::<Vec<_>>(),
        [(job.to_owned(), vec!["sealed-output".to_owned()])]
    );
    let alerts: Vec<Alert> = node.operator().get(paths::ALERTS).json();
    assert!(alerts.iter().any(|a| a.kind == "wipe-incomplete" && a.message.contains(job)), "{alerts:?}");
}

/// The disk is full while a job ends: its end waits, its wipe does not.
#[test]
fn a_job_that_ends_on_a_full_disk_is_wiped_and_told_of_later() {
    let disk = Disk::new();
    let node = Node::with(&Settings { home: Some(disk.home()), ..Settings::default() });
    let consumer = node.consumer();
    let limits = Limits { wall_ms: 6_000, ..Limits::default() };
    let job = Job::limited(&wasm::loops(), Input::default(), limits);
    let view: JobView = consumer.submit(&job).json();
    consumer.wait_for(view.job, |view| view.state == JobState::Running);
    disk.image.fill().unwrap();
    becomes(&consumer, "disk");
    until("its payload is gone", 60, || disk.blobs().iter().all(|n| !n.contains(".payload")).then_some(()));
    disk.image.free().unwrap();
    // There was no room to seal its logs, so its engine had nothing to say; its client may submit it again.
    let ended = consumer.wait(view.job);
    ended.failed(Reason::EngineLost);
    assert!(ended.view.resubmit);
    holds(&node, &consumer, &view);
    recovers(&consumer);
    told(&node, "disk");
    consistent(&node);
}

#[test]
fn idle_connections_use_up_their_share_of_descriptors_and_no_more() {
    let settings = Settings {
        open_files: Some(256),
        connections: 1000,
        head_seconds: 20,
        reserve: [8 << 20, 64 << 20, 96],
        ..Settings::default()
    };
    let node = Node::with(&settings);
    let consumer = node.consumer();
    let job = endless();
    let running: JobView = consumer.submit(&job).json();
    consumer.wait_for(running.job, |view| view.state == JobState::Running);
    let mut idle = Vec::new();
    while consumer.status().degraded.is_empty() {
        assert!(idle.len() < 256, "the node has 256 descriptors in all");
        idle.push(node.transport().connect().unwrap());
    }
    assert_eq!(consumer.status().degraded, ["descriptors"]);
    refuses(&consumer.ask_offer(), "descriptors");
    // Far more than there is room for: they wait, and what runs goes on.
    let waiting: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(node.address()).unwrap()).collect();
    assert!(consumer.get(&path(paths::JOB, running.job)).status == 200);
    assert_eq!(consumer.post(&path(paths::JOB_CANCEL, running.job), b"").status, 200);
    drop((idle, waiting));
    recovers(&consumer);
    consumer.run(&Job::new(&wasm::nothing(), Input::default())).is(JobState::Done, Reason::Completed);
    told(&node, "descriptors");
    assert!(!node.log().contains("failed to accept"), "the accept loop never ran out of descriptors");
}

#[test]
fn a_node_without_the_memory_it_reserves_takes_nothing_and_says_so() {
    let node = Node::with(&Settings { reserve: [8 << 20, 1 << 50, 128], ..Settings::default() });
    let operator = node.operator();
    assert_eq!(operator.status().degraded, ["memory"]);
    refuses(&operator.ask_offer(), "memory");
    until("the log and an alert tell of it", 60, || {
        let told = events(&node)
            .into_iter()
            .any(|event| matches!(event, Event::NodeDegraded { cause } if cause.as_str() == "memory"));
        told.then_some(())
    });
    let cli = Cli::logged_in(&node, operator.key());
    cli.run(["status"]).is(0).says("nothing new for now: its memory is nearly used up (memory)");
    assert_eq!(cli.run(["status", "--json"]).is(0).json()["degraded"], serde_json::json!(["memory"]));
    cli.run(["alert", "list"]).is(0).says("memory is nearly used up");
}
