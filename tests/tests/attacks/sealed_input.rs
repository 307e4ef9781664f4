//! Somebody between consumer and node (or the operator, who holds the stored payload) alters what was
//! sealed: cuts it, reorders or repeats chunks, flips bits, or offers it to another place than the one it
//! was sealed for. The engine must notice, use nothing of it, and the job must end as `payload-invalid`,
//! without output, with a receipt.

use decores_api::jobs::Job as JobView;
use decores_api::paths;
use decores_audit::verify::{Claim, Status, verify};
use decores_keys::payload::{CHUNK_BYTES, JobBinding, TAG_BYTES};
use decores_tests::consumer::{Consumer, path};
use decores_tests::job::{Input, Job};
use decores_tests::node::Node;
use decores_tests::wasm;
use decores_types::{ConsumerId, Digest, KeyId, Reason};

/// Program and input of several chunks, the last one short.
fn job() -> Job {
    Job::new(&wasm::cat(), Input::stdin(&vec![7; 3 * CHUNK_BYTES]))
}

/// Submits what `alter` makes of an honest payload; it must be refused by the engine.
fn refused(node: &Node, consumer: &Consumer<'_>, what: &str, alter: impl FnOnce(&Job, &mut Vec<u8>)) {
    let job = job();
    let offer = consumer.offer();
    let mut payload = job.seal(offer.recipient(), &job.binding(consumer.id(), &offer));
    alter(&job, &mut payload);
    let view: JobView = consumer.send(&job, offer.document().offer, &payload).json();
    ends_invalid(node, consumer, &view, what);
}

fn ends_invalid(node: &Node, consumer: &Consumer<'_>, view: &JobView, what: &str) {
    let ended = consumer.wait(view.job);
    assert_eq!(ended.view.reason, Reason::PayloadInvalid, "{what}: {:#?}", ended.view.steps);
    consumer.get(&path(paths::JOB_RESULT, view.job)).refused(409, "state-conflict");
    let report = verify(&consumer.receipt(view.job), &node.trust(), None, &[]).unwrap();
    assert!(report.is_accepted(), "{what}: {:#?}", report.verdict);
}

/// Where the sealed input starts: it is the end of the payload.
fn input_at(job: &Job, payload: &[u8]) -> usize {
    let chunks = job.bundle.len().div_ceil(CHUNK_BYTES);
    payload.len() - job.bundle.len() - chunks * TAG_BYTES
}

#[test]
fn truncated_payloads_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    refused(&node, &consumer, "nothing", |_, payload| payload.clear());
    refused(&node, &consumer, "half a header", |_, payload| payload.truncate(20));
    refused(&node, &consumer, "half a head", |_, payload| payload.truncate(700));
    refused(&node, &consumer, "half a program", |job, payload| payload.truncate(input_at(job, payload) - 40));
    refused(&node, &consumer, "no input", |job, payload| payload.truncate(input_at(job, payload)));
    refused(&node, &consumer, "a chunk less", |job, payload| {
        payload.truncate(input_at(job, payload) + CHUNK_BYTES + TAG_BYTES);
    });
    refused(&node, &consumer, "a byte less", |_, payload| {
        payload.pop();
    });
}

#[test]
fn lengthened_payloads_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    refused(&node, &consumer, "a byte more", |_, payload| payload.push(0));
    refused(&node, &consumer, "a chunk more", |job, payload| {
        let at = input_at(job, payload);
        payload.extend_from_within(at..at + CHUNK_BYTES + TAG_BYTES);
    });
}

#[test]
fn reordered_and_repeated_chunks_are_refused() {
    const SEALED: usize = CHUNK_BYTES + TAG_BYTES;
    let node = Node::start();
    let consumer = node.consumer();
    refused(&node, &consumer, "two chunks swapped", |job, payload| {
        let at = input_at(job, payload);
        let (first, second) = payload[at..at + 2 * SEALED].split_at_mut(SEALED);
        first.swap_with_slice(second);
    });
    refused(&node, &consumer, "a chunk twice", |job, payload| {
        let at = input_at(job, payload);
        payload.copy_within(at..at + SEALED, at + SEALED);
    });
    refused(&node, &consumer, "sections swapped", |job, payload| {
        let at = input_at(job, payload);
        let program = job.program.len() + TAG_BYTES;
        payload[at - program..].rotate_left(program);
    });
}

