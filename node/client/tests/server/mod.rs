//! A small TLS server that says what it likes.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "tests")]

use decores_client::{ApiKey, Client, Home, Login, NodeUrl};
use decores_system::{SystemClock, SystemRandom};
use decores_types::{Base64, ConsumerId, KeyId};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A running server: where it is, its authority, and what it was sent.
pub struct Fake {
    pub url: NodeUrl,
    pub ca: Vec<u8>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    /// What it was sent, all in all.
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

/// A server that answers the same to everything.
pub async fn fake(versions: &[&'static SupportedProtocolVersion], answer: impl Into<Vec<u8>>) -> Fake {
    let answer = answer.into();
    serve(versions, Arc::new(move |_| answer.clone())).await
}

/// A server whose `route` answers each request's path, query included.
pub async fn serve(
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

/// An answer as it goes over the wire.
pub fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A client that is logged in at `url`, where this identity is expected.
pub fn client(folder: &TempDir, url: &NodeUrl, ca: &[u8], identity: [u8; 32], consumer: ConsumerId) -> Client {
    let home = Home::new(folder.path().to_owned());
    let login = Login {
        version: 1,
        url: url.clone(),
        name: "fake".to_owned(),
        identity: KeyId::of_public("ed25519", &identity),
        identity_public: Base64(identity.to_vec()),
        ca: Base64(ca.to_vec()),
        consumer,
    };
    home.save_login(&login, &ApiKey::parse("dck_secret").unwrap()).unwrap();
    Client::open(home, None, None, Arc::new(SystemClock::new()), Arc::new(SystemRandom)).unwrap()
}
