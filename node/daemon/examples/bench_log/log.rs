//! A log as a node has it.

use crate::ledger::Ledger;
use anyhow::{Context as _, Result};
use decores_audit::checkpoint::{Checkpoint, LogKey, LogSigner, SignerError};
use decores_audit::event::Event;
use decores_audit::ports::{Store, TileStore};
use decores_audit::proof::InclusionProof;
use decores_blobs::FolderTiles;
use decores_keys::{KeyStore, Purpose};
use decores_keystore_file::{FileKeyStore, RootInput};
use decores_store_sqlite::SqliteStore;
use decores_system::{SystemClock, SystemRandom};
use decores_types::{Attempt, Clock as _, ConsumerId, JobId, JobState, KeyId, Reason};
use std::path::Path;
use std::sync::Arc;

/// Signs checkpoints as a node does.
struct Signer {
    keystore: FileKeyStore,
    id: KeyId,
    key: LogKey,
}

impl LogSigner for Signer {
    fn key(&self) -> &LogKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        let signature = self.keystore.sign(&self.id, message).map_err(|e| SignerError(Box::new(e)))?;
        signature.try_into().map_err(|_| SignerError("an Ed25519 signature has 64 bytes".into()))
    }
}

/// The key of the log in a folder; made where there is none.
pub(crate) fn signer(folder: &Path) -> Result<Arc<dyn LogSigner>> {
    let (folder, random) = (folder.join("keystore"), Arc::new(SystemRandom));
    let keystore = match FileKeyStore::source(&folder)? {
        Some(_) => FileKeyStore::open(&folder, RootInput::BesideData, random)?,
        None => {
            std::fs::create_dir(&folder)?;
            FileKeyStore::create(&folder, RootInput::BesideData, random)?
        }
    };
    let key = match keystore.active(Purpose::Log)? {
        Some(key) => key,
        None => keystore.create(Purpose::Log, SystemClock::default().now())?,
    };
    let public = key.public.as_ref().and_then(decores_types::Base64::array).context("the log key is damaged")?;
    let key = (key.id, LogKey::new("decores.local/bench", public)?);
    Ok(Arc::new(Signer { keystore, id: key.0, key: key.1 }))
}

/// Opens the state below a folder; makes it where there is none.
pub(crate) fn parts(folder: &Path) -> Result<(Arc<dyn Store>, Arc<dyn TileStore>)> {
    let state = folder.join("state");
    std::fs::create_dir_all(&state)?;
    Ok((Arc::new(SqliteStore::open(&state)?), Arc::new(FolderTiles::open(&folder.join("log"))?)))
}

/// The node's ledger over them.
pub(crate) async fn ledger(folder: &Path) -> Result<Ledger> {
    let (store, tiles) = parts(folder)?;
    Ledger::start(store, tiles, signer(folder)?, Arc::new(SystemClock::default())).await
}

/// What a node writes most often.
pub(crate) fn event() -> Event {
    Event::JobState {
        job: JobId::random(&SystemRandom),
        attempt: Attempt(1),
        consumer: ConsumerId::random(&SystemRandom),
        state: JobState::Running,
        reason: Reason::Started,
        offer: None,
        spec: None,
    }
}

/// Proves an entry under the newest checkpoint, as the node does when it is asked.
pub(crate) fn prove(tiles: &dyn TileStore, key: &LogKey, index: u64) -> Result<InclusionProof> {
    let note = tiles.checkpoint()?.context("the log has no checkpoint")?;
    let head = Checkpoint::open_strict(&note, key)?.head();
    Ok(InclusionProof::make(&|path| tiles.get(path), head, note, index)?)
}
