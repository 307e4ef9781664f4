//! What a client may use of the server, and why.

use std::time::Duration;

/// Limits of the HTTP server.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections at a time; more wait in the kernel's backlog. Each costs a task and its buffers.
    pub connections: usize,
    /// For the TLS handshake, and for a request's head. A slow client holds nothing but its place.
    pub head: Duration,
    /// For a JSON body, and between two pieces of a payload.
    pub body: Duration,
    /// Bytes of a request's head; what API keys and ids need many times over.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a sealed payload.
    pub payload_bytes: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            head: Duration::from_secs(10),
            body: Duration::from_secs(20),
            head_bytes: 32 * 1024,
            headers: 64,
            payload_bytes: 8 << 30,
        }
    }
}
