//! Reading the log.

use crate::node::{Node, store_problem};
use crate::receipts;
use crate::summary::Cause;
use decores_api::log::{LogEntries, LogEntry};
use decores_api::{Code, Problem};
use decores_audit::ports::TileStore;
use decores_http::LogBytes;
use std::sync::Arc;

fn unreadable(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "failed to read the log");
    Problem::new(Code::Internal, "the node could not read its log")
}

/// Reads the log's files where that holds up nobody.
async fn reading<T: Send + 'static>(
    node: &Node,
    read: impl FnOnce(&dyn TileStore) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let tiles = Arc::clone(&node.ledger.tiles);
    match tokio::task::spawn_blocking(move || read(&*tiles)).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(unreadable(format!("{error:#}"))),
        Err(error) => Err(unreadable(error)),
    }
}

pub(crate) async fn checkpoint(node: &Node) -> Result<LogBytes, Problem> {
    node.summary.count(Cause::ProofRead, node.clock.now());
    match reading(node, |tiles| Ok(tiles.checkpoint()?)).await? {
        Some(bytes) => Ok(LogBytes { bytes, immutable: false }),
        None => Err(Problem::new(Code::NotFound, "the log has no checkpoint yet")),
    }
}

/// A tile by its path below `tile/`.
pub(crate) async fn tile(node: &Node, path: String, cause: Cause) -> Result<LogBytes, Problem> {
    node.summary.count(cause, node.clock.now());
    let missing = || Problem::new(Code::NotFound, "there is no such tile");
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.'));
    if !plain || path.len() > 128 || path.contains("..") {
        return Err(missing());
    }
    let immutable = !path.contains(".p/");
    let found = reading(node, move |tiles| Ok(tiles.get(&format!("tile/{path}"))?)).await?;
    found.map(|bytes| LogBytes { bytes, immutable }).ok_or_else(missing)
}

pub(crate) async fn proof(node: &Node, index: u64) -> Result<String, Problem> {
    node.summary.count(Cause::ProofRead, node.clock.now());
    let size = node.ledger.size();
    if index >= size {
        return Err(Problem::new(Code::NotFound, format!("the log has {size} entries; the first has index 0")));
    }
    let key = node.ledger.key.clone();
    let proof = reading(node, move |tiles| receipts::proof(tiles, &key, index)).await?;
    String::from_utf8(proof.to_bytes()).map_err(unreadable)
}

pub(crate) async fn entries(node: &Node, from: Option<u64>, limit: usize) -> Result<LogEntries, Problem> {
    node.summary.count(Cause::LogRead, node.clock.now());
    let store = &node.ledger.store;
    let size = store.size().await.map_err(|e| store_problem(&e))?;
    let from = from.unwrap_or_else(|| size.saturating_sub(limit as u64));
    if from >= size {
        return Ok(LogEntries { entries: Vec::new(), size });
    }
    let read = store.entries(from, limit).await.map_err(|e| store_problem(&e))?;
    let entries = (from..).zip(read).map(|(index, entry)| LogEntry { index, entry: entry.into() }).collect();
    Ok(LogEntries { entries, size })
}
