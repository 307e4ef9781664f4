//! Connections that would keep a place for ever: each is ended, and its place serves the next client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::Router;
use axum::routing::get;
use decores_http::{HttpLimits, server};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

/// Far more than any limit here, and far less than for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than the kernel buffers for one connection.
const LARGE: usize = 32 << 20;
const ONE_PLACE: HttpLimits = HttpLimits {
    connections: 1,
    head: Duration::from_secs(2),
    body: Duration::from_millis(500),
    ..HttpLimits::DEFAULT
};

#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>);

impl ResolvesServerCert for OneKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

struct Node {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

async fn node(limits: HttpLimits) -> Node {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certified = CertifiedKey::new(vec![certificate.clone()], any_supported_type(&private).unwrap());
    let tls = server::tls_config(Arc::new(OneKey(Arc::new(certified)))).unwrap();
    let router = Router::new().route("/small", get(async || "small")).route("/large", get(async || vec![0_u8; LARGE]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, tls, router, limits, std::future::pending()));
    Node { address, certificate }
}

impl Node {
    /// A connection, its handshake done: it has a place.
    async fn connect(&self) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::IpAddress(self.address.ip().into());
        let shaken = TlsConnector::from(Arc::new(tls)).connect(name, socket);
        timeout(PATIENCE, shaken).await.expect("a place becomes free").unwrap()
    }

    /// Takes the only place, if it is free or becomes so.
    async fn serves(&self) {
        let mut line = self.connect().await;
        line.write_all(b"GET /small HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut line).await.ends_with("small"));
    }
}

/// All that comes until the node ends the connection.
async fn rest(line: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // How it ends is no matter.
    let _ = timeout(PATIENCE, line.read_to_end(&mut bytes)).await.expect("the node ends the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_loses_its_place() {
    let node = node(ONE_PLACE).await;
    let mut line = node.connect().await;
    line.write_all(&b"GET /large HTTP/1.1\r\nhost: node\r\n\r\n".repeat(100)).await.unwrap();
    node.serves().await;
    drop(line);
}

/// It takes a little often enough never to stop, and would need a minute for all of it.
#[tokio::test]
async fn a_client_that_reads_too_slowly_loses_its_place() {
    let node = node(HttpLimits { bytes_per_second: 64 << 20, ..ONE_PLACE }).await;
    let mut line = node.connect().await;
    line.write_all(b"GET /large HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
    let trickle = tokio::spawn(async move {
        let mut piece = vec![0; 64 << 10];
        while line.read_exact(&mut piece).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    node.serves().await;
    trickle.abort();
}

#[tokio::test]
async fn a_client_that_reads_at_the_pace_gets_all() {
    let node = node(ONE_PLACE).await;
    let mut line = node.connect().await;
    line.write_all(b"GET /large HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut piece = vec![0; LARGE / 64];
    for _ in 0..64 {
        line.read_exact(&mut piece).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    let _head = rest(&mut line).await;
}

#[tokio::test]
async fn a_client_that_asks_once_and_falls_silent_loses_its_place() {
    let node = node(ONE_PLACE).await;
    let mut line = node.connect().await;
    line.write_all(b"GET /small HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
    assert!(rest(&mut line).await.ends_with("small"));
    node.serves().await;
}

/// One request well within every time limit, for ever.
#[tokio::test]
async fn a_client_that_asks_for_ever_loses_its_place() {
    let node = node(HttpLimits { requests: 3, ..ONE_PLACE }).await;
    let mut line = node.connect().await;
    line.write_all(&b"GET /small HTTP/1.1\r\nhost: node\r\n\r\n".repeat(10)).await.unwrap();
    let answers = rest(&mut line).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    node.serves().await;
}
