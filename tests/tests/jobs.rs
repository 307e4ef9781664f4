//! Good days: jobs that run, end, and leave what they should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_api::jobs::Job as JobView;
use decores_api::{Page, paths};
use decores_audit::verify::{Claim, OutputEvidence, Status, verify};
use decores_tests::consumer::path;
use decores_tests::job::{Input, Job};
use decores_tests::node::Node;
use decores_tests::wasm;
use decores_types::bundle::Item;
use decores_types::{Digest, JobState, Limits, Reason};
use std::collections::BTreeMap;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn a_job_brings_back_its_output_and_a_receipt_that_holds() {
    let node = Node::start();
    let consumer = node.consumer();
    let stdin = pattern(3 * 65_536 + 17);
    let job = Job::new(&wasm::cat(), Input::stdin(&stdin));
    let ended = consumer.run(&job);
    ended.is(JobState::Done, Reason::Completed);
    let states: Vec<JobState> = ended.view.steps.iter().map(|s| s.state).collect();
    use JobState::{Attesting, Done, Queued, Running, Sealing, Starting, Wiping};
    // Starting twice: the engine starts, then it compiles.
    assert_eq!(states, [Queued, Attesting, Starting, Starting, Running, Sealing, Wiping, Done]);
    let output = consumer.output(&job, &ended);
    assert_eq!(output.stdout, stdin);
    assert_eq!(consumer.logs(&job, &ended), "");

    let receipt = job.complete(&consumer.receipt(ended.view.job), Some(output.manifest.clone()));
    let evidence = OutputEvidence {
        stdout: Item { sha256: Digest::of(&stdin).into(), size: stdin.len() as u64 },
        files: Vec::new(),
    };
    let report = verify(&receipt, &node.trust(), Some(&evidence), &[]).unwrap();
    assert!(report.is_accepted(), "{:#?}", report.verdict);
    for claim in Claim::ALL {
        let expected = match claim {
            Claim::Image | Claim::Witnesses | Claim::Evidence | Claim::Anchor => Status::NotClaimed,
            // The test's node keeps its root beside the data, and says so.
            Claim::Settings => Status::NotClaimed,
            _ => Status::Holds,
        };
        assert_eq!(report.status(*claim), expected, "{claim}: {:#?}", report.claims);
    }
}

#[test]
fn arguments_environment_and_files_reach_the_program() {
    let node = Node::start();
    let consumer = node.operator();
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let env = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "ü".to_owned())]);
    let input = Input { args: words(&["--flag", "two words", ""]), env, ..Input::default() };
    let job = Job::new(&wasm::words(), input);
    let ended = consumer.run(&job);
    ended.is(JobState::Done, Reason::Completed);
    let text = String::from_utf8(consumer.output(&job, &ended).stdout).unwrap();
    assert!(text.ends_with("\0--flag\0two words\0\0A=1\0B=ü\0"), "{text:?}");

    let content = pattern(200_000);
    let input = Input { files: BTreeMap::from([("a".to_owned(), content.clone())]), ..Input::default() };
    let job = Job::new(&wasm::files(), input);
    let ended = consumer.run(&job);
    ended.is(JobState::Done, Reason::Completed);
    assert_eq!(consumer.output(&job, &ended).files, BTreeMap::from([("c".to_owned(), content)]));
    assert_eq!(consumer.logs(&job, &ended), "copied\n");
}

#[test]
fn an_exit_code_fails_the_job_and_keeps_output_and_logs() {
    let node = Node::start();
    let consumer = node.consumer();
    let job = Job::new(&wasm::exits(7), Input::default());
    let ended = consumer.run(&job);
    ended.failed(Reason::ExitNonzero);
    assert_eq!(consumer.logs(&job, &ended), "no\n");
    let output = consumer.output(&job, &ended);
    assert_eq!(output.manifest.exit, 7);
    let receipt = job.complete(&consumer.receipt(ended.view.job), Some(output.manifest));
    let report = verify(&receipt, &node.trust(), None, &[]).unwrap();
    assert!(report.is_accepted(), "{:#?}", report.verdict);
}

