//! What is kept of a job has its time, and goes when that is over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_api::admin::Alert;
use decores_api::jobs::Job as JobView;
use decores_api::log::LogEntries;
use decores_api::{Page, paths};
use decores_audit::event::{Entry, Event};
use decores_audit::receipt::Receipt;
use decores_tests::cli::Cli;
use decores_tests::consumer::path;
use decores_tests::job::{Input, Job};
use decores_tests::node::{Node, Settings};
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::{JobId, JobState, Reason};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What was removed of a job, in order: reason, and what.
fn removed(node: &Node, job: JobId) -> Vec<(String, Vec<String>)> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let page: LogEntries = node.operator().get(&format!("{}?from={from}&limit=100", paths::LOG_ENTRIES)).json();
        if page.entries.is_empty() {
            return found;
        }
        from += page.entries.len();
        for entry in page.entries {
            if let Event::JobRemoved { job: of, reason, what, .. } = Entry::parse(&entry.entry.0).unwrap().event
                && of == job
            {
                found.push((reason.to_string(), what.iter().map(ToString::to_string).collect()));
            }
        }
    }
}

fn blobs(node: &Node, job: JobId) -> Vec<PathBuf> {
    let files = fs::read_dir(node.home().join("blobs")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.display().to_string().contains(&job.to_string())).collect()
}

#[test]
fn output_logs_and_receipt_go_at_their_own_times_and_all_else_with_the_receipt() {
    let node = Node::with(&Settings { keep_seconds: [1, 3, 20], ..Settings::default() });
    let consumer = node.consumer();
    let job = Job::new(&wasm::exits(7), Input::default());
    let ended = consumer.run(&job);
    ended.failed(Reason::ExitNonzero);
    let id = ended.view.job;
    let receipt = Receipt::parse(&consumer.receipt(id)).unwrap();
    let at = |what: &str| {
        let predicate = receipt.predicate();
        predicate.retained.iter().find(|r| r.what.as_str() == what).unwrap().until
    };
    let (output, logs) = (at("sealed-output").unwrap(), at("sealed-logs").unwrap());
    assert_eq!((at("log-entries"), logs.since_ms(output)), (None, 2000));
    assert!(at("receipt").unwrap() > logs);

    let (result, logs) = (path(paths::JOB_RESULT, id), path(paths::JOB_LOGS, id));
    until("the output is gone", 60, || (removed(&node, id).len() == 1).then_some(()));
    consumer.get(&result).refused(410, "gone");
    until("the logs are gone", 60, || (removed(&node, id).len() == 2).then_some(()));
    consumer.get(&logs).refused(410, "gone");
    assert!(blobs(&node, id).is_empty());
    assert!(consumer.show(id).receipt, "the receipt is still there");

    let cli = Cli::logged_in(&node, consumer.key());
    until("the record is gone", 60, || (consumer.get(&path(paths::JOB, id)).status == 404).then_some(()));
    for gone in [paths::JOB, paths::JOB_RECEIPT, paths::JOB_RESULT, paths::JOB_LOGS] {
        consumer.get(&path(gone, id)).refused(404, "not-found");
    }
    let page: Page<JobView> = consumer.get(paths::JOBS).json();
    assert!(page.items.is_empty());
    cli.run(["job", "show", &id.to_string()]).says("not found");
    cli.run(["job", "list"]).is(0);
    let what = |names: &[&str]| ("expired".to_owned(), names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    let expected = [what(&["sealed-output"]), what(&["sealed-logs"]), what(&["receipt", "record"])];
    assert_eq!(removed(&node, id), expected);

    // The idempotency key went, too: it stands for a new job now.
    let again: JobView = consumer.submit(&job).json();
    assert_ne!(again.job, id);
    consumer.wait(again.job).failed(Reason::ExitNonzero);
    Cli::logged_in(&node, node.operator().key()).run(["log", "check"]).is(0);
}

#[test]
fn what_a_consumer_deletes_is_told_by_name_and_once() {
    let node = Node::start();
    let consumer = node.consumer();
    let ended = consumer.run(&Job::new(&wasm::cat(), Input::stdin(b"x")));
    ended.is(JobState::Done, Reason::Completed);
    let result = path(paths::JOB_RESULT, ended.view.job);
    for _ in 0..2 {
        assert_eq!(consumer.request("DELETE", &result, &[], b"").status, 204);
    }
    let all = ["sealed-logs", "sealed-output"].map(str::to_owned).to_vec();
    assert_eq!(removed(&node, ended.view.job), [("by-consumer".to_owned(), all)]);
    assert!(blobs(&node, ended.view.job).is_empty());
}

/// An immutable file cannot be deleted, not even by root.
#[test]
fn a_file_that_cannot_be_deleted_is_an_alert_once_and_goes_when_it_can() {
    let node = Node::with(&Settings { keep_seconds: [5, 600, 600], ..Settings::default() });
    let consumer = node.consumer();
    let ended = consumer.run(&Job::new(&wasm::cat(), Input::stdin(b"x")));
    ended.is(JobState::Done, Reason::Completed);
    let id = ended.view.job;
    let output = blobs(&node, id).into_iter().find(|path| path.extension().is_some_and(|e| e == "output")).unwrap();
    let chattr = |flag: &str| {
        let changed = Command::new("chattr").arg(flag).arg(&output).status().unwrap();
        assert!(changed.success(), "this test must be root, on a file system with attributes");
    };
    chattr("+i");
    let alerts = || {
        let alerts: Vec<Alert> = node.operator().get(paths::ALERTS).json();
        alerts.iter().filter(|alert| alert.message.contains(&id.to_string())).count()
    };
    until("an alert tells of it", 60, || (alerts() == 1).then_some(()));
    let tries = || node.log().matches("something whose time is over could not be removed").count();
    let tried = tries();
    until("it is tried again", 60, || (tries() >= tried + 2).then_some(()));
    assert_eq!(alerts(), 1);
    assert!(removed(&node, id).is_empty() && output.exists());
    let left = || node.operator().status().leftovers.unwrap();
    assert_eq!(
        left().iter().map(|left| (left.job, left.what.clone())).collect::<Vec<_>>(),
        [(id, vec!["sealed-output".to_owned()])]
    );
    chattr("-i");
    until("it is gone", 60, || (!output.exists()).then_some(()));
    until("the log tells of it", 60, || (removed(&node, id).len() == 1).then_some(()));
    assert!(left().is_empty(), "{:?}", left());
    consumer.get(&path(paths::JOB_RESULT, id)).refused(410, "gone");
}
