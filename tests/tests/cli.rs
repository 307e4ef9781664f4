//! The real `decores` against a real node: every command, its data and its exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_api::jobs::Job;
use decores_api::{Page, paths};
use decores_tests::cli::Cli;
use decores_tests::consumer::Consumer;
use decores_tests::job::{self, Input};
use decores_tests::node::{Node, Settings, signal};
use decores_tests::programs::{program, repository};
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::JobState;
use serde_json::Value;
use std::fs::File;
use std::process::{Child, Command, Stdio};

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// The shipped example, whole: run, compared with an independent tool, verified, and refused when changed.
#[test]
fn the_example_runs_and_its_receipt_verifies() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.operator().key());
    let example = repository().join("examples/weather");
    let (program, data) = (text(&example.join("program.wasm")), text(&example.join("weather.csv")));
    let (out, receipt) = (text(&cli.path("out")), text(&cli.path("r.json")));
    cli.run(["job", "run", &program, "-i", &data, "-o", &out, "--receipt", &receipt]).is(0);
    let check = Command::new("python3").arg(example.join("check.py")).args([&data, &out]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    cli.run(["verify", &receipt, "--output", &out]).is(0).says("accepted");
    let report = cli.run(["verify", &receipt, "--output", &out, "--json"]).is(0).json();
    assert_eq!(report["verdict"], "accepted");
    let claims = report["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 18);
    for claim in claims {
        assert!(matches!(claim["strength"].as_str(), Some("proved" | "attested" | "asserted")), "{claim}");
        assert!(!claim["detail"].as_str().unwrap().is_empty());
    }
    cli.run(["verify", &receipt]).is(0).says("signed, file not compared");
    cli.run(["verify", &receipt, "--require", "output"]).is(3);
    cli.run(["verify", &receipt, "--output", &out, "--require", "wipe", "--require", "protection=process"]).is(0);
    cli.run(["verify", &receipt, "--require", "protection=enclave"]).is(3);
    cli.run(["verify", &receipt, "--require", "anchor"]).is(3);

    let mut bytes = std::fs::read(&out).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let changed = text(&cli.write("changed", &bytes));
    cli.run(["verify", &receipt, "--output", &changed]).is(3).says("`output` does not hold");
    let mut bytes = std::fs::read(&receipt).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let changed = text(&cli.write("changed.json", &bytes));
    assert!(matches!(cli.run(["verify", &changed, "--output", &out]).code, 2 | 3));
    cli.run(["verify", &text(&cli.write("no.json", b"{"))]).is(2);
    cli.run(["verify", "/nowhere"]).is(2);
    // Offline: the node is gone, and another machine needs nothing but the two files.
    let trust = text(&cli.home().join("client/trust.json"));
    drop(node);
    Cli::default().run(["verify", &receipt, "--trust", &trust, "--output", &out]).is(0);
}

#[test]
fn jobs_are_submitted_listed_shown_and_fetched() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.consumer().key());
    let program = text(&cli.write("files.wasm", &wasm::files()));
    let data = text(&cli.write("data", b"content"));
    let file = format!("a={data}");
    let job = cli.run(["job", "submit", &program, "--file", &file]).is(0).stdout.trim().to_owned();
    let folder = text(&cli.path("result"));
    cli.run(["job", "result", &job, "--dir", &folder]).is(0);
    assert_eq!(std::fs::read(cli.path("result/files/c")).unwrap(), b"content");
    assert_eq!(cli.run(["job", "logs", &job]).is(0).stdout, "copied\n");
    let shown = cli.run(["job", "show", &job, "--json"]).is(0).json();
    assert_eq!((shown["state"].as_str(), shown["reason"].as_str()), (Some("done"), Some("completed")));
    cli.run(["job", "show", &job]).is(0).says("slot-free");
    let listed = cli.run(["job", "list", "--json"]).is(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    cli.run(["job", "list"]).is(0).says(&job);
    let receipt = text(&cli.path("r.json"));
    cli.run(["job", "receipt", &job, "--out", &receipt, "--wait", "logged"]).is(0);
    cli.run(["verify", &receipt, "--output", &folder]).is(0);
    std::fs::write(cli.path("result/files/more"), "x").unwrap();
    cli.run(["verify", &receipt, "--output", &folder]).is(3);

    let failing = text(&cli.write("exits.wasm", &wasm::exits(3)));
    cli.run(["job", "run", &failing]).is(1).says("exit-nonzero").says("no\n");
    let ran = cli.run(["job", "run", &failing, "--json"]).is(1);
    assert_eq!(ran.json()["reason"], "exit-nonzero");
}

