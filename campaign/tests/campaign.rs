//! The crash campaign in small, and that its looks find what they look for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_audit::Checkpoint;
use decores_audit::event::{Entry, Event};
use decores_audit::tree::{Head, grow};
use decores_audit::{Code, LogKey};
use decores_campaign::checks::{acknowledged, leftovers, log, plaintext};
use decores_campaign::client::{Book, Client, Watched};
use decores_campaign::nest::{Nest, is_root};
use decores_campaign::plan::{Cut, Damage, Full, Kind, Program, Victim, run};
use decores_campaign::report::{Campaign, summary};
use decores_campaign::{Finding, Wrong};
use decores_system::SystemRandom;
use decores_tests::node::Settings;
use decores_tests::wait::until;
use decores_types::ambient::random_bytes;
use decores_types::digest::log_commitment;
use decores_types::{Attempt, ConsumerId, Digest, JobId, JobState, Reason, Timestamp, WipeCategory};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

fn kinds(findings: &[Finding]) -> Vec<Wrong> {
    findings.iter().map(|finding| finding.kind).collect()
}

/// One run of each kind of damage, each on a home of its own. What needs root is named as not run without it.
#[test]
fn every_kind_of_damage_loses_nothing_and_leaves_nothing() {
    const SEED: u64 = 3;
    let wanted: [fn(Damage) -> bool; 12] = [
        |d| d == Damage::Kill(Victim::Node),
        |d| d == Damage::Kill(Victim::Engine),
        |d| d == Damage::Kill(Victim::Launcher),
        |d| d == Damage::Kill(Victim::All),
        |d| d == Damage::Kill(Victim::Helper),
        |d| d == Damage::Kill(Victim::Supervisors),
        |d| d == Damage::Kill(Victim::Service),
        |d| d == Damage::Power(Cut::Image),
        |d| d == Damage::Power(Cut::Tail),
        |d| d == Damage::Disk(Full::Killed),
        |d| matches!(d, Damage::Inject(fault) if fault.calls.contains("fsync")),
        |d| d == Damage::Stop(Victim::Node),
    ];
    let first = |fits: &fn(Damage) -> bool| (0..300).find(|index| fits(run(SEED, *index).damage)).unwrap();
    let mut campaign = Campaign::new(SEED, 0, &Kind::ALL, "cargo xtask campaign crash");
    campaign.indexes = wanted.iter().map(first).collect();
    let ran = campaign.go(&|ran| println!("{}", ran.tell(&campaign)));
    println!("{}", summary(&campaign, &ran));
    assert_eq!(ran.len(), wanted.len());
    for ran in &ran {
        assert!(ran.is_good() || (ran.outcome.is_err() && !is_root()), "{}", ran.tell(&campaign));
    }
}

#[test]
fn a_planted_secret_is_found() {
    let secret = random_bytes::<64>(&SystemRandom);
    let (folder, before) = (tempfile::tempdir().unwrap(), SystemTime::now_before());
    fs::create_dir(folder.path().join("deep")).unwrap();
    fs::write(folder.path().join("deep/innocent"), [&secret[..63], b"x"].concat()).unwrap();
    assert_eq!(plaintext::in_folder(folder.path(), &secret), []);
    // Across the pieces in which a file is read.
    let mut long = vec![secret[0]; (4 << 20) - 30];
    long.extend_from_slice(&secret);
    fs::write(folder.path().join("deep/planted"), long).unwrap();
    let found = plaintext::in_folder(folder.path(), &secret);
    assert_eq!(kinds(&found), [Wrong::Plaintext], "{found:?}");
    assert!(found[0].what.contains("deep/planted"));
    let found = plaintext::in_shared_folders(&secret, before);
    assert!(found.iter().any(|f| f.what.contains("deep/planted")), "{found:?}");
}

/// A moment that certainly lies before what is written next.
trait Before {
    fn now_before() -> SystemTime;
}

