//! A node that is not what it says: what the client refuses before it believes or sends anything.
//!
//! Each case is a small TLS server that answers one prepared text to every request, or one to each path.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use decores_client::{ApiKey, Client, ClientError, ErrorKind, Home, Login, NodeUrl, bootstrap};
use decores_system::{SystemClock, SystemRandom};
use decores_types::{Base64, ConsumerId, JobId, KeyId};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A running server: where it is, its authority, and what it was sent.
struct Fake {
    url: NodeUrl,
    ca: Vec<u8>,
    heard: Arc<Mutex<Vec<u8>>>,
}

async fn fake(versions: &[&'static SupportedProtocolVersion], answer: String) -> Fake {
    serve(versions, Arc::new(move |_| answer.clone().into_bytes())).await
}

/// `route` answers a request's path, query included.
async fn serve(
    versions: &[&'static SupportedProtocolVersion],
    route: Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>,
) -> Fake {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = NodeUrl::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (acceptor, notes) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&heard));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, notes, route) = (acceptor.clone(), Arc::clone(&notes), Arc::clone(&route));
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(socket).await else { return };
                let mut buffer = [0; 4096];
                let read = tls.read(&mut buffer).await.unwrap_or(0);
                notes.lock().unwrap().extend(buffer.iter().take(read));
                let request = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned();
                let _ = tls.write_all(&route(request.split(' ').nth(1).unwrap_or_default())).await;
                let _ = tls.shutdown().await;
            });
        }
    });
    Fake { url, ca: issuer.der().to_vec(), heard }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn client(folder: &tempfile::TempDir, url: &NodeUrl, ca: &[u8]) -> Client {
    let home = Home::new(folder.path().to_owned());
    let login = Login {
        version: 1,
        url: url.clone(),
        name: "fake".to_owned(),
        identity: KeyId::of_public("ed25519", &[1; 32]),
        identity_public: Base64(vec![1; 32]),
        ca: Base64(ca.to_vec()),
        consumer: ConsumerId::from_bytes([1; 16]),
    };
    home.save_login(&login, &ApiKey::parse("dck_secret").unwrap()).unwrap();
    Client::open(home, None, None, Arc::new(SystemClock::new()), Arc::new(SystemRandom)).unwrap()
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
    assert!(node.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let node = fake(&[&version::TLS12], String::new()).await;
    assert_eq!(ask(&node, &node.ca).await.kind(), ErrorKind::Unreachable);
    assert!(bootstrap(node.url.clone()).await.is_err());
    assert!(node.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn first_contact_sends_no_key_and_believes_no_unsigned_statement() {
    let node = fake(&[&version::TLS13], answer("200 OK", "", r#"{"envelope":{"payload":"e30="}}"#)).await;
    assert!(matches!(bootstrap(node.url.clone()).await, Err(ClientError::Answer { .. })));
    let heard = String::from_utf8(node.heard.lock().unwrap().clone()).unwrap();
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
    assert!(elsewhere.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn answers_that_are_too_large_or_no_json_are_refused() {
    let node = fake(&[&version::TLS13], answer("200 OK", "", &" ".repeat((16 << 20) + 1))).await;
    assert!(matches!(ask(&node, &node.ca).await, ClientError::TooLarge { .. }));
    let node = fake(&[&version::TLS13], answer("200 OK", "", "{")).await;
    assert!(matches!(ask(&node, &node.ca).await, ClientError::Answer { .. }));
    let node = fake(&[&version::TLS13], answer("200 OK", "", &"[".repeat(5000))).await;
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