#[test]
fn a_job_is_cancelled_and_its_time_is_limited() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.consumer().key());
    let program = text(&cli.write("loops.wasm", &wasm::loops()));
    let job = cli.run(["job", "submit", &program]).is(0).stdout.trim().to_owned();
    cli.run(["job", "cancel", &job]).is(0);
    cli.run(["job", "result", &job]).is(1).says("by-consumer");
    cli.run(["job", "cancel", &job]).is(3);
    cli.run(["job", "run", &program, "--limit-time", "500ms"]).is(1).says("limit-time").says("--limit-time");
    cli.run(["job", "run", &program, "--limit-memory", "8192GiB"]).is(3);
    cli.run(["job", "run", &program, "--require", "protection=enclave"]).is(3);
}

/// The node answers long before such an upload ends, and the answer must get through.
#[test]
fn an_upload_that_the_node_refuses_says_why() {
    let node = Node::with(&Settings { payload_bytes: 100_000, ..Settings::default() });
    let cli = Cli::logged_in(&node, node.consumer().key());
    let program = text(&cli.write("cat.wasm", &wasm::cat()));
    let large = text(&cli.write("large", &vec![1; 32 << 20]));
    cli.run(["job", "run", &program, "-i", &large]).is(3).says("larger than this node takes");
}

#[test]
fn a_dry_run_prints_the_plan_and_runs_nothing() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.consumer().key());
    let program = text(&cli.write("cat.wasm", &wasm::cat()));
    let plan = cli.run(["job", "run", &program, "--limit-memory", "64MiB", "--dry-run", "--json"]).is(0).json();
    assert_eq!(plan["limits"]["memoryBytes"], 64 << 20);
    assert_eq!(plan["network"], false);
    assert_eq!(cli.run(["job", "list", "--json"]).is(0).json(), Value::Array(Vec::new()));
}

#[test]
fn the_log_is_read_proved_and_checked() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.operator().key());
    let head = cli.run(["log", "head"]).is(0).stdout;
    assert!(head.starts_with(&node.statement().log_origin), "{head}");
    let first = cli.run(["log", "show", "0"]).is(0).json();
    assert_eq!(first["entry"]["type"], "key.created");
    let tail = cli.run(["log", "tail", "-n", "3", "--json"]).is(0).json();
    assert_eq!(tail.as_array().unwrap().len(), 3);
    cli.run(["log", "tail"]).is(0).says("node.started");
    let proof = text(&cli.path("proof"));
    cli.run(["log", "prove", "0", "--out", &proof]).is(0);
    assert!(std::fs::read_to_string(&proof).unwrap().starts_with("c2sp.org/tlog-proof@v1\nindex 0\n"));
    let before = cli.run(["log", "check", "--json"]).is(0).json();
    node.operator().offer();
    // The log takes in what was written a moment later.
    let after = until("the log is longer", 60, || {
        let after = cli.run(["log", "check", "--json"]).is(0).json();
        (after["size"].as_u64() > before["size"].as_u64()).then_some(after)
    });
    assert_eq!(after["continues"], before["size"]);
    cli.run(["log", "show", "100000"]).is(1);
    Cli::logged_in(&node, node.consumer().key()).run(["log", "tail"]).is(3);
}

#[test]
fn the_operator_sees_status_keys_and_alerts_and_hands_out_api_keys() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.operator().key());
    let status = cli.run(["status", "--json"]).is(0).json();
    assert_eq!(status["identity"], node.statement().identity.to_string());
    cli.run(["status"]).is(0).says("beside-data");
    let keys = cli.run(["key", "list", "--json"]).is(0).json();
    let purposes: Vec<&str> = keys.as_array().unwrap().iter().map(|k| k["purpose"].as_str().unwrap()).collect();
    for purpose in ["identity", "log", "ca", "storage", "index", "epoch"] {
        assert!(purposes.contains(&purpose), "{purposes:?}");
    }
    assert_eq!(cli.run(["alert", "list", "--json"]).is(0).json(), Value::Array(Vec::new()));
    let zeros = "0".repeat(32);
    cli.run(["alert", "ack", &format!("alr_{zeros}")]).is(1);

    let made = cli.run(["apikey", "create", "--name", "ci", "--expires", "1h", "--json"]).is(0).json();
    let (key, id) = (made["apiKey"].as_str().unwrap(), made["record"]["id"].as_str().unwrap());
    let consumer = Cli::logged_in(&node, key);
    consumer.run(["status"]).is(0);
    consumer.run(["apikey", "list"]).is(3);
    cli.run(["apikey", "list"]).is(0).says("ci");
    cli.run(["apikey", "revoke", id]).is(0);
    consumer.run(["status"]).is(3);
}