impl Before for SystemTime {
    fn now_before() -> SystemTime {
        let probe = tempfile::NamedTempFile::new().unwrap();
        probe.as_file().metadata().unwrap().modified().unwrap() - Duration::from_secs(1)
    }
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_job_left_is_found() {
    let [home, place, states] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let job = JobId::from_bytes(random_bytes(&SystemRandom));
    let bare = job.to_string().trim_start_matches("job_").to_owned();
    let uid = 1_999_000_000 + u32::from(random_bytes::<1>(&SystemRandom)[0]);
    let look = |family: &[u32]| {
        let (uids, states) = ([uid - 1..uid, uid..uid + 1], [states.path()]);
        let idle = leftovers::Idle {
            home: home.path(),
            places: &[home.path(), place.path()],
            states: &states,
            image: None,
            uids: &uids,
            family,
            jobs: &[job],
        };
        leftovers::look(&idle).into_iter().map(|f| f.what).collect::<Vec<_>>()
    };
    for folder in ["jails/probe-1", "scratch", "blobs"] {
        fs::create_dir_all(home.path().join(folder)).unwrap();
    }
    assert_eq!(look(&[]), Vec::<String>::new());

    for left in [format!("jails/job_{bare}-1"), format!("scratch/job_{bare}-1")] {
        fs::create_dir(home.path().join(&left)).unwrap();
        assert!(look(&[]).iter().any(|what| what.contains(&left)));
        fs::remove_dir(home.path().join(&left)).unwrap();
    }
    for left in [place.path().join(format!("jails/job_{bare}-1")), states.path().join("job")] {
        fs::create_dir_all(&left).unwrap();
        assert!(look(&[]).iter().any(|what| what.contains(left.to_str().unwrap())));
        fs::remove_dir(left).unwrap();
    }
    for left in [format!("blobs/.tmp-job_{bare}-1.output"), format!("blobs/job_{bare}-1.payload")] {
        fs::write(home.path().join(&left), "").unwrap();
        assert!(look(&[]).iter().any(|what| what.contains(&left)));
        fs::remove_file(home.path().join(&left)).unwrap();
    }

    let sleeper = Command::new("sleep").arg("60").env("PLANTED", home.path()).spawn().unwrap();
    let sleeper = Running(sleeper);
    until("the process bears its environment", 5, || (look(&[]).len() == 1).then_some(()));
    assert_eq!(look(&[sleeper.0.id()]), Vec::<String>::new(), "a node's own process is none");
    drop(sleeper);
    assert_eq!(look(&[]), Vec::<String>::new());

    if !is_root() {
        println!("not run: a planted user, mount and control group need root");
        return;
    }
    let user = Command::new("setpriv").args(["--reuid", &uid.to_string(), "--clear-groups", "sleep", "60"]).spawn();
    let user = Running(user.unwrap());
    until("the process has its user", 5, || look(&[]).iter().any(|what| what.contains("job user")).then_some(()));
    drop(user);

    let mount = format!("mount -t tmpfs decores:job_{bare} {} && sleep 60", place.path().display());
    let mounted = Command::new("unshare").args(["-m", "sh", "-c", &mount]).stdin(Stdio::null()).spawn().unwrap();
    let mounted = Running(mounted);
    until("the mount is there", 5, || look(&[]).iter().any(|what| what.contains("a mount")).then_some(()));
    // Its namespace, and with it the mount, ends with the last process in it.
    let inside: Vec<u32> = decores_tests::machine::family(mounted.0.id()).iter().map(|p| p.pid).collect();
    decores_tests::node::signal_all("KILL", &inside);
    drop(mounted);

    match group(&bare) {
        Some(group) => {
            assert!(look(&[]).iter().any(|what| what.contains("control group")));
            fs::remove_dir(group).unwrap();
        }
        None => println!("not run: this machine has no control group hierarchy that can be written"),
    }
    until("nothing is left", 5, || look(&[]).is_empty().then_some(()));
}

/// A control group for a job, wherever one can be made.
fn group(job: &str) -> Option<std::path::PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let folders = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .chain([root.to_owned()])
        .map(|folder| folder.join(format!("test-{job}-1.container")))
        .find(|g| fs::create_dir(g).is_ok())
}

fn event(attempt: u32, kind: &str) -> Event {
    let (job, attempt) = (JobId::from_bytes([1; 16]), Attempt(attempt));
    let receipt = log_commitment(&[1; 32], "receipt", b"x");
    let wiped = |complete| Event::JobWiped {
        job,
        attempt,
        complete,
        category: WipeCategory::Clear,
        checks: [(Code::parse("processes").unwrap(), complete)].into(),
    };
    match kind {
        "running" => Event::JobState {
            job,
            attempt,
            consumer: ConsumerId::from_bytes([2; 16]),
            state: JobState::Running,
            reason: Reason::Started,
            offer: None,
            spec: None,
        },
        "done" => Event::JobEnded { job, attempt, state: JobState::Done, reason: Reason::Completed, receipt },
        "lost" => Event::JobEnded { job, attempt, state: JobState::Failed, reason: Reason::EngineLost, receipt },
        "wiped" => wiped(true),
        "not wiped" => wiped(false),
        "crashed" => Event::NodeCrashed { last_seen: Timestamp::from_ms(1), rebooted: false },
        other => Event::NodeStopped { reason: Code::parse(other).unwrap() },
    }
}

/// What is found in a log with these entries of the same job: `attempt kind`.
fn told(entries: &[(u32, &str)]) -> Vec<Wrong> {
    let events: Vec<Event> = entries.iter().map(|(attempt, kind)| event(*attempt, kind)).collect();
    kinds(&log::attempts(&events, false))
}

