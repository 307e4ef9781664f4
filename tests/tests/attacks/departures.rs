//! A client goes away in the middle: its line breaks, or it closes it on purpose at the worst moment, so that
//! a job is left in the queue that nothing runs, a key that nothing destroys, or a payload that nothing deletes.

use decores_api::headers::{IDEMPOTENCY_KEY, SUBMISSION};
use decores_api::jobs::Job as JobView;
use decores_api::{Page, paths};
use decores_tests::consumer::Consumer;
use decores_tests::job::{Input, Job, submission};
use decores_tests::node::{Node, Settings};
use decores_tests::transport::{Line, head};
use decores_tests::wait::until;
use decores_tests::{machine, wasm};
use std::io::Write as _;

/// Sends the first `part` bytes of a submission's body, and not a byte more; the line stays open as long as it is kept.
fn send_part(node: &Node, consumer: &Consumer<'_>, job: &Job, part: impl Fn(usize) -> usize) -> Line {
    let offer = consumer.offer();
    let payload = job.seal(offer.recipient(), &job.binding(consumer.id(), &offer));
    let body = submission(offer.document().offer, &job.spec, &payload);
    let bearer = format!("Bearer {}", consumer.key());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", SUBMISSION),
        (IDEMPOTENCY_KEY, job.idempotency_key.as_str()),
    ];
    let mut line = node.transport().connect().unwrap();
    line.write_all(head("POST", paths::JOBS, &headers, body.len()).as_bytes()).unwrap();
    line.write_all(&body[..part(body.len())]).unwrap();
    line
}

fn payloads(node: &Node) -> usize {
    machine::files(&node.home()).iter().filter(|file| file.extension().is_some_and(|e| e == "payload")).count()
}

#[test]
fn a_client_that_hangs_up_leaves_no_job_without_an_end_and_no_payload() {
    let node = Node::start();
    let consumer = node.consumer();
    let jobs: Vec<Job> = (0..24).map(|n: u8| Job::new(&wasm::cat(), Input::stdin(&[n; 1000]))).collect();
    for (n, job) in jobs.iter().enumerate() {
        // Whole, whole but for a byte, and cut at many places.
        drop(send_part(&node, &consumer, job, |length| match n % 3 {
            0 => length,
            _ => length - n * length / 24 - n % 2,
        }));
    }
    until("every job that was taken ends", 60, || {
        let all: Page<JobView> = consumer.get(paths::JOBS).json();
        (all.items.iter().all(|job| job.state.is_final()) && consumer.status().queued == 0).then_some(())
    });
    until("no payload is left", 20, || (payloads(&node) == 0).then_some(()));
    // Whoever submits again under the same key gets an answer that leads somewhere.
    let again = consumer.submit(&jobs[0]);
    assert!(matches!(again.status, 200 | 201), "{}", again.problem());
    consumer.wait(again.json::<JobView>().job);
}

#[test]
fn a_payload_that_no_record_keeps_is_deleted_at_the_next_start() {
    let mut node = Node::start();
    node.stop();
    let orphan = node.home().join("blobs/job_00000000000000000000000000000001-1.payload");
    std::fs::write(&orphan, b"left over").unwrap();
    node.start_again();
    assert!(!orphan.exists());
}

#[test]
fn the_queue_is_bounded_also_while_payloads_arrive() {
    let node = Node::with(&Settings { slots: 1, queue: 1, ..Settings::default() });
    let consumer = node.consumer();
    let job = |n: u8| Job::new(&wasm::cat(), Input::stdin(&[n; 100]));
    let open: Vec<Line> = (0..2).map(|n| send_part(&node, &consumer, &job(n), |length| length - 1)).collect();
    // Both places are held by submissions that are still arriving.
    until("a third is refused", 10, || {
        let third = consumer.submit(&Job::new(&wasm::cat(), Input::stdin(b"third")));
        (third.status == 503).then(|| third.refused(503, "unavailable"))
    });
    drop(open);
    until("the places are free again", 20, || {
        let next = consumer.submit(&Job::new(&wasm::cat(), Input::stdin(b"next")));
        (next.status == 201).then_some(())
    });
}
