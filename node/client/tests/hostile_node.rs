//! A node that is not what it says: what the client refuses before it believes or sends anything.
//!
//! Each case is a small TLS server that answers one prepared text to every request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod server;

use decores_client::{Client, ClientError, ErrorKind, NodeUrl, bootstrap};
use decores_types::{ConsumerId, JobId};
use rustls::version;
use server::{Fake, answer, fake};

fn client(folder: &tempfile::TempDir, url: &NodeUrl, ca: &[u8]) -> Client {
    server::client(folder, url, ca, [1; 32], ConsumerId::from_bytes([1; 16]))
}

async fn ask(fake: &Fake, ca: &[u8]) -> ClientError {
    let folder = tempfile::tempdir().unwrap();
    client(&folder, &fake.url, ca).job(JobId::from_bytes([1; 16])).await.unwrap_err()
}

#[tokio::test]
async fn another_authority_is_refused_and_hears_no_key() {
    let (node, other) = (fake(&[&version::TLS13], String::new()).await, fake(&[&version::TLS13], String::new()).await);
    let error = ask(&node, &other.ca).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.hint().unwrap().contains("certificate does not fit"), "{error:?}");
    assert!(node.heard().is_empty());
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let node = fake(&[&version::TLS12], String::new()).await;
    assert_eq!(ask(&node, &node.ca).await.kind(), ErrorKind::Unreachable);
    assert!(bootstrap(node.url.clone()).await.is_err());
    assert!(node.heard().is_empty());
}

#[tokio::test]
async fn first_contact_sends_no_key_and_believes_no_unsigned_statement() {
    let node = fake(&[&version::TLS13], answer("200 OK", "", r#"{"envelope":{"payload":"e30="}}"#)).await;
    assert!(matches!(bootstrap(node.url.clone()).await, Err(ClientError::Answer { .. })));
    let heard = node.heard();
    assert!(heard.starts_with("GET /v1/node ") && !heard.to_lowercase().contains("authorization"), "{heard}");
}

#[tokio::test]
async fn a_problem_becomes_a_refusal_with_its_hint() {
    let body = r#"{"type":"t","title":"t","status":409,"code":"state-conflict","detail":"it has ended","hint":"look"}"#;
    let node =
        fake(&[&version::TLS13], answer("409 Conflict", "content-type: application/problem+json\r\n", body)).await;
    let error = ask(&node, &node.ca).await;
    assert_eq!((error.kind(), error.hint().as_deref()), (ErrorKind::Refused, Some("look")));
    assert_eq!(error.to_string(), "the node answered 409: it has ended");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = fake(&[&version::TLS13], answer("200 OK", "", "{}")).await;
    let header = format!("location: {}/\r\n", elsewhere.url);
    let node = fake(&[&version::TLS13], answer("302 Found", &header, "")).await;
    assert!(matches!(ask(&node, &node.ca).await, ClientError::Status { status: 302 }));
    assert!(elsewhere.heard().is_empty());
}

#[tokio::test]
async fn answers_that_are_too_large_or_no_json_are_refused() {
    let node = fake(&[&version::TLS13], answer("200 OK", "", " ".repeat((16 << 20) + 1))).await;
    assert!(matches!(ask(&node, &node.ca).await, ClientError::TooLarge { .. }));
    let node = fake(&[&version::TLS13], answer("200 OK", "", "{")).await;
    assert!(matches!(ask(&node, &node.ca).await, ClientError::Answer { .. }));
    let node = fake(&[&version::TLS13], answer("200 OK", "", "[".repeat(5000))).await;
    assert!(matches!(ask(&node, &node.ca).await, ClientError::Answer { .. }));
}

#[tokio::test]
async fn nobody_there_is_told_as_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let node = fake(&[&version::TLS13], String::new()).await;
    let nowhere = NodeUrl::parse("https://127.0.0.1:1").unwrap();
    let error = client(&folder, &nowhere, &node.ca).status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}
