//! API keys that are wrong, expired, malformed or revoked; a consumer at the operator's doors; and one
//! consumer who knows the id of another's job: it must look as if that job did not exist.

use decores_access::ApiKeyText;
use decores_api::admin::ApiKey;
use decores_api::jobs::Job as JobView;
use decores_api::log::LogEntries;
use decores_api::paths;
use decores_system::SystemRandom;
use decores_tests::consumer::{Consumer, path};
use decores_tests::job::{Input, Job};
use decores_tests::machine::files_with;
use decores_tests::node::Node;
use decores_tests::transport::Response;
use decores_tests::wait::until;
use decores_tests::wasm;
use decores_types::JobId;

fn with(node: &Node, authorization: &str) -> Response {
    node.transport().request("GET", paths::STATUS, &[("authorization", authorization)], b"")
}

#[test]
fn wrong_and_malformed_keys_are_refused_alike() {
    let node = Node::start();
    let good = node.consumer().key().to_owned();
    let unknown = ApiKeyText::generate(&SystemRandom).expose().to_owned();
    let last = if good.ends_with('a') { "b" } else { "a" };
    let typo = format!("{}{last}", &good[..good.len() - 1]);
    let without = node.transport().request("GET", paths::STATUS, &[], b"");
    without.refused(401, "unauthenticated");
    assert!(without.header("www-authenticate").is_some_and(|v| v.starts_with("Bearer")));
    for value in [
        format!("Bearer {unknown}"),
        format!("Bearer {typo}"),
        format!("Bearer {}", &good[..good.len() - 7]),
        format!("Bearer {good} "),
        format!("Bearer  {good}"),
        format!("Bearer {good}x"),
        format!("Basic {good}"),
        format!("Bearer {}", good.to_uppercase()),
        format!("Bearer dck_{}_aaaaaa", "0".repeat(32)),
        format!("Bearer {}", "x".repeat(8000)),
        good.clone(),
        "Bearer".to_owned(),
        String::new(),
    ] {
        // A space at a header's end is no part of it (RFC 9110, 5.5).
        if value.trim_end() == format!("Bearer {good}") {
            assert_eq!(with(&node, &value).status, 200);
            continue;
        }
        let refused = with(&node, &value);
        refused.refused(401, "unauthenticated");
        assert_eq!(refused.body, without.body, "{value}");
    }
}

#[test]
fn an_expired_key_is_refused() {
    let node = Node::start();
    let key = node.operator().create_key("consumer", 1).api_key;
    let bearer = format!("Bearer {key}");
    let refused = until("the key expires", 10, || Some(with(&node, &bearer)).filter(|answer| answer.status != 200));
    refused.refused(401, "key-expired");
}

#[test]
fn a_revoked_key_is_refused_at_once() {
    let node = Node::start();
    let operator = node.operator();
    let made = operator.create_key("consumer", 3600);
    let consumer = Consumer::new(&node, &made.api_key);
    let one = paths::API_KEY.replace("{key}", &made.record.id.to_string());
    assert_eq!(operator.request("DELETE", &one, &[], b"").status, 204);
    consumer.get(paths::STATUS).refused(401, "unauthenticated");
    let listed: Vec<ApiKey> = operator.get(paths::API_KEYS).json();
    assert!(listed.iter().any(|key| key.id == made.record.id && key.revoked));
}

#[test]
fn keys_are_nowhere_on_the_disk() {
    let node = Node::start();
    let operator = node.operator();
    let key = node.consumer().key().to_owned();
    for key in [key.as_str(), operator.key()] {
        assert_eq!(files_with(&node.home(), key.as_bytes()), Vec::<std::path::PathBuf>::new());
        assert!(!node.log().contains(key));
    }
}

#[test]
fn keys_that_nobody_may_have_are_not_made() {
    let node = Node::start();
    let operator = node.operator();
    for text in [
        r#"{"name":"","role":"consumer","expiresSeconds":60}"#,
        r#"{"name":"a\nb","role":"consumer","expiresSeconds":60}"#,
        r#"{"name":"a","role":"root","expiresSeconds":60}"#,
        r#"{"name":"a","role":"consumer","expiresSeconds":0}"#,
        r#"{"name":"a","role":"consumer","expiresSeconds":31536001}"#,
        r#"{"name":"a","role":"consumer","expiresSeconds":-1}"#,
    ] {
        operator.post(paths::API_KEYS, text.as_bytes()).refused(400, "malformed");
    }
}

/// 404 and not 403: that the job exists is itself not for strangers. The operator is one, too.
#[test]
fn another_consumers_job_does_not_exist() {
    let node = Node::start();
    let (consumer, stranger, operator) = (node.consumer(), node.consumer(), node.operator());
    let job = Job::new(&wasm::cat(), Input::stdin(b"mine"));
    let ended = consumer.run(&job);
    let id = ended.view.job;
    let requests = [
        ("GET", paths::JOB),
        ("POST", paths::JOB_CANCEL),
        ("GET", paths::JOB_RESULT),
        ("DELETE", paths::JOB_RESULT),
        ("GET", paths::JOB_LOGS),
        ("GET", paths::JOB_RECEIPT),
    ];
    for (method, template) in requests {
        for who in [&stranger, &operator] {
            let theirs = who.request(method, &path(template, id), &[], b"");
            let nobodys = who.request(method, &path(template, JobId::from_bytes([5; 16])), &[], b"");
            theirs.refused(404, "not-found");
            assert_eq!(theirs.body, nobodys.body, "{method} {template}");
        }
    }
    assert_eq!(consumer.output(&job, &ended).stdout, b"mine");
    assert_eq!(consumer.show(id), ended.view);

    let log: LogEntries = operator.get(paths::LOG_ENTRIES).json();
    let refusals = log.entries.iter().map(|e| String::from_utf8_lossy(&e.entry.0).into_owned());
    let by_stranger = refusals.filter(|t| t.contains("access.refused") && t.contains(&stranger.id().to_string()));
    assert!(by_stranger.count() >= requests.len(), "refusals after sign-in are entries");
}

/// A running job, whose id a stranger has guessed, cannot be stopped by him.
#[test]
fn a_stranger_cannot_stop_a_running_job() {
    let node = Node::start();
    let (consumer, stranger) = (node.consumer(), node.consumer());
    let view: JobView = consumer.submit(&Job::new(&wasm::loops(), Input::default())).json();
    consumer.wait_for(view.job, |job| job.state == decores_types::JobState::Running);
    stranger.post(&path(paths::JOB_CANCEL, view.job), b"").refused(404, "not-found");
    assert_eq!(consumer.show(view.job).state, decores_types::JobState::Running);
    assert_eq!(consumer.post(&path(paths::JOB_CANCEL, view.job), b"").status, 200);
    consumer.wait(view.job);
}

#[test]
fn a_key_is_revoked_however_many_were_made_after_it() {
    let node = Node::start();
    let operator = node.operator();
    let stolen = operator.create_key("consumer", 3600);
    // More than one page of the store's.
    for _ in 0..1001 {
        operator.create_key("consumer", 3600);
    }
    let thief = decores_tests::consumer::Consumer::new(&node, &stolen.api_key);
    assert_eq!(operator.request("DELETE", &format!("/v1/apikeys/{}", stolen.record.id), &[], b"").status, 204);
    thief.get(decores_api::paths::STATUS).refused(401, "unauthenticated");
}
