//! Reading the node's log, and checking it against what we saw before.

use crate::ClientError;
use crate::client::Client;
use crate::connection::path;
use decores_api::Code;
use decores_api::log::LogEntries;
use decores_api::paths;
use decores_audit::check::{CheckError, check_log};
use decores_audit::checkpoint::MAX_CHECKPOINT;
use decores_audit::proof::{InclusionProof, MAX_PROOF};
use decores_audit::{Checkpoint, LogKey, Trust};
use std::io;
use tokio::runtime::Handle;

/// Largest tile or bundle that is read: 256 entries of at most 65,535 bytes, with their lengths.
const MAX_TILE: u64 = 256 * (65_535 + 2);

/// What a check of the whole log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The checkpoint that everything fits.
    pub checkpoint: Checkpoint,
    /// The one that was remembered from before, and that it continues.
    pub before: Option<Checkpoint>,
}

impl Client {
    /// The log's key, as pinned in the trust file.
    pub fn log_key(&self, trust: &Trust) -> Result<LogKey, ClientError> {
        trust.node(&self.login.identity).and_then(decores_audit::trust::TrustedNode::log_key).ok_or_else(|| {
            ClientError::Mismatch(format!("the log: the trust file pins no log of {}", self.login.identity))
        })
    }

    /// The newest signed checkpoint and its bytes, verified with the pinned key.
    pub async fn checkpoint(&self, key: &LogKey) -> Result<(Checkpoint, Vec<u8>), ClientError> {
        let note = self.connection.get_bytes(paths::LOG_CHECKPOINT, MAX_CHECKPOINT as u64).await?;
        let checkpoint = Checkpoint::open(&note, key).map_err(|e| refused("the log's checkpoint", e))?;
        Ok((checkpoint, note))
    }

    /// Entries from `from`; the newest where that is absent. Nothing proves them yet.
    pub async fn entries(&self, from: Option<u64>, limit: u64) -> Result<LogEntries, ClientError> {
        let from = from.map(|from| ("from", from.to_string()));
        let query: Vec<_> = from.into_iter().chain([("limit", limit.to_string())]).collect();
        self.connection.get("log entries", paths::LOG_ENTRIES, &query).await
    }

    /// The proof that `entry` stands at `index`, checked.
    pub async fn proof(&self, key: &LogKey, index: u64, entry: &[u8]) -> Result<(Checkpoint, Vec<u8>), ClientError> {
        let bytes = self.connection.get_bytes(&path(paths::LOG_PROOF, "{index}", &index), MAX_PROOF as u64).await?;
        let proof = InclusionProof::parse(&bytes).map_err(|e| refused("the node's proof", e))?;
        if proof.index != index {
            return Err(ClientError::Mismatch(format!(
                "the node's proof: it is of entry {}, not {index}",
                proof.index
            )));
        }
        let checkpoint = proof.verify(entry, key).map_err(|e| refused("the node's proof", e))?;
        Ok((checkpoint, bytes))
    }

    /// Reads the whole log, checks every entry and tile and that it continues what we saw before,
    /// and remembers the new checkpoint.
    pub async fn check_log(
        &self,
        key: &LogKey,
        mut progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Checked, ClientError> {
        let (checkpoint, note) = self.checkpoint(key).await?;
        let before = self.home.checkpoint(self.login.identity)?;
        let before = before.map(|note| Checkpoint::open(&note, key)).transpose();
        let before = before.map_err(|e| refused("the checkpoint remembered from before", e))?;
        let (client, runtime) = (self.clone(), Handle::current());
        let (head, seen) = (checkpoint.clone(), before.clone());
        let work = move || {
            let fetch = |path: &str| runtime.block_on(client.tile(path)).map_err(io::Error::other);
            check_log(&fetch, &head, seen.as_ref(), &mut progress)
        };
        let found = tokio::task::spawn_blocking(work).await.map_err(|_| ClientError::Worker)?;
        found.map_err(unreadable_or_refused)?;
        self.home.save_checkpoint(self.login.identity, &note)?;
        Ok(Checked { checkpoint, before })
    }

    /// A tile or bundle; `None` where there is none.
    async fn tile(&self, tile: &str) -> Result<Option<Vec<u8>>, ClientError> {
        let name = tile.strip_prefix("tile/").unwrap_or(tile);
        match self.connection.get_bytes(&path(paths::LOG_TILE, "{*path}", &name), MAX_TILE).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn refused(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Refused { what: what.to_owned(), source: Box::new(source) }
}

/// A lost connection says nothing about the log: only what was read and does not fit is refused.
fn unreadable_or_refused(error: CheckError) -> ClientError {
    match error {
        CheckError::Tree(decores_audit::tree::TreeError::Read { path, source }) => {
            match source.downcast::<ClientError>() {
                Ok(own) => own,
                Err(source) => ClientError::File { doing: "read tile", path: path.into(), source },
            }
        }
        other => refused("the node's log", other),
    }
}