#[test]
fn an_attempt_without_one_end_and_one_finished_wipe_is_found() {
    let (running, lost, done, wiped) = ((1, "running"), (1, "lost"), (2, "done"), (1, "wiped"));
    assert_eq!(told(&[running, wiped, lost, (2, "running"), (2, "wiped"), done]), []);
    assert_eq!(told(&[running, (1, "not wiped"), lost, wiped]), [], "finished later");
    assert_eq!(told(&[running]), [Wrong::Failure, Wrong::Leftover]);
    assert_eq!(told(&[running, lost]), [Wrong::Leftover]);
    assert_eq!(told(&[running, wiped]), [Wrong::Failure]);
    assert_eq!(told(&[running, wiped, lost, lost]), [Wrong::Failure]);
    assert_eq!(told(&[running, (1, "not wiped"), lost]), [Wrong::Leftover]);
    assert_eq!(told(&[wiped, (1, "done"), (2, "wiped"), done]), [Wrong::Failure], "done twice");
}

#[test]
fn a_crash_that_is_not_told_is_found() {
    assert_eq!(kinds(&log::attempts(&[event(1, "signal")], true)), [Wrong::Failure]);
}

/// A log of these texts, as its tiles and its head.
fn logged(reasons: &[&str]) -> (HashMap<String, Vec<u8>>, Head) {
    let entry = |reason: &&str| Entry::new(event(1, reason), Timestamp::from_ms(1)).to_bytes().unwrap();
    let entries: Vec<Vec<u8>> = reasons.iter().map(entry).collect();
    let grown = grow(&|_| Ok(None), Head::EMPTY, &entries).unwrap();
    (grown.tiles.into_iter().map(|tile| (tile.path, tile.bytes)).collect(), grown.head)
}

#[test]
fn a_rewritten_and_a_shortened_log_are_found() {
    let key = LogKey::new("decores.local/test", [1; 32]).unwrap();
    let found = |(tiles, head): (HashMap<String, Vec<u8>>, Head), shown: &[(u64, Digest)]| {
        let newest = Checkpoint { origin: key.name().to_owned(), size: head.size, root: head.root };
        let shown: BTreeMap<u64, Digest> = shown.iter().copied().collect();
        kinds(&log::history(&|path| Ok(tiles.get(path).cloned()), &newest, &shown, &key))
    };
    let shown = |reasons: &[&str]| {
        let (_, head) = logged(reasons);
        (head.size, head.root)
    };
    assert_eq!(found(logged(&["a", "b", "c"]), &[shown(&["a"]), shown(&["a", "b"])]), []);
    assert_eq!(found(logged(&["a", "x", "c"]), &[shown(&["a"]), shown(&["a", "b"])]), [Wrong::Fork]);
    assert_eq!(found(logged(&["a"]), &[shown(&["a", "b"])]), [Wrong::Loss]);
    let (mut tiles, head) = logged(&["a", "b"]);
    tiles.values_mut().for_each(|tile| *tile.last_mut().unwrap() ^= 1);
    assert_eq!(found((tiles, head), &[shown(&["a"])]), [Wrong::Failure]);
}

#[test]
fn a_lost_key_is_found() {
    let keys: BTreeSet<_> = [[1; 16], [2; 16]].map(decores_types::ApiKeyId::from_bytes).into();
    assert_eq!(acknowledged::keys(&keys, &keys), []);
    assert_eq!(kinds(&acknowledged::keys(&keys, &keys.iter().take(1).copied().collect())), [Wrong::Loss]);
}

/// A whole node whose disk went back to how it was before a job: the looks of the campaign must not pass it.
#[test]
fn a_node_that_forgot_what_it_acknowledged_is_found() {
    let mut nest = Nest::make("forgets", &Settings::default(), false, false).unwrap();
    nest.start().unwrap();
    let mut book = Book::default();
    let client = Client::of(&nest).unwrap();
    client.make_key(&mut book).unwrap();
    nest.kill_all();
    assert_eq!(nest.wait_for_end(), Vec::<u32>::new());
    let older = nest.folder().join("older");
    assert!(Command::new("cp").arg("-a").arg(nest.home()).arg(&older).status().unwrap().success());

    nest.start().unwrap();
    let client = Client::of(&nest).unwrap();
    book.jobs.push(Watched::new(Program::Quick, &[7; 64], 0));
    client.pursue(&mut book, 0, 60_000).unwrap();
    client.checkpoint(&mut book).unwrap();
    assert_eq!(acknowledged::look(&client, &mut book, 0, false).unwrap(), []);
    assert_eq!(log::look(&client, &mut book, true).unwrap(), []);
    nest.kill_all();
    nest.wait_for_end();
    fs::remove_dir_all(nest.home()).unwrap();
    fs::rename(&older, nest.home()).unwrap();

    nest.start().unwrap();
    let client = Client::of(&nest).unwrap();
    assert!(acknowledged::look(&client, &mut book, 0, false).is_err(), "the job does not exist");
    assert_eq!(kinds(&book.findings), [Wrong::Loss]);
    let found = log::look(&client, &mut book, true).unwrap();
    assert!(found.iter().any(|f| matches!(f.kind, Wrong::Loss | Wrong::Fork)), "{found:?}");
}
