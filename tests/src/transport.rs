//! TLS and HTTP/1.1, as raw as a test wants them.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longest a test waits for bytes.
const SILENCE: Duration = Duration::from_secs(60);

/// One connection.
pub type Line = StreamOwned<ClientConnection, TcpStream>;

/// A way to a node.
#[derive(Clone, Debug)]
pub struct Transport {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    silence: Duration,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Transport {
    /// A way to this address.
    pub const fn new(address: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self { address, tls, silence: SILENCE }
    }

    /// The same way, where a silence of this many seconds is an error.
    pub const fn patient(mut self, seconds: u64) -> Self {
        self.silence = Duration::from_secs(seconds);
        self
    }

    /// A connection, its handshake done.
    pub fn connect(&self) -> io::Result<Line> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(self.silence))?;
        socket.set_write_timeout(Some(self.silence))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut connection = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_request(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// The same, to a node that may be gone.
    pub fn try_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
        let mut line = self.connect()?;
        let head = head(method, path, headers, body.len());
        // A node that has heard enough answers before the body's end.
        let _ = line.write_all(head.as_bytes()).and_then(|()| line.write_all(body));
        Response::read(&mut line)
    }
}

/// A request's head.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n")
}

impl Response {
    /// Reads an answer that ends its connection.
    pub fn read(line: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match line.read_to_end(&mut bytes) {
            Err(error) if bytes.is_empty() => return Err(error),
            _ => {}
        }
        let bad = |what: &str| io::Error::other(format!("{what}: {}", String::from_utf8_lossy(&bytes)));
        let end = find(&bytes, b"\r\n\r\n").ok_or_else(|| bad("no whole head"))?;
        let text = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
        let mut lines = text.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).ok_or_else(|| bad("no status"))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let body = bytes[end + 4..].to_vec();
        let answer = Self { status, headers, body };
        match answer.header("content-length").map(|l| l.parse::<usize>().unwrap()) {
            Some(length) if length != answer.body.len() => Err(io::Error::other("the body was cut off")),
            _ => Ok(answer),
        }
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body, as a document that must come with a good status.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        assert!(self.status < 300, "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the problem that the body must be.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let value: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(value["status"], self.status, "{value}");
        value["code"].as_str().unwrap().to_owned()
    }

    /// Asserts a refusal by its status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.problem().as_str()), (status, code), "{}", String::from_utf8_lossy(&self.body));
    }
}

/// Where `needle` first stands.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// TLS that believes this authority only; without one it believes anything, to learn the authority.
pub fn tls(authority: Option<&[u8]>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    Arc::new(match authority {
        Some(der) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(der.to_vec())).unwrap();
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
    })
}

/// For the first request, whose answer is verified by its own signature.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

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
        Err(rustls::PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported.into())
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
