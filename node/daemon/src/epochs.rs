//! The epoch key that signs offers: a new one every hour, numbered across restarts.

use crate::node::{KeyChange, Node, key_event};
use crate::records::{Held, NodeRow, Records};
use anyhow::{Context as _, Result};
use decores_audit::event::Event;
use decores_audit::ports::{Change, StoreError};
use decores_keys::{Algorithm, EpochKey, KeyStore, Purpose};
use decores_types::{Base64, KeyId, Random, Timestamp, chain};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Mutex as AsyncMutex;

/// Row of the last number.
const ROW: &[u8] = b"epoch";

/// The key of this hour, and what is needed to make the next.
pub(crate) struct Epochs {
    current: Mutex<Arc<EpochKey>>,
    number: AsyncMutex<Held<NodeRow>>,
}

/// What has to be written for a new key.
fn created(key: &EpochKey) -> Event {
    event(KeyChange::Created, key)
}

fn event(change: KeyChange, key: &EpochKey) -> Event {
    let certificate = key.certificate();
    key_event(change, certificate.id, Purpose::Epoch, certificate.epoch, Algorithm::Ed25519)
}

fn number_of(row: &NodeRow) -> u32 {
    row.0.array().map_or(0, u32::from_be_bytes)
}

impl Epochs {
    /// Makes the first key of a run; gives back what has to be written with it.
    pub(crate) async fn start(
        records: &Records,
        keystore: &dyn KeyStore,
        identity: KeyId,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<(Self, Change, Event)> {
        let stored: Option<Held<NodeRow>> = records.get(ROW).await?;
        let number = stored.as_ref().map_or(0, |held| number_of(&held.row)).saturating_add(1);
        let key = EpochKey::issue(number, keystore, identity, now, random).context("failed to make the epoch key")?;
        let row = NodeRow(Base64(number.to_be_bytes().to_vec()));
        let (change, held) = match stored {
            Some(held) => {
                let held = Held { row, ..held };
                (records.update(&held, 0)?, Held { version: held.version + 1, ..held })
            }
            None => {
                let change = records.insert(ROW, None, 0, &row)?;
                (change, Held { row, id: ROW.to_vec(), version: 1, sequence: 0, entry: 0 })
            }
        };
        let event = created(&key);
        Ok((Self { current: Mutex::new(Arc::new(key)), number: AsyncMutex::new(held) }, change, event))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<EpochKey>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key as it stands.
    pub(crate) fn current(&self) -> Arc<EpochKey> {
        Arc::clone(&self.lock())
    }
}

/// The key that signs now; the next one when its hour is over.
pub(crate) async fn current(node: &Node) -> Result<Arc<EpochKey>, StoreError> {
    let now = node.clock.now();
    let current = node.epochs.current();
    if current.is_due(now) { replace(node, now, |key| key.is_due(now)).await } else { Ok(current) }
}

/// Makes the next key and writes it, then signs with it; the old one is destroyed with the last offer that is being
/// signed by it. `outdated` is asked again, since another request may have been first.
async fn replace(
    node: &Node,
    now: Timestamp,
    outdated: impl Fn(&EpochKey) -> bool,
) -> Result<Arc<EpochKey>, StoreError> {
    let mut held = node.epochs.number.lock().await;
    let current = node.epochs.current();
    if !outdated(&current) {
        return Ok(current);
    }
    let number = number_of(&held.row).saturating_add(1);
    let next = EpochKey::issue(number, &*node.keystore, node.identity.id, now, &*node.random);
    let next = next.map_err(|e| StoreError::Failed { during: "making an epoch key", source: e.into() })?;
    held.row = NodeRow(Base64(number.to_be_bytes().to_vec()));
    let change = node.records.update(&held, 0)?;
    let events = vec![
        event(KeyChange::Retired, &current),
        created(&next),
        // It lives on only for whoever signs with it at this moment, and signs nothing new.
        event(KeyChange::Destroyed, &current),
    ];
    node.persist(vec![change], events).await?;
    held.version += 1;
    let next = Arc::new(next);
    *node.epochs.lock() = Arc::clone(&next);
    Ok(next)
}

/// The event of the last key's end, when the node stops.
pub(crate) fn ended(node: &Node) -> Event {
    event(KeyChange::Destroyed, &node.epochs.current())
}

/// Makes the next key now: the clock that this one's hour was taken from was set.
pub(crate) async fn renew(node: &Node) {
    let old = node.epochs.current().certificate().epoch;
    if let Err(error) = replace(node, node.clock.now(), |key| key.certificate().epoch == old).await {
        tracing::error!(error = chain(&error), "failed to make the next epoch key");
    }
}

/// Makes the next key when it is due, whether anybody asks for an offer or not.
pub(crate) async fn rotate(node: &Node) {
    if let Err(error) = current(node).await {
        tracing::error!(error = chain(&error), "failed to make the next epoch key");
    }
}
