//! What the machine shows of a node: memory, disk, processes, the wire, the log on disk, a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_api::jobs::Job as JobView;
use decores_api::log::LogEntries;
use decores_api::paths;
use decores_audit::verify::verify;
use decores_system::SystemRandom;
use decores_tests::cli::Cli;
use decores_tests::consumer::{Consumer, path};
use decores_tests::job::{Input, Job};
use decores_tests::machine::{Process, family, file_holds, files, files_with, memory_holds};
use decores_tests::node::{Node, Settings};
use decores_tests::programs::repository;
use decores_tests::transport::head;
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::ambient::random_bytes;
use decores_types::{JobId, JobState, Limits, Reason};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A job that runs until it is stopped.
fn endless() -> Limits {
    Limits { wall_ms: 600_000, memory_bytes: 1 << 20, scratch_bytes: 1 << 20, ..Limits::default() }
}

/// The processes of a node whose memory holds the secret.
fn holders(node: &Node, secret: &[u8]) -> Vec<Process> {
    let folder = node.beside("cores");
    std::fs::create_dir_all(&folder).unwrap();
    let family = family(node.pid());
    assert!(family.len() >= 2, "a node is at least itself and its launcher: {family:?}");
    family.into_iter().filter(|process| memory_holds(process, secret, &folder)).collect()
}

/// Everything outside of processes: the home, and what the node wrote to its outputs.
fn places(node: &Node, secret: &[u8]) -> Vec<PathBuf> {
    let mut found = files_with(&node.home(), secret);
    let logs = ["stdout", "stderr"].map(|name| node.beside(name));
    found.extend(logs.into_iter().filter(|log| file_holds(log, secret)));
    found
}

/// Sixty-four random bytes go in; they must be in the engine's memory while the job runs, and nowhere else,
/// ever: neither in the node's processes nor in its files.
#[test]
fn a_secret_input_is_in_the_engine_only_and_nowhere_afterwards() {
    let node = Node::start();
    let consumer = node.consumer();
    let secret = random_bytes::<64>(&SystemRandom);
    let job = Job::limited(&wasm::holds_input(), Input::stdin(&secret), endless());
    let view: JobView = consumer.submit(&job).json();
    consumer.wait_for(view.job, |view| view.state == JobState::Running);
    let before: Vec<Process> = family(node.pid());
    // The program reads its input in its first moments; until then it is in no memory that is mapped.
    let during =
        until("the program has read its input", 60, || Some(holders(&node, &secret)).filter(|h| !h.is_empty()));
    assert_eq!(during.len(), 1, "{during:?} of {before:?}");
    let engine = during[0].clone();
    assert_eq!(engine.name, "engine", "{before:?}");
    assert_eq!(places(&node, &secret), Vec::<PathBuf>::new());

    assert_eq!(consumer.post(&path(paths::JOB_CANCEL, view.job), b"").status, 200);
    consumer.wait(view.job).is(JobState::Cancelled, Reason::ByConsumer);
    assert!(!family(node.pid()).contains(&engine), "the engine is gone");
    assert_eq!(holders(&node, &secret), []);
    assert_eq!(places(&node, &secret), Vec::<PathBuf>::new());

    // The same search finds it where it is put on purpose: in a file, and in the node's own memory.
    let planted = node.home().join("planted");
    std::fs::write(&planted, [b"before".as_slice(), &secret, b"after"].concat()).unwrap();
    assert_eq!(places(&node, &secret), [planted]);
    let bearer = format!("Bearer {}", consumer.key());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut line = node.transport().connect().unwrap();
    line.write_all(head("POST", paths::OFFERS, &headers, 1000).as_bytes()).unwrap();
    line.write_all(&secret).unwrap();
    line.flush().unwrap();
    let found = until("the node has read it", 5, || Some(holders(&node, &secret)).filter(|h| !h.is_empty()));
    assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [node.pid()]);
}

