//! Requests that are too large, too deep, of the wrong kind, or so slow that a few clients would take every
//! place. Each is refused with a problem (or the connection is closed), and the node serves the next client.

use decores_api::headers::{IDEMPOTENCY_KEY, MAX_JSON, SUBMISSION};
use decores_api::jobs::Job as JobView;
use decores_api::paths;
use decores_tests::consumer::Consumer;
use decores_tests::job::{Input, Job, submission};
use decores_tests::node::{Node, Settings};
use decores_tests::transport::{Response, head};
use decores_tests::wait::timed;
use decores_tests::wasm;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

fn serves(node: &Node) {
    assert_eq!(node.transport().request("GET", paths::HEALTHZ, &[], b"").status, 200);
}

#[test]
fn oversized_bodies_are_refused() {
    let node = Node::with(&Settings { payload_bytes: 100_000, ..Settings::default() });
    let consumer = node.consumer();
    let large = format!("{{\"protection\":\"{}\"}}", "x".repeat(MAX_JSON));
    consumer.post(paths::OFFERS, large.as_bytes()).refused(413, "too-large");
    consumer.post(paths::PLANS, &vec![b' '; 8 << 20]).refused(413, "too-large");

    let job = Job::new(&wasm::cat(), Input::stdin(&vec![0; 8 << 20]));
    consumer.submit(&job).refused(413, "too-large");
    let headers = [("content-type", SUBMISSION), (IDEMPOTENCY_KEY, "0123456789abcdef")];
    consumer.request("POST", paths::JOBS, &headers, &[0xff; 64]).refused(413, "too-large");
    let mut job = Job::new(&wasm::cat(), Input::default());
    job.spec.output_key.public.0 = vec![0; 20_000];
    consumer.submit(&job).refused(413, "too-large");
    serves(&node);
}

/// A body that says nothing of its length is counted while it comes.
#[test]
fn endless_chunked_bodies_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let mut line = node.transport().connect().unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: node\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        paths::OFFERS,
        consumer.key()
    );
    line.write_all(head.as_bytes()).unwrap();
    let chunk = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat();
    // More than is read; the node may close before all is written.
    for _ in 0..64 {
        if line.write_all(&chunk).is_err() {
            break;
        }
    }
    Response::read(&mut line).unwrap().refused(413, "too-large");
}

#[test]
fn oversized_and_too_many_headers_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let large = "x".repeat(128 * 1024);
    headers_refused(&consumer, &[("x-large", &large)], paths::STATUS);
    let many: Vec<(String, &str)> = (0..100).map(|n| (format!("x-{n}"), "y")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    headers_refused(&consumer, &many, paths::STATUS);
    let long = format!("{}?{}", paths::STATUS, "q".repeat(128 * 1024));
    headers_refused(&consumer, &[], &long);
    serves(&node);
}

fn headers_refused(consumer: &Consumer<'_>, headers: &[(&str, &str)], path: &str) {
    let status = consumer.request("GET", path, headers, b"").status;
    assert!(matches!(status, 414 | 431), "{status}");
}

#[test]
fn json_that_is_too_deep_is_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    for depth in [33, 1_000, 30_000] {
        let deep = format!("{{\"spec\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        consumer.post(paths::PLANS, deep.as_bytes()).refused(400, "malformed");
        let open = "{\"a\":".repeat(depth.min(10_000));
        consumer.post(paths::PLANS, open.as_bytes()).refused(400, "malformed");
    }
    serves(&node);
}

#[test]
fn malformed_documents_and_unknown_members_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    for text in [
        "",
        "{",
        "null",
        "[]",
        "{\"protection\":\"process\",\"more\":1}",
        "{\"protection\":\"process\",\"protection\":\"process\"}",
        "{\"protection\":\"courage\"}",
        "{\"protection\":1}",
        "{\"protection\":\"process\"} {}",
        "{\"protection\":\"\\ud800\"}",
    ] {
        consumer.post(paths::OFFERS, text.as_bytes()).refused(400, "malformed");
    }
    consumer.post(paths::OFFERS, b"{\"protection\":\"\xff\"}").refused(400, "malformed");
    for query in ["?limit=x", "?limit=-1", "?nope=1", "?cursor=x"] {
        consumer.get(&format!("{}{query}", paths::JOBS)).refused(400, "malformed");
    }
    let headers = [("content-type", SUBMISSION), (IDEMPOTENCY_KEY, "0123456789abcdef")];
    for body in [b"".as_slice(), b"\0\0", b"\0\0\0\x02{}", b"\0\0\0\x09{}"] {
        consumer.request("POST", paths::JOBS, &headers, body).refused(400, "malformed");
    }
}

