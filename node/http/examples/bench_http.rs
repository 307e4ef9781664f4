//! A bare rustls and axum hello, and a client that loads it or a node: `cargo xtask bench http` runs it.
//!
//! `serve` answers `GET /` until it is killed, with the node's settings for TLS; `serve all` through the node's server.
//! `load ADDRESS PATH MODE TASKS SECONDS [API_KEY]` asks as fast as it can, and prints one JSON object.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool that is run by hand")]

use axum::Router;
use axum::routing::get;
use decores_http::{HttpLimits, server};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HELLO: &str = "{\"status\":\"ok\"}";

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", parts @ ..] => serve(parts).await,
        ["load", address, path, mode, tasks, seconds, key @ ..] => {
            let (tasks, during) = (tasks.parse().unwrap(), Duration::from_secs_f64(seconds.parse().unwrap()));
            load(address.parse().unwrap(), path, mode, tasks, during, key.first().copied()).await;
        }
        _ => panic!("usage: serve [all], or load ADDRESS PATH connect|keep TASKS SECONDS [API_KEY]"),
    }
}

#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>);

impl ResolvesServerCert for OneKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A chain of the node's shape: ECDSA P-256, signed by an authority of its own that is sent along.
fn certified() -> CertifiedKey {
    let pair = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (authority_key, key) = (pair(), pair());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let certificate = authority.self_signed(&authority_key).unwrap().der().clone();
    let issuer = Issuer::new(authority, authority_key);
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    CertifiedKey::new(vec![leaf.der().clone(), certificate], any_supported_type(&private).unwrap())
}

async fn serve(parts: &[&str]) {
    let tls = server::tls_config(Arc::new(OneKey(Arc::new(certified())))).unwrap();
    let router = Router::new().route("/", get(async || HELLO));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    if parts == ["all"] {
        return server::serve(listener, tls, router, HttpLimits::DEFAULT, std::future::pending()).await;
    }
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(router);
            // How a client ends is its own matter.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Takes every certificate: what is measured is the server. The handshake's signature is checked all the same.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One client among several.
#[derive(Clone)]
struct Asker {
    address: SocketAddr,
    connector: TlsConnector,
    request: Arc<str>,
}

impl Asker {
    async fn connect(&self) -> BufReader<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::IpAddress(self.address.ip().into());
        BufReader::new(self.connector.connect(name, stream).await.unwrap())
    }

    /// Asks once; whether the connection lives on.
    async fn ask(&self, line: &mut BufReader<TlsStream<TcpStream>>) -> bool {
        line.get_mut().write_all(self.request.as_bytes()).await.unwrap();
        let (mut length, mut lives, mut head) = (0, true, String::new());
        line.read_line(&mut head).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        loop {
            head.clear();
            line.read_line(&mut head).await.unwrap();
            match head.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("connection", "close")) => lives = false,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        line.read_exact(&mut body).await.unwrap();
        lives
    }

    /// Asks for as long; how many requests or connections there were.
    async fn ask_for(self, during: Duration, each_connects: bool) -> u64 {
        let (start, mut count) = (now(), 0);
        let mut kept = None;
        while now().duration_since(start) < during {
            let mut line = match kept.take() {
                Some(line) => line,
                None => self.connect().await,
            };
            if self.ask(&mut line).await && !each_connects {
                kept = Some(line);
            } else {
                let _ = line.get_mut().shutdown().await;
            }
            count += 1;
        }
        count
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

async fn load(address: SocketAddr, path: &str, mode: &str, tasks: usize, during: Duration, key: Option<&str>) {
    let provider = default_provider();
    let mut tls = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    tls.resumption = rustls::client::Resumption::disabled();
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{key}\r\n").into();
    let asker = Asker { address, connector: TlsConnector::from(Arc::new(tls)), request };
    let start = now();
    let all: Vec<_> = (0..tasks).map(|_| tokio::spawn(asker.clone().ask_for(during, mode == "connect"))).collect();
    let mut count = 0;
    for task in all {
        count += task.await.unwrap();
    }
    let per_second = count as f64 / now().duration_since(start).as_secs_f64();
    println!("{{\"mode\":\"{mode}\",\"perSecond\":{per_second:.1}}}");
}
