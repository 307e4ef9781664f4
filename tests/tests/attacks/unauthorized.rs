//! Every operation of the API, walked from the document the node serves: with no key, a malformed one, an
//! unknown one, and a consumer's. The table below must name each operation, so a new one cannot be forgotten.

use decores_access::ApiKeyText;
use decores_system::SystemRandom;
use decores_tests::node::Node;
use decores_tests::transport::Response;
use serde_json::Value;
use std::collections::BTreeMap;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anybody,
    Consumer,
    Operator,
}

use Who::{Anybody, Consumer, Operator};

const TABLE: &[(&str, &str, Who)] = &[
    ("get", "/healthz", Anybody),
    ("get", "/metrics", Operator),
    ("get", "/v1/alerts", Operator),
    ("post", "/v1/alerts/{alert}/ack", Operator),
    ("get", "/v1/apikeys", Operator),
    ("post", "/v1/apikeys", Operator),
    ("delete", "/v1/apikeys/{key}", Operator),
    ("get", "/v1/jobs", Consumer),
    ("post", "/v1/jobs", Consumer),
    ("get", "/v1/jobs/{job}", Consumer),
    ("post", "/v1/jobs/{job}/cancel", Consumer),
    ("get", "/v1/jobs/{job}/logs", Consumer),
    ("get", "/v1/jobs/{job}/receipt", Consumer),
    ("delete", "/v1/jobs/{job}/result", Consumer),
    ("get", "/v1/jobs/{job}/result", Consumer),
    ("get", "/v1/keys", Operator),
    ("get", "/v1/log/checkpoint", Consumer),
    ("get", "/v1/log/entries", Operator),
    ("get", "/v1/log/proofs/{index}", Consumer),
    ("get", "/v1/log/tile/{path}", Consumer),
    ("post", "/v1/mend", Operator),
    ("get", "/v1/node", Anybody),
    ("post", "/v1/offers", Consumer),
    ("get", "/v1/openapi.json", Anybody),
    ("post", "/v1/plans", Consumer),
    ("get", "/v1/status", Consumer),
];

fn fill(path: &str) -> String {
    let zeros = "0".repeat(32);
    path.replace("{job}", &format!("job_{zeros}"))
        .replace("{alert}", &format!("alr_{zeros}"))
        .replace("{key}", &format!("ak_{zeros}"))
        .replace("{index}", "0")
        .replace("{path}", "0/000")
}

/// The operations in the served document.
fn served(node: &Node) -> Vec<(String, String, bool)> {
    let document: Value = node.transport().request("GET", "/v1/openapi.json", &[], b"").json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = operation["security"].as_array().is_some_and(|list| list.contains(&serde_json::json!({})));
            found.push((method.clone(), path.clone(), open));
        }
    }
    found
}

#[test]
fn the_table_names_every_operation() {
    let node = Node::start();
    let served: BTreeMap<(String, String), bool> = served(&node).into_iter().map(|(m, p, o)| ((m, p), o)).collect();
    let table: BTreeMap<(String, String), bool> =
        TABLE.iter().map(|(m, p, who)| (((*m).to_owned(), (*p).to_owned()), *who == Anybody)).collect();
    assert_eq!(served, table);
}

#[test]
fn nobody_gets_past_the_door_without_a_good_key() {
    let node = Node::start();
    let unknown = format!("Bearer {}", ApiKeyText::generate(&SystemRandom).expose());
    for (method, path, who) in TABLE {
        let ask = |headers: &[(&str, &str)]| -> Response {
            node.transport().request(&method.to_uppercase(), &fill(path), headers, b"")
        };
        let answers =
            [ask(&[]), ask(&[("authorization", "Bearer dck_short")]), ask(&[("authorization", unknown.as_str())])];
        for answer in answers {
            if *who == Anybody {
                assert_eq!(answer.status, 200, "{method} {path}");
            } else {
                assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthenticated"), "{method} {path}");
            }
        }
    }
}

#[test]
fn a_consumer_may_do_what_consumers_do_and_no_more() {
    let node = Node::start();
    let (consumer, operator) = (node.consumer(), node.operator());
    for (method, path, who) in TABLE {
        let answer = consumer.request(&method.to_uppercase(), &fill(path), &[], b"");
        if *who == Operator {
            assert_eq!((answer.status, answer.problem().as_str()), (403, "forbidden"), "{method} {path}");
        } else {
            assert!(!matches!(answer.status, 401 | 403), "{method} {path}: {}", answer.status);
        }
        let answer = operator.request(&method.to_uppercase(), &fill(path), &[], b"");
        assert!(!matches!(answer.status, 401 | 403 | 500..), "{method} {path}: {}", answer.status);
    }
    // Entry bundles hold entries: they lie behind the hash tiles' path, but not behind their door.
    consumer.get("/v1/log/tile/entries/000.p/5").refused(403, "forbidden");
}
