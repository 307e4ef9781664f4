//! What a client may use of the server, and why.

use std::time::Duration;

/// Limits of the HTTP server.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections at a time; more wait in the kernel's backlog. Each costs a task and its buffers.
    pub connections: usize,
    /// Requests on one connection; a client with more connects again. Nobody keeps a place by asking for ever.
    pub requests: u32,
    /// Requests of one consumer that are answered at a time: a submission that arrives and a wait for news are such, and
    /// each holds a connection. Whoever waits for all of a full share of jobs stays below.
    pub requests_per_consumer: usize,
    /// For the TLS handshake, a request's head (waiting for the next request included), and the head of a
    /// submission, each as a whole. A slow client holds nothing but its place.
    pub head: Duration,
    /// For a JSON body as a whole; and how long a payload may stop, or a client may not take an answer.
    pub body: Duration,
    /// The least of a payload that must arrive, and of an answer that must be taken, in the long run. Far below any
    /// line a job is sent over, and yet a trickle of single bytes is cut off after `body`. Time that the node itself
    /// needs is not counted.
    pub bytes_per_second: u32,
    /// Bytes of a request's head; what API keys and ids need many times over.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a sealed payload.
    pub payload_bytes: u64,
}

impl HttpLimits {
    /// Generous to clients over bad lines, and more than a node on one machine serves at a time.
    pub const DEFAULT: Self = Self {
        connections: 512,
        requests: 100,
        requests_per_consumer: 128,
        head: Duration::from_secs(10),
        body: Duration::from_secs(20),
        bytes_per_second: 4096,
        head_bytes: 32 * 1024,
        headers: 64,
        payload_bytes: 8 << 30,
    };
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
