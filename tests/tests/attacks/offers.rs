//! Offers are one-use keys in locked memory, made for one consumer. Attackers use one twice, use it late,
//! use somebody else's, alter what it says, or ask for so many that the node's locked memory is gone.

use decores_api::jobs::Job as JobView;
use decores_api::offers::OfferResponse;
use decores_api::paths;
use decores_keys::OfferError;
use decores_tests::consumer::Consumer;
use decores_tests::job::{Input, Job};
use decores_tests::machine::resident_kib;
use decores_tests::node::{Node, Settings};
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::{OfferId, canonical};

fn send(consumer: &Consumer<'_>, offer: OfferId) -> decores_tests::transport::Response {
    consumer.send(&Job::new(&wasm::nothing(), Input::default()), offer, b"anything")
}

#[test]
fn a_used_offer_is_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let offer = consumer.offer().document().offer;
    let view: JobView = send(&consumer, offer).json();
    send(&consumer, offer).refused(409, "offer-invalid");
    consumer.wait(view.job);
    send(&consumer, offer).refused(409, "offer-invalid");
}

#[test]
fn an_expired_offer_is_refused_and_its_key_destroyed() {
    let node = Node::with(&Settings { offer_seconds: 1, ..Settings::default() });
    let (consumer, operator) = (node.consumer(), node.operator());
    let offer = consumer.offer();
    let key = offer.recipient().id().to_string();
    until("the offer expires", 10, || (consumer.status().offers == 0).then_some(()));
    send(&consumer, offer.document().offer).refused(409, "offer-invalid");
    let log: decores_api::log::LogEntries = operator.get(paths::LOG_ENTRIES).json();
    let about = |kind: &str| {
        let type_member = format!("\"type\":\"{kind}\"");
        let mut texts = log.entries.iter().map(|e| String::from_utf8_lossy(&e.entry.0).into_owned());
        texts.any(|text| text.contains(&type_member) && text.contains(&key))
    };
    assert!(about("offer.expired") && about("key.destroyed"));
}

#[test]
fn foreign_and_unknown_offers_are_refused_alike() {
    let node = Node::start();
    let (consumer, other) = (node.consumer(), node.consumer());
    let offer = consumer.offer().document().offer;
    let foreign = send(&other, offer);
    foreign.refused(409, "offer-invalid");
    let unknown = send(&other, OfferId::from_bytes([7; 16]));
    unknown.refused(409, "offer-invalid");
    assert_eq!(foreign.body, unknown.body, "a stranger learns nothing of the offer");
    let view: JobView = send(&consumer, offer).json();
    consumer.wait(view.job);
}

/// Somebody in between hands the consumer an altered offer, so that it seals to another key.
#[test]
fn an_altered_offer_is_refused_by_the_consumer() {
    let node = Node::start();
    let (consumer, other) = (node.consumer(), node.consumer());
    let answer: OfferResponse = consumer.ask_offer().json();
    let good = canonical::to_vec(&answer.envelope).unwrap();
    consumer.verify(&good).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(consumer.verify(&bad).is_err(), "byte {at}");
    }
    assert!(matches!(other.verify(&good), Err(OfferError::Consumer)));
    let elsewhere = Node::start();
    assert!(matches!(elsewhere.operator().verify(&good), Err(OfferError::Identity { .. })));
}

#[test]
fn a_flood_of_offers_ends_at_the_thirty_third() {
    let node = Node::start();
    let (consumer, other) = (node.consumer(), node.consumer());
    let first = consumer.offer().document().offer;
    for _ in 1..32 {
        consumer.offer();
    }
    let before = resident_kib(node.pid());
    for _ in 0..50 {
        let refused = consumer.ask_offer();
        refused.refused(429, "too-many-requests");
        assert!(refused.header("retry-after").is_some());
    }
    let after = resident_kib(node.pid());
    assert!(after < before + 8 * 1024, "50 refusals took the node from {before} to {after} KiB");
    assert_eq!(consumer.status().offers, 32);
    other.offer();
    let view: JobView = send(&consumer, first).json();
    consumer.offer();
    consumer.wait(view.job);
}

/// Many consumers together: the locked memory that they share may run out, but nobody's offer breaks.
#[test]
fn many_consumers_at_their_limit_leave_the_node_serving() {
    let node = Node::start();
    let consumers: Vec<_> = (0..8).map(|_| node.consumer()).collect();
    std::thread::scope(|scope| {
        for consumer in &consumers {
            scope.spawn(move || {
                for _ in 0..40 {
                    let answer = consumer.ask_offer();
                    assert!(matches!(answer.status, 201 | 429 | 503), "{answer:?}");
                }
            });
        }
    });
    assert!(consumers[0].status().offers <= 8 * 32);
    let job = Job::new(&wasm::cat(), Input::stdin(b"still here"));
    let ended = node.operator().run(&job);
    assert_eq!(node.operator().output(&job, &ended).stdout, b"still here");
}