#[test]
fn several_jobs_run_beside_each_other_and_are_listed_newest_first() {
    let node = Node::start();
    let consumer = node.consumer();
    let jobs: Vec<Job> = (0..6).map(|n| Job::new(&wasm::cat(), Input::stdin(&pattern(n * 1000)))).collect();
    let views: Vec<JobView> = jobs.iter().map(|job| consumer.submit(job).json()).collect();
    for (n, (job, view)) in jobs.iter().zip(&views).enumerate() {
        let ended = consumer.wait(view.job);
        ended.is(JobState::Done, Reason::Completed);
        assert_eq!(consumer.output(job, &ended).stdout, pattern(n * 1000));
    }
    let mut listed = Vec::new();
    let mut next = String::new();
    loop {
        let page: Page<JobView> = consumer.get(&format!("{}?limit=4{next}", paths::JOBS)).json();
        listed.extend(page.items.iter().map(|job| job.job));
        match page.next {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, views.iter().rev().map(|v| v.job).collect::<Vec<_>>());
    let others: Page<JobView> = node.consumer().get(paths::JOBS).json();
    assert!(others.items.is_empty());
}

#[test]
fn a_running_and_a_waiting_job_can_be_cancelled() {
    let node = Node::with(&decores_tests::node::Settings { slots: 1, ..Default::default() });
    let consumer = node.consumer();
    let limits = Limits { wall_ms: 600_000, ..Limits::default() };
    let running: JobView = consumer.submit(&Job::limited(&wasm::loops(), Input::default(), limits)).json();
    consumer.wait_for(running.job, |view| view.state == JobState::Running);
    let waiting: JobView = consumer.submit(&Job::new(&wasm::nothing(), Input::default())).json();
    for job in [waiting.job, running.job] {
        assert_eq!(consumer.post(&path(paths::JOB_CANCEL, job), b"").status, 200);
        let ended = consumer.wait(job);
        ended.is(JobState::Cancelled, Reason::ByConsumer);
        consumer.get(&path(paths::JOB_RESULT, job)).refused(409, "state-conflict");
        consumer.post(&path(paths::JOB_CANCEL, job), b"").refused(409, "state-conflict");
        let report = verify(&consumer.receipt(job), &node.trust(), None, &[]).unwrap();
        assert!(report.is_accepted(), "{:#?}", report.verdict);
    }
    let job = Job::new(&wasm::nothing(), Input::default());
    consumer.run(&job).is(JobState::Done, Reason::Completed);
}

#[test]
fn a_fetched_result_can_be_deleted_and_is_gone_then() {
    let node = Node::start();
    let consumer = node.consumer();
    let job = Job::new(&wasm::cat(), Input::stdin(b"x"));
    let ended = consumer.run(&job);
    assert_eq!(consumer.output(&job, &ended).stdout, b"x");
    let result = path(paths::JOB_RESULT, ended.view.job);
    assert_eq!(consumer.request("DELETE", &result, &[], b"").status, 204);
    consumer.get(&result).refused(410, "gone");
    consumer.get(&path(paths::JOB_LOGS, ended.view.job)).refused(410, "gone");
    assert!(!consumer.show(ended.view.job).result);
}

#[test]
fn a_full_queue_answers_503_and_when_to_ask_again() {
    let node = Node::with(&decores_tests::node::Settings { slots: 1, queue: 1, ..Default::default() });
    let consumer = node.consumer();
    let limits = Limits { wall_ms: 600_000, ..Limits::default() };
    let submit = || consumer.submit(&Job::limited(&wasm::loops(), Input::default(), limits));
    let taken: Vec<JobView> = (0..2).map(|_| submit().json()).collect();
    let full = submit();
    full.refused(503, "unavailable");
    assert!(full.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    for view in taken {
        assert_eq!(consumer.post(&path(paths::JOB_CANCEL, view.job), b"").status, 200);
        consumer.wait(view.job);
    }
}
