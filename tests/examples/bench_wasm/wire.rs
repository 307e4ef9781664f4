//! A connection that is kept.

use decores_tests::node::Node;
use decores_tests::transport::{Line, find};
use std::io::{Read as _, Write as _};

pub(crate) struct Wire {
    line: Line,
    bearer: String,
    asked: u32,
}

impl Wire {
    pub(crate) fn new(node: &Node, key: &str) -> Self {
        let line = node.transport().connect().unwrap();
        line.sock.set_nodelay(true).unwrap();
        Self { line, bearer: format!("Bearer {key}"), asked: 0 }
    }

    /// Whether a job's requests may be too many for this connection.
    pub(crate) const fn is_old(&self) -> bool {
        self.asked > 80
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.asked += 1;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: node\r\nauthorization: {}\r\ncontent-length: {}\r\n{headers}\r\n",
            self.bearer,
            body.len()
        );
        let all = [head.as_bytes(), body].concat();
        self.line.write_all(&all).unwrap();
        self.line.flush().unwrap();
        let (mut got, mut buffer) = (Vec::new(), [0; 16384]);
        loop {
            let n = self.line.read(&mut buffer).unwrap();
            assert!(n > 0, "the node hung up: {}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..n]);
            let Some(end) = find(&got, b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&got[..end]).to_lowercase();
            let length = text.lines().find_map(|l| l.strip_prefix("content-length: ")).map(|l| l.parse().unwrap());
            let length: usize = length.unwrap_or_else(|| panic!("no length: {text}"));
            if got.len() >= end + 4 + length {
                let status = text.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, got[end + 4..].to_vec());
            }
        }
    }
}