/// The secret of a job that ends by itself goes the same way, its output included.
#[test]
fn a_finished_jobs_input_and_output_are_nowhere_in_clear() {
    let node = Node::start();
    let consumer = node.consumer();
    let secret = random_bytes::<64>(&SystemRandom);
    let name = "a-rather-unlikely-name";
    let mut input = Input::stdin(&secret);
    input.args = vec![name.to_owned()];
    let job = Job::new(&wasm::cat(), input);
    let ended = consumer.run(&job);
    assert_eq!(consumer.output(&job, &ended).stdout, secret);
    for needle in [secret.as_slice(), name.as_bytes(), job.spec.program.to_string().as_bytes()] {
        assert_eq!(places(&node, needle), Vec::<PathBuf>::new());
    }
    assert_eq!(holders(&node, &secret), []);
}

/// What a job leaves: its sealed output and logs. No process, mount, control group or payload; rows are sealed.
#[test]
fn a_wiped_job_leaves_its_sealed_results_only() {
    let node = Node::start();
    let consumer = node.consumer();
    let quiet = family(node.pid());
    let blobs = node.home().join("blobs");
    let ended: Vec<JobId> = [
        Job::new(&wasm::cat(), Input::stdin(&[1; 100_000])),
        Job::new(&wasm::traps(), Input::default()),
        Job::limited(&wasm::loops(), Input::default(), Limits { wall_ms: 200, ..Limits::default() }),
        Job::new(b"no program", Input::default()),
    ]
    .iter()
    .map(|job| consumer.run(job).view.job)
    .collect();
    let cancelled: JobView = consumer.submit(&Job::limited(&wasm::loops(), Input::default(), endless())).json();
    consumer.wait_for(cancelled.job, |view| view.state == JobState::Running);
    consumer.post(&path(paths::JOB_CANCEL, cancelled.job), b"");
    consumer.wait(cancelled.job);

    assert_eq!(family(node.pid()), quiet, "no process is left");
    let jails = node.home().join("jails");
    let left: Vec<_> = std::fs::read_dir(&jails).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "no jail is left");
    for job in ended.iter().chain([&cancelled.job]) {
        let id = job.to_string();
        let bare = id.trim_start_matches("job_");
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let mounts = std::fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
            assert!(!mounts.contains(bare), "a mount of {id} is left in {:?}", process.path());
        }
        assert_eq!(groups_of(bare), Vec::<PathBuf>::new());
        let receipt: serde_json::Value = statement(&consumer.receipt(*job));
        assert_eq!(receipt["predicate"]["wipe"]["complete"], true, "{receipt}");
    }
    let payloads = files(&blobs).into_iter().filter(|f| f.display().to_string().contains("payload"));
    assert_eq!(payloads.collect::<Vec<_>>(), Vec::<PathBuf>::new());
    // One output (cat), and logs of the four that an engine ended.
    assert!(files(&blobs).len() <= 5, "{:?}", files(&blobs));
}

fn statement(receipt: &[u8]) -> serde_json::Value {
    serde_json::to_value(&decores_audit::receipt::Receipt::parse(receipt).unwrap().statement).unwrap()
}

/// Control groups with this in their name.
fn groups_of(name: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path());
                }
                walk(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}

