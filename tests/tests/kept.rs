//! A compiled program is kept only for whoever asked, only as long as that, and only as it was made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_api::admin::Alert;
use decores_api::log::LogEntries;
use decores_api::paths;
use decores_audit::event::{Entry, Event};
use decores_audit::receipt::Receipt;
use decores_tests::cli::Cli;
use decores_tests::consumer::{Consumer, Ended, path};
use decores_tests::job::{Input, Job};
use decores_tests::node::{Node, Settings};
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::{Commitment, JobState, Reason, Timestamp};
use std::fs;
use std::path::PathBuf;

const HOUR: u32 = 3600;

fn job(program: &[u8], seconds: u32) -> Job {
    let mut job = Job::new(program, Input::stdin(b"hello"));
    job.spec.cache_seconds = seconds;
    job.spec.cache_id = Some(Commitment::parse(&"5a".repeat(32)).unwrap());
    job
}

/// Runs a job to its good end; whether it was compiled.
fn run(consumer: &Consumer<'_>, job: &Job) -> (Ended, bool) {
    let ended = consumer.run(job);
    ended.is(JobState::Done, Reason::Completed);
    let compiled = ended.view.steps.iter().any(|step| step.reason == Reason::Compiling);
    (ended, compiled)
}

/// Until when a receipt says that the compiled program is kept; how long compiling took.
fn told(consumer: &Consumer<'_>, ended: &Ended) -> (Option<Timestamp>, Option<u64>) {
    let receipt = Receipt::parse(&consumer.receipt(ended.view.job)).unwrap();
    let predicate = receipt.predicate();
    let kept = predicate.retained.iter().find(|retained| retained.what.as_str() == "sealed-module");
    (kept.map(|kept| kept.until.unwrap()), predicate.result.usage.as_ref().unwrap().compile_ms)
}

fn files(node: &Node) -> Vec<PathBuf> {
    let files = fs::read_dir(node.home().join("blobs")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "module")).collect()
}

/// Why kept programs went, in order.
fn removed(node: &Node) -> Vec<String> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let page: LogEntries = node.operator().get(&format!("{}?from={from}&limit=100", paths::LOG_ENTRIES)).json();
        if page.entries.is_empty() {
            return found;
        }
        from += page.entries.len();
        for entry in page.entries {
            if let Event::JobRemoved { reason, what, .. } = Entry::parse(&entry.entry.0).unwrap().event
                && what.iter().any(|what| what.as_str() == "sealed-module")
            {
                found.push(reason.to_string());
            }
        }
    }
}

#[test]
fn a_kept_program_is_loaded_for_its_consumer_and_program_alone() {
    let node = Node::start();
    let (consumer, other) = (node.consumer(), node.consumer());
    let (first, compiled) = run(&consumer, &job(&wasm::cat(), HOUR));
    assert!(compiled);
    let (until, _) = told(&consumer, &first);
    assert!(until.is_some(), "the receipt says until when");
    assert_eq!(files(&node).len(), 1);

    let again = job(&wasm::cat(), HOUR);
    let (second, compiled) = run(&consumer, &again);
    assert!(!compiled, "{:?}", second.view.steps);
    assert_eq!(consumer.output(&again, &second).stdout, b"hello");
    assert_eq!(told(&consumer, &second), (until, Some(0)));

    let (_, compiled) = run(&other, &job(&wasm::cat(), HOUR));
    assert!(compiled, "another consumer has nothing of it");
    assert_eq!(files(&node).len(), 2);

    let (another, compiled) = run(&consumer, &job(&wasm::nothing(), HOUR));
    assert!(compiled, "another program under the same name is compiled");
    assert_eq!(told(&consumer, &another).0, None);
    let (plain, compiled) = run(&consumer, &Job::new(&wasm::cat(), Input::default()));
    assert!(compiled && told(&consumer, &plain).0.is_none(), "who does not ask has nothing kept");

    let result = path(paths::JOB_RESULT, second.view.job);
    assert_eq!(consumer.request("DELETE", &result, &[], b"").status, 204);
    assert_eq!((files(&node).len(), removed(&node)), (1, vec!["by-consumer".to_owned()]));
    assert!(run(&consumer, &job(&wasm::cat(), HOUR)).1);
    Cli::logged_in(&node, node.operator().key()).run(["log", "check"]).is(0);
}

#[test]
fn an_altered_file_is_not_loaded_and_raises_an_alert() {
    let node = Node::start();
    let consumer = node.consumer();
    run(&consumer, &job(&wasm::cat(), HOUR));
    let file = files(&node).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(run(&consumer, &job(&wasm::cat(), HOUR)).1, "it is compiled");
    assert!(!file.exists());
    let alerts: Vec<Alert> = node.operator().get(paths::ALERTS).json();
    assert_eq!(alerts.iter().filter(|alert| alert.kind == "file-damaged").count(), 1, "{alerts:?}");
    assert_eq!(removed(&node), ["damaged"]);
    assert!(run(&consumer, &job(&wasm::cat(), HOUR)).1, "it is kept anew");
    assert!(!run(&consumer, &job(&wasm::cat(), HOUR)).1);
}

#[test]
fn a_kept_program_goes_at_its_time_and_with_the_nodes_memory() {
    let mut node = Node::with(&Settings { keep_seconds: [1, 600, 600], ..Settings::default() });
    let key = {
        let consumer = node.consumer();
        run(&consumer, &job(&wasm::cat(), 2));
        until("its time is over", 60, || (removed(&node) == ["expired"]).then_some(()));
        assert!(files(&node).is_empty());
        assert!(run(&consumer, &job(&wasm::cat(), HOUR)).1);
        assert_eq!(files(&node).len(), 1);
        consumer.key().to_owned()
    };
    node.stop();
    node.start_again();
    assert!(files(&node).is_empty(), "nothing opens it any more");
    assert_eq!(removed(&node), ["expired", "restart"]);
    assert!(run(&Consumer::new(&node, &key), &job(&wasm::cat(), HOUR)).1);
    node.crash();
    node.start_again();
    assert!(files(&node).is_empty());
}

#[test]
fn what_is_asked_for_too_long_or_without_a_name_is_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let refused = consumer.submit(&job(&wasm::cat(), 86_401));
    refused.refused(422, "refused");
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(text.contains("86400 seconds") && text.contains("86401"), "{text}");
    let mut unnamed = job(&wasm::cat(), HOUR);
    unnamed.spec.cache_id = None;
    consumer.submit(&unnamed).refused(422, "refused");
    assert!(files(&node).is_empty());
}

#[test]
fn the_command_line_names_a_program_without_telling_what_it_is() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.consumer().key());
    let program = node.beside("cat.wasm");
    fs::write(&program, wasm::cat()).unwrap();
    let receipt = node.beside("receipt.json");
    let run = || {
        let words = ["job", "run", program.to_str().unwrap(), "--cache", "1h", "--receipt", receipt.to_str().unwrap()];
        cli.run(words).is(0);
        let receipt = Receipt::parse(&fs::read(&receipt).unwrap()).unwrap();
        (receipt.predicate().spec.clone(), receipt.predicate().result.usage.as_ref().unwrap().compile_ms)
    };
    let ((first, _), (second, compile_ms)) = (run(), run());
    assert_eq!((first.cache_seconds, compile_ms), (HOUR, Some(0)));
    assert!(first.cache_id.is_some() && first.cache_id == second.cache_id && first.program != second.program);
}