#[test]
fn other_content_types_methods_and_paths_are_refused() {
    let node = Node::start();
    let consumer = node.consumer();
    let body = b"{\"protection\":\"process\"}";
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let headers = [("content-type", kind)];
        consumer.request("POST", paths::OFFERS, &headers, body).refused(415, "unsupported-media-type");
    }
    consumer.request("POST", paths::OFFERS, &[], body).refused(415, "unsupported-media-type");
    consumer.request("PUT", paths::STATUS, &[], b"").refused(405, "method-not-allowed");
    consumer.request("DELETE", paths::JOBS, &[], b"").refused(405, "method-not-allowed");
    consumer.get("/v2/status").refused(404, "not-found");
    consumer.get("/v1/jobs/job_1").refused(404, "not-found");
    for tile in ["../checkpoint", "%2e%2e/keys/keystore.json", "0/../../../keys/root.key", "x".repeat(500).as_str()] {
        consumer.get(&format!("/v1/log/tile/{tile}")).refused(404, "not-found");
    }
}

/// Two ways to tell where a body ends, or a second request hidden in the first.
#[test]
fn smuggled_requests_are_refused_or_not_answered_twice() {
    let node = Node::start();
    let both = "GET /healthz HTTP/1.1\r\nhost: node\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                GET /v1/node HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    let twice =
        "GET /healthz HTTP/1.1\r\nhost: node\r\ncontent-length: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab";
    let spaced = "GET /healthz HTTP/1.1\r\nhost : node\r\nconnection: close\r\n\r\n";
    for (request, what) in [(both, "both"), (twice, "twice"), (spaced, "spaced")] {
        let mut line = node.transport().connect().unwrap();
        line.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        if what == "both" {
            // Chunked wins, as RFC 9112 says, and the length is not believed.
            assert!(text.starts_with("HTTP/1.1 400") || text.matches("HTTP/1.1 200").count() <= 2, "{text}");
        } else {
            assert!(text.starts_with("HTTP/1.1 400"), "{what}: {text}");
        }
    }
    serves(&node);
}

/// Heads and bodies that come a byte at a time, or not at all.
#[test]
fn slow_clients_are_cut_off() {
    let node = Node::with(&Settings { head_seconds: 1, body_seconds: 1, ..Settings::default() });
    let consumer = node.consumer();
    let bearer = format!("Bearer {}", consumer.key());

    let (closed, took) = timed(|| {
        let mut line = node.transport().connect().unwrap();
        line.write_all(b"GET /healthz HTTP/1.1\r\nhost:").unwrap();
        let mut rest = Vec::new();
        let _ = line.read_to_end(&mut rest);
        rest
    });
    assert!(!closed.starts_with(b"HTTP/1.1 200") && took < Duration::from_secs(8), "{took:?}");

    let (_, took) = timed(|| {
        let mut socket = TcpStream::connect(node.address()).unwrap();
        // Half a handshake.
        socket.write_all(&[0x16, 3, 1, 0, 200]).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    assert!(took < Duration::from_secs(8), "{took:?}");

    let mut line = node.transport().connect().unwrap();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    line.write_all(head("POST", paths::OFFERS, &headers, 100).as_bytes()).unwrap();
    line.write_all(b"{").unwrap();
    Response::read(&mut line).unwrap().refused(408, "request-timeout");

    let (offer, job) = (consumer.offer(), Job::new(&wasm::nothing(), Input::default()));
    let body = submission(offer.document().offer, &job.spec, b"a part");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", SUBMISSION),
        (IDEMPOTENCY_KEY, job.idempotency_key.as_str()),
    ];
    let mut line = node.transport().connect().unwrap();
    line.write_all(head("POST", paths::JOBS, &headers, body.len() + 100_000).as_bytes()).unwrap();
    line.write_all(&body).unwrap();
    Response::read(&mut line).unwrap().refused(408, "request-timeout");
    assert_eq!(consumer.status().offers, 0, "the offer is spent");
    consumer.send(&job, offer.document().offer, b"").refused(409, "offer-invalid");
    nothing_is_left(&node, &consumer);
}

fn nothing_is_left(node: &Node, consumer: &Consumer<'_>) {
    let jobs: decores_api::Page<JobView> = consumer.get(paths::JOBS).json();
    assert!(jobs.items.is_empty());
    assert_eq!(decores_tests::machine::files(&node.home().join("blobs")), Vec::<std::path::PathBuf>::new());
}

/// Every place is taken by connections that say nothing: they lose it, and others are served.
#[test]
fn a_flood_of_silent_connections_passes() {
    let node = Node::with(&Settings { connections: 8, head_seconds: 1, ..Settings::default() });
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(node.address()).unwrap()).collect();
    let (_, took) = timed(|| serves(&node));
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(silent);
    let shaken: Vec<_> = (0..8).map(|_| node.transport().connect().unwrap()).collect();
    let (_, took) = timed(|| serves(&node));
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(shaken);
}
