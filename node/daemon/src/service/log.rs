//! Reading the log.

use crate::node::{Node, store_problem};
use crate::receipts;
use crate::summary::Cause;
use decores_api::log::{LogEntries, LogEntry};
use decores_api::{Code, Problem};
use decores_http::LogBytes;

fn unreadable(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "failed to read the log");
    Problem::new(Code::Internal, "the node could not read its log")
}

pub(crate) fn checkpoint(node: &Node) -> Result<LogBytes, Problem> {
    match node.ledger.tiles.checkpoint().map_err(unreadable)? {
        Some(bytes) => Ok(LogBytes { bytes, immutable: false }),
        None => Err(Problem::new(Code::NotFound, "the log has no checkpoint yet")),
    }
}

/// A tile by its path below `tile/`.
pub(crate) fn tile(node: &Node, path: &str) -> Result<LogBytes, Problem> {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.'));
    let found = if plain && path.len() <= 128 && !path.contains("..") {
        node.ledger.tiles.get(&format!("tile/{path}")).map_err(unreadable)?
    } else {
        None
    };
    let immutable = !path.contains(".p/");
    found
        .map(|bytes| LogBytes { bytes, immutable })
        .ok_or_else(|| Problem::new(Code::NotFound, "there is no such tile"))
}

pub(crate) fn proof(node: &Node, index: u64) -> Result<String, Problem> {
    let size = node.ledger.size();
    if index >= size {
        return Err(Problem::new(Code::NotFound, format!("the log has {size} entries; the first has index 0")));
    }
    let proof = receipts::proof(node, index).map_err(unreadable)?;
    String::from_utf8(proof.to_bytes()).map_err(unreadable)
}

pub(crate) async fn entries(node: &Node, from: Option<u64>, limit: usize) -> Result<LogEntries, Problem> {
    node.summary.count(Cause::LogRead, node.clock.now());
    let store = &node.ledger.store;
    let size = store.size().await.map_err(|e| store_problem(&e))?;
    let from = from.unwrap_or_else(|| size.saturating_sub(limit as u64));
    let read = store.entries(from, limit).await.map_err(|e| store_problem(&e))?;
    let entries = (from..).zip(read).map(|(index, entry)| LogEntry { index, entry: entry.into() }).collect();
    Ok(LogEntries { entries, size })
}
