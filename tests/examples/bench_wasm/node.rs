//! Jobs through a node.

use crate::at;
use crate::wire::Wire;
use decores_api::headers::{IDEMPOTENCY_KEY, SUBMISSION};
use decores_api::jobs::Job as JobView;
use decores_api::offers::{OfferRequest, OfferResponse};
use decores_api::paths;
use decores_tests::consumer::{Consumer, path};
use decores_tests::job::{Input, Job, submission};
use decores_tests::node::Node;
use decores_types::{Commitment, JobState, Protection, canonical};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A job that is sealed and not sent.
struct Ready {
    body: Vec<u8>,
    headers: String,
}

/// What jobs one after the other took.
pub(crate) struct Found {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Answers of the node's to one job.
    pub(crate) answers: f64,
}

/// Jobs that are sealed, each on a connection that has room for its requests.
pub(crate) struct Prepared {
    wires: Vec<(Wire, Ready)>,
}

impl Prepared {
    pub(crate) fn run(&mut self) {
        for (wire, ready) in &mut self.wires {
            run(wire, ready);
        }
    }
}

pub(crate) fn prepared(node: &Node, consumer: &Consumer<'_>, program: &[u8], jobs: usize) -> Prepared {
    warm(node, consumer, program);
    let ready = |_| {
        let mut wire = Wire::new(node, consumer.key());
        let ready = ready(&mut wire, consumer, program);
        (wire, ready)
    };
    Prepared { wires: (0..jobs).map(ready).collect() }
}

fn ready(wire: &mut Wire, consumer: &Consumer<'_>, program: &[u8]) -> Ready {
    let ask = serde_json::to_vec(&OfferRequest { protection: Protection::Process }).unwrap();
    let (status, body) = wire.ask("POST", paths::OFFERS, "content-type: application/json\r\n", &ask);
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    let answer: OfferResponse = serde_json::from_slice(&body).unwrap();
    let offer = consumer.verify(&canonical::to_vec(&answer.envelope).unwrap()).unwrap();
    let mut job = Job::new(program, Input::stdin(b"hello"));
    job.spec.cache_seconds = 3600;
    job.spec.cache_id = Some(Commitment::parse(&"5a".repeat(32)).unwrap());
    let payload = job.seal(offer.recipient(), &job.binding(consumer.id(), &offer));
    let headers = format!("content-type: {SUBMISSION}\r\n{IDEMPOTENCY_KEY}: {}\r\n", job.idempotency_key);
    Ready { body: submission(offer.document().offer, &job.spec, &payload), headers }
}

/// From the submission to the receipt's last byte; how many answers that took.
fn run(wire: &mut Wire, ready: &Ready) -> usize {
    let (status, body) = wire.ask("POST", paths::JOBS, &ready.headers, &ready.body);
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    let mut view: JobView = serde_json::from_slice(&body).unwrap();
    let mut answers = 2;
    while !view.state.is_final() {
        let path = format!("{}?after={}&wait=30", path(paths::JOB, view.job), view.steps.len());
        view = serde_json::from_slice(&wire.ask("GET", &path, "", b"").1).unwrap();
        answers += 1;
    }
    assert_eq!(view.state, JobState::Done, "{:?}", view.reason);
    let (status, _) = wire.ask("GET", &path(paths::JOB_RECEIPT, view.job), "", b"");
    assert_eq!(status, 200);
    answers
}

/// Has the program kept for this consumer.
fn warm(node: &Node, consumer: &Consumer<'_>, program: &[u8]) {
    let mut wire = Wire::new(node, consumer.key());
    let ready = ready(&mut wire, consumer, program);
    run(&mut wire, &ready);
}

pub(crate) fn one_by_one(node: &Node, program: &[u8], jobs: usize) -> Found {
    let consumer = node.consumer();
    warm(node, &consumer, program);
    let mut wire = Wire::new(node, consumer.key());
    let mut answers = 0;
    let ms: Vec<f64> = (0..jobs)
        .map(|_| {
            if wire.is_old() {
                wire = Wire::new(node, consumer.key());
            }
            let ready = ready(&mut wire, &consumer, program);
            let start = Instant::now();
            answers += run(&mut wire, &ready);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    Found { p50: at(ms.clone(), 50), p99: at(ms, 99), answers: answers as f64 / jobs as f64 }
}

/// Jobs a second, offers and sealing included, from as many consumers as run at once.
pub(crate) fn at_once(node: &Node, program: &[u8], jobs: usize, parallel: usize) -> f64 {
    let consumers: Vec<Consumer<'_>> = (0..parallel).map(|_| node.consumer()).collect();
    consumers.iter().for_each(|consumer| warm(node, consumer, program));
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for consumer in &consumers {
            let next = &next;
            scope.spawn(move || {
                let mut wire = Wire::new(node, consumer.key());
                while next.fetch_add(1, Ordering::Relaxed) < jobs {
                    if wire.is_old() {
                        wire = Wire::new(node, consumer.key());
                    }
                    let ready = ready(&mut wire, consumer, program);
                    run(&mut wire, &ready);
                }
            });
        }
    });
    jobs as f64 / start.elapsed().as_secs_f64()
}