/// OpenSSL, which shares nothing with our TLS, and our own client for the group that OpenSSL may not know.
#[test]
fn only_tls_1_3_is_spoken_and_post_quantum_first() {
    let node = Node::start();
    let client = |version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", version, "-connect", &node.address().to_string()]);
        command.stdin(std::process::Stdio::null());
        command.output().unwrap_or_else(|e| panic!("this test needs openssl ({e})"))
    };
    for old in ["-tls1", "-tls1_1", "-tls1_2"] {
        let output = client(old);
        assert!(!output.status.success(), "{old}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let output = client("-tls1_3");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("TLSv1.3"), "{text}");

    let line = node.transport().connect().unwrap();
    assert_eq!(line.conn.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(line.conn.alpn_protocol(), None, "none was asked for");
}

/// A scanner's opinion.
#[test]
fn sslyze_reports_tls_1_3_only() {
    let tools = std::env::var_os("DECORES_PYTOOLS").map_or_else(python_tools, PathBuf::from);
    let node = Node::start();
    let report = node.beside("sslyze.json");
    let mut sslyze = Command::new(tools.join("bin/sslyze"));
    sslyze.args(["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"]);
    let output =
        sslyze.arg(format!("--json_out={}", report.display())).arg(node.address().to_string()).output().unwrap();
    assert!(report.is_file(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let results = &report["server_scan_results"][0]["scan_result"];
    for (version, accepted) in [
        ("ssl_2_0", false),
        ("ssl_3_0", false),
        ("tls_1_0", false),
        ("tls_1_1", false),
        ("tls_1_2", false),
        ("tls_1_3", true),
    ] {
        let result = &results[format!("{version}_cipher_suites")]["result"];
        let suites = result["accepted_cipher_suites"].as_array().unwrap_or_else(|| panic!("{version}: {results}"));
        assert_eq!(!suites.is_empty(), accepted, "{version}: {suites:?}");
    }
}

fn python_tools() -> PathBuf {
    let output = Command::new(repository().join("scripts/lib/python-tools")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Go's checksum database code judges a live node's checkpoint, proof and entry.
#[test]
fn go_accepts_a_live_log_and_refuses_forgeries() {
    let node = Node::start();
    let operator = node.operator();
    let program = sumdbcheck(&node.beside("sumdbcheck"));
    let log: LogEntries = operator.get(&format!("{}?from=0", paths::LOG_ENTRIES)).json();
    let accepts = |vkey: &str, checkpoint: &str, proof: &str, entry: &[u8]| {
        let file = |name: &str, bytes: &[u8]| {
            let path = node.beside(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut check = Command::new(&program);
        check.arg(file("vkey", vkey.as_bytes())).arg(file("checkpoint", checkpoint.as_bytes()));
        check.arg(file("proof", proof.as_bytes())).arg(file("entry", entry));
        match check.status().unwrap().code() {
            Some(0) => true,
            Some(1) => false,
            code => panic!("sumdbcheck ended with {code:?}"),
        }
    };
    let text = |path: &str| String::from_utf8(operator.get(path).body).unwrap();
    let vkey = &node.statement().log_key;
    for entry in &log.entries {
        let proof = text(&paths::LOG_PROOF.replace("{index}", &entry.index.to_string()));
        let (_, checkpoint) = proof.split_once("\n\n").unwrap();
        let entry = &entry.entry.0;
        assert!(accepts(vkey, checkpoint, &proof, entry));
        let mut other = entry.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(!accepts(vkey, checkpoint, &proof, &other), "another entry");
        let size = checkpoint.lines().nth(1).unwrap();
        let forged = checkpoint.replacen(size, &format!("{size}0"), 1);
        assert!(!accepts(vkey, &forged, &proof.replace(checkpoint, &forged), entry), "a forged checkpoint");
    }
    let stranger = Node::start();
    let proof = text(&paths::LOG_PROOF.replace("{index}", "0"));
    let (_, checkpoint) = proof.split_once("\n\n").unwrap();
    assert!(!accepts(&stranger.statement().log_key, checkpoint, &proof, &log.entries[0].entry.0), "another log's key");
}

fn sumdbcheck(program: &Path) -> PathBuf {
    const INSTALL: &str = "apt-get install --no-install-recommends golang-go golang-golang-x-mod-dev";
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(program).arg(".").current_dir(repository().join("tests/go/sumdbcheck"));
    go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode");
    go.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"));
    let built = go.output().unwrap_or_else(|e| panic!("this test needs Go ({e}): {INSTALL}"));
    assert!(built.status.success(), "{}\nthis test needs: {INSTALL}", String::from_utf8_lossy(&built.stderr));
    program.to_owned()
}

#[test]
fn the_served_api_document_is_the_committed_one() {
    let node = Node::start();
    let served: serde_json::Value = node.transport().request("GET", paths::OPENAPI, &[], b"").json();
    let committed = std::fs::read(repository().join("docs/openapi.json")).unwrap();
    assert_eq!(served, serde_json::from_slice::<serde_json::Value>(&committed).unwrap());
    assert_eq!(served["openapi"], "3.1.0");
}

/// A node that is told to stop ends its jobs as `by-operator`; their receipts are there when it is back.
#[test]
fn a_stop_cancels_and_wipes_jobs_and_the_log_goes_on() {
    let mut node = Node::with(&Settings { slots: 1, ..Settings::default() });
    let key = node.consumer().key().to_owned();
    let cli = Cli::logged_in(&node, node.operator().key());
    let (running, waiting) = run_and_queue(&node, &key);
    let before = cli.run(["log", "check", "--json"]).is(0).json();
    node.stop();
    node.start_again();
    let consumer = Consumer::new(&node, &key);
    for job in [running, waiting] {
        consumer.wait(job).is(JobState::Cancelled, Reason::ByOperator);
        let report = verify(&consumer.receipt(job), &node.trust(), None, &[]).unwrap();
        assert!(report.is_accepted(), "{:#?}", report.verdict);
    }
    let after = cli.run(["log", "check", "--json"]).is(0).json();
    assert_eq!(after["continues"], before["size"], "the old checkpoint is a prefix");
    cli.run(["log", "tail", "-n", "50"]).is(0).says("node.stopped");
    let job = Job::new(&wasm::cat(), Input::stdin(b"back"));
    let ended = consumer.run(&job);
    assert_eq!(consumer.output(&job, &ended).stdout, b"back");
}

/// A node that was killed ends them at its next start: what waited may be submitted again.
#[test]
fn a_crash_ends_jobs_at_the_next_start_and_a_lost_one_runs_again() {
    let mut node = Node::with(&Settings { slots: 1, ..Settings::default() });
    let key = node.consumer().key().to_owned();
    let cli = Cli::logged_in(&node, node.operator().key());
    let (running, _) = run_and_queue(&node, &key);
    let lost = Job::new(&wasm::cat(), Input::stdin(b"again"));
    let view: JobView = Consumer::new(&node, &key).submit(&lost).json();
    let before = cli.run(["log", "check", "--json"]).is(0).json();
    let children = family(node.pid());
    node.crash();
    node.start_again();
    let consumer = Consumer::new(&node, &key);
    consumer.wait(running).failed(Reason::EngineLost);
    consumer.wait(view.job).failed(Reason::Resubmit);
    for job in [running, view.job] {
        let report = verify(&consumer.receipt(job), &node.trust(), None, &[]).unwrap();
        assert!(report.is_accepted(), "{:#?}", report.verdict);
    }
    until("what the killed node had started is gone", 10, || {
        children.iter().all(|p| !Path::new(&format!("/proc/{}", p.pid)).exists()).then_some(())
    });
    let after = cli.run(["log", "check", "--json"]).is(0).json();
    assert_eq!(after["continues"], before["size"], "the old checkpoint is a prefix");

    // The same idempotency key: the same job, its second attempt.
    let again = consumer.submit(&lost);
    assert_eq!(again.status, 201);
    assert_eq!(again.json::<JobView>().job, view.job);
    let ended = consumer.wait(view.job);
    ended.is(JobState::Done, Reason::Completed);
    assert_eq!(ended.view.attempt.0, 2);
    assert_eq!(consumer.output(&lost, &ended).stdout, b"again");
}

/// One job that runs and one that waits for its slot.
fn run_and_queue(node: &Node, key: &str) -> (JobId, JobId) {
    let consumer = Consumer::new(node, key);
    let running: JobView = consumer.submit(&Job::limited(&wasm::loops(), Input::default(), endless())).json();
    consumer.wait_for(running.job, |view| view.state == JobState::Running);
    let waiting: JobView = consumer.submit(&Job::new(&wasm::nothing(), Input::default())).json();
    assert_eq!(consumer.show(waiting.job).state, JobState::Queued);
    (running.job, waiting.job)
}