#[test]
fn flipped_bits_are_refused_wherever_they_are() {
    let node = Node::start();
    let consumer = node.consumer();
    // Magic, version, kind, suite, key id, epoch, sections, lengths, encapsulated key, sealed keys, tag.
    let head = [0, 4, 5, 7, 8, 27, 28, 29, 37, 38, 46, 47, 1166, 1167, 1262, 1263, 1278];
    for at in head {
        refused(&node, &consumer, &format!("byte {at}"), |_, payload| payload[at] ^= 1);
    }
    refused(&node, &consumer, "first byte of the program", |_, payload| payload[1279] ^= 0x80);
    refused(&node, &consumer, "tag of the program", |job, payload| {
        let at = input_at(job, payload) - 1;
        payload[at] ^= 1;
    });
    refused(&node, &consumer, "middle of the input", |job, payload| {
        let at = input_at(job, payload) + CHUNK_BYTES + 99;
        payload[at] ^= 4;
    });
    refused(&node, &consumer, "last byte", |_, payload| *payload.last_mut().unwrap() ^= 1);
}

/// Each member of the binding in turn names another place.
#[test]
fn payloads_bound_to_another_place_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let changes: [(&str, fn(&mut JobBinding)); 4] = [
        ("consumer", |b| b.consumer = ConsumerId::from_bytes([9; 16])),
        ("offer", |b| b.offer = Digest::of(b"another offer")),
        ("output key", |b| b.output_key = KeyId::from_bytes([9; 16])),
        ("spec", |b| b.spec = Digest::of(b"another spec")),
    ];
    for (what, change) in changes {
        let job = job();
        let offer = consumer.offer();
        let mut binding = job.binding(consumer.id(), &offer);
        change(&mut binding);
        let payload = job.seal(offer.recipient(), &binding);
        let view: JobView = consumer.send(&job, offer.document().offer, &payload).json();
        ends_invalid(&node, &consumer, &view, what);
    }
}

/// The spec is changed on the way: more memory, another output key, another program.
#[test]
fn a_spec_that_was_changed_after_sealing_is_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let thief = job();
    let changes: [(&str, &dyn Fn(&mut Job)); 5] = [
        ("limits", &|job| job.spec.limits.memory_bytes += 1),
        ("output key", &|job| job.spec.output_key = thief.spec.output_key.clone()),
        ("program", &|job| job.spec.program = thief.spec.program),
        ("input", &|job| job.spec.input = thief.spec.input),
        ("key check", &|job| job.spec.key_check = thief.spec.key_check),
    ];
    for (what, change) in changes {
        let mut job = job();
        let offer = consumer.offer();
        let payload = job.seal(offer.recipient(), &job.binding(consumer.id(), &offer));
        change(&mut job);
        let view: JobView = consumer.send(&job, offer.document().offer, &payload).json();
        ends_invalid(&node, &consumer, &view, what);
    }
}

/// The consumer itself contradicts its spec: what it seals is not what it committed to.
#[test]
fn contents_that_contradict_the_spec_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let changes: [(&str, fn(&mut Job)); 4] = [
        ("another program", |job| job.program = wasm::nothing()),
        ("another input", |job| job.bundle = Job::new(b"", Input::stdin(b"other")).bundle),
        ("not a bundle", |job| job.bundle = b"plain".to_vec()),
        ("content that does not fit its digest", |job| *job.bundle.last_mut().unwrap() ^= 1),
    ];
    for (what, change) in changes {
        let mut job = job();
        change(&mut job);
        let view: JobView = consumer.submit(&job).json();
        assert_eq!(consumer.wait(view.job).view.reason, Reason::PayloadInvalid, "{what}");
        consumer.get(&path(paths::JOB_RESULT, view.job)).refused(409, "state-conflict");
        let report = verify(&consumer.receipt(view.job), &node.trust(), None, &[]).unwrap();
        // What the engine measured stands in the receipt, and is not what the spec names.
        let expected = if what == "another program" { Status::DoesNotHold } else { Status::Holds };
        assert_eq!(report.status(Claim::Program), expected, "{what}");
    }
}

/// A recorded submission is sent again, by its consumer and by another one, when its job is over.
#[test]
fn a_recorded_payload_opens_no_more() {
    let node = Node::start();
    let (consumer, other) = (node.consumer(), node.consumer());
    let first = job();
    let offer = consumer.offer();
    let recorded = first.seal(offer.recipient(), &first.binding(consumer.id(), &offer));
    let view: JobView = consumer.send(&first, offer.document().offer, &recorded).json();
    assert_eq!(consumer.wait(view.job).view.reason, Reason::Completed);

    let mut again = job();
    again.spec = first.spec.clone();
    consumer.send(&again, offer.document().offer, &recorded).refused(409, "offer-invalid");
    for who in [&consumer, &other] {
        let mut again = job();
        again.spec = first.spec.clone();
        let view: JobView = who.send(&again, who.offer().document().offer, &recorded).json();
        ends_invalid(&node, who, &view, "under another offer");
    }
}