#[test]
fn login_refuses_another_identity_and_a_wrong_key() {
    let (node, other) = (Node::start(), Node::start());
    let cli = Cli::default();
    let key = node.operator().key().to_owned();
    let (identity, foreign) = (node.statement().identity.to_string(), other.statement().identity.to_string());
    cli.run(["status"]).is(2).says("decores login");
    cli.run(["login", &node.url(), "--identity", &foreign, "--api-key", &key]).is(3).says("another node");
    cli.run(["login", &node.url(), "--api-key", &key]).is(3).says("--identity");
    cli.run(["login", &node.url(), "--identity", &identity, "--api-key", "dck_no"]).is(3);
    assert!(!cli.home().join("client/trust.json").exists(), "nothing is pinned by a login that failed");
    cli.run(["login", &node.url(), "--identity", &identity, "--api-key", &key]).is(0);
    cli.run(["status"]).is(0);
}

#[test]
fn a_node_that_is_gone_is_unreachable() {
    let mut node = Node::start();
    let cli = Cli::logged_in(&node, node.operator().key());
    node.stop();
    cli.run(["status"]).is(4).says("hint:");
}

/// `decores up` on an empty home: one line to log in, which is all that is needed.
#[test]
fn up_on_an_empty_home_makes_a_node_that_works() {
    let cli = Cli::default();
    let out = cli.path("up.out");
    let mut command = Command::new(program("decores"));
    command.args(["up", "--listen", "127.0.0.1:0"]).env("DECORES_HOME", cli.home());
    command.stdout(File::create(&out).unwrap()).stderr(Stdio::null()).stdin(Stdio::null());
    let mut up = Ended(command.spawn().unwrap());
    let line = until("the node says how to log in", 60, || {
        let text = std::fs::read_to_string(&out).unwrap();
        text.lines().find(|l| l.starts_with("decores login ")).map(str::to_owned)
    });
    cli.run(line.split(' ').skip(1)).is(0);
    let wasm = text(&cli.write("cat.wasm", &wasm::cat()));
    let data = text(&cli.write("data", b"hello"));
    assert_eq!(cli.run(["job", "run", &wasm, "-i", &data]).is(0).stdout, "hello");
    signal("TERM", up.0.id());
    assert!(up.0.wait().unwrap().success());
}

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A node crashes while a job waits: the client, which still holds the data, submits again by itself.
#[test]
fn a_job_that_a_crash_lost_is_submitted_again_by_the_client() {
    let mut node = Node::with(&Settings { slots: 1, ..Settings::default() });
    let key = node.consumer().key().to_owned();
    let cli = Cli::logged_in(&node, &key);
    let blocking = text(&cli.write("loops.wasm", &wasm::loops()));
    let wasm = text(&cli.write("cat.wasm", &wasm::cat()));
    let data = text(&cli.write("data", b"still mine"));
    let receipt = text(&cli.path("r.json"));
    cli.run(["job", "submit", &blocking]).is(0);
    let ran = std::thread::scope(|scope| {
        let run = scope.spawn(|| cli.run(["job", "run", &wasm, "-i", &data, "--receipt", &receipt]));
        let consumer = Consumer::new(&node, &key);
        until("both jobs are there", 30, || {
            let page: Page<Job> = consumer.get(paths::JOBS).json();
            (page.items.len() == 2 && page.items[1].state == JobState::Running).then_some(())
        });
        drop(consumer);
        node.crash();
        node.start_again();
        run.join().unwrap()
    });
    assert_eq!(ran.is(0).stdout, "still mine");
    cli.run(["verify", &receipt]).is(0).says("attempt 2");
}

#[test]
fn wrong_usage_is_told_apart() {
    let cli = Cli::default();
    for line in ["job", "job show 7", "login ftp://x", "verify", "nonsense", "log show x", "apikey create"] {
        cli.run(line.split(' ')).is(2);
    }
    cli.run(["job", "run", "/nowhere.wasm"]).is(2);
}

#[test]
fn configuration_and_machine_are_checked() {
    let cli = Cli::default();
    let good = text(&cli.write("good.toml", b"version = 1\n[node]\nname = \"attic\"\n"));
    cli.run(["config", "check", &good]).is(0);
    let bad = text(&cli.write("bad.toml", b"version = 1\n[node]\nnmae = \"attic\"\n"));
    cli.run(["config", "check", &bad]).is(2).says("nmae");
    let doctor = cli.run(["doctor", "--json"]);
    assert!(matches!(doctor.code, 0 | 1), "{doctor:?}");
    assert!(doctor.json().is_object() || doctor.json().is_array(), "{doctor:?}");
}

/// The keys that open an output are where it was submitted; the receipt is for everybody.
#[test]
fn a_receipt_of_a_job_submitted_elsewhere_says_so() {
    let node = Node::start();
    let consumer = node.consumer();
    let ended = consumer.run(&job::Job::new(&wasm::nothing(), Input::default()));
    let cli = Cli::logged_in(&node, consumer.key());
    let job = ended.view.job.to_string();
    cli.run(["job", "result", &job]).is(2).says("was not submitted from here");
    let receipt = text(&cli.path("r.json"));
    cli.run(["job", "receipt", &job, "--out", &receipt]).is(0);
    cli.run(["verify", &receipt]).is(0);
}
