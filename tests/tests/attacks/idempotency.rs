//! A submission is replayed: by a client that lost the answer, or by somebody who recorded it. The same key
//! and spec give the same job and run nothing twice; the same key with another spec is refused.

use decores_api::headers::{IDEMPOTENCY_KEY, SUBMISSION};
use decores_api::jobs::Job as JobView;
use decores_api::{Page, paths};
use decores_tests::job::{Input, Job, submission};
use decores_tests::node::Node;
use decores_tests::transport::Response;
use decores_tests::wasm;
use decores_types::{JobState, Reason};
use std::io::Write as _;

#[test]
fn the_same_key_and_spec_give_the_same_answer() {
    let node = Node::start();
    let consumer = node.consumer();
    let job = Job::new(&wasm::cat(), Input::stdin(b"once"));
    let first = consumer.submit(&job);
    assert_eq!(first.status, 201);
    let first: JobView = first.json();
    for _ in 0..3 {
        let again = consumer.submit(&job);
        assert_eq!(again.status, 200);
        assert_eq!(again.json::<JobView>().job, first.job);
    }
    let ended = consumer.wait(first.job);
    ended.is(JobState::Done, Reason::Completed);
    let again = consumer.submit(&job);
    assert_eq!((again.status, again.json::<JobView>()), (200, consumer.show(first.job)));
    assert_eq!(ended.view.attempt.0, 1);
    let all: Page<JobView> = consumer.get(paths::JOBS).json();
    assert_eq!(all.items.len(), 1);
}

/// Whoever asked on it again might ask a node that has just ended it.
#[test]
fn an_answer_that_leaves_a_payload_unread_says_that_its_connection_ends() {
    let node = Node::start();
    let consumer = node.consumer();
    let job = Job::new(&wasm::nothing(), Input::default());
    consumer.wait(consumer.submit(&job).json::<JobView>().job);
    let body = submission(consumer.offer().document().offer, &job.spec, &[0; 1 << 20]);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {}\r\ncontent-type: {SUBMISSION}\r\n\
         {IDEMPOTENCY_KEY}: {}\r\ncontent-length: {}\r\n\r\n",
        paths::JOBS,
        consumer.key(),
        job.idempotency_key,
        body.len()
    );
    let mut line = node.transport().connect().unwrap();
    let _ = line.write_all(head.as_bytes()).and_then(|()| line.write_all(&body));
    let answer = Response::read(&mut line).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}

#[test]
fn the_same_key_with_another_spec_is_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let job = Job::new(&wasm::nothing(), Input::default());
    let view: JobView = consumer.submit(&job).json();
    let mut other = Job::new(&wasm::nothing(), Input::default());
    other.idempotency_key.clone_from(&job.idempotency_key);
    consumer.submit(&other).refused(409, "idempotency-conflict");
    consumer.wait(view.job);
    consumer.submit(&other).refused(409, "idempotency-conflict");
}

#[test]
fn another_consumers_key_is_another_key() {
    let node = Node::start();
    let (consumer, other) = (node.consumer(), node.consumer());
    let job = Job::new(&wasm::nothing(), Input::default());
    let view: JobView = consumer.submit(&job).json();
    let theirs = other.submit(&job);
    assert_eq!(theirs.status, 201);
    assert_ne!(theirs.json::<JobView>().job, view.job);
}

#[test]
fn replays_at_the_same_moment_make_one_job() {
    let node = Node::start();
    let consumer = node.consumer();
    let job = Job::new(&wasm::cat(), Input::stdin(b"race"));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..6).map(|_| scope.spawn(|| consumer.submit(&job))).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    // Whoever comes while the first is being taken is told to ask again.
    let taken: Vec<JobView> = answers.iter().filter(|a| a.status != 409).map(|a| a.json()).collect();
    assert!(answers.iter().filter(|a| a.status == 409).all(|a| a.problem() == "state-conflict"));
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1);
    assert!(taken.iter().all(|view| view.job == taken[0].job));
    consumer.wait(taken[0].job).is(JobState::Done, Reason::Completed);
}

#[test]
fn keys_of_the_wrong_form_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    for key in ["", "short", "has space in the middle", &"x".repeat(65), "0123456789abcdef/"] {
        let mut job = Job::new(&wasm::nothing(), Input::default());
        job.idempotency_key = key.to_owned();
        consumer.send(&job, consumer.offer().document().offer, b"").refused(400, "malformed");
    }
}
