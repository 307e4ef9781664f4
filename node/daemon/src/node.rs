//! The node: what its parts share.

use crate::admission::Admission;
use crate::config::Config;
use crate::epochs::Epochs;
use crate::health::Health;
use crate::ledger::Ledger;
use crate::leftovers::Mending;
use crate::modules::Modules;
use crate::offers::Offers;
use crate::presence::Presence;
use crate::records::{Held, JobRow, Records, job_state};
use crate::service::taking::Taking;
use crate::slots::Slots;
use crate::summary::{Refusals, Summary};
use decores_api::node::NodeResponse;
use decores_api::{Code, Problem};
use decores_audit::code::Code as LogCode;
use decores_audit::event::Event;
use decores_audit::ports::{Change, StoreError};
use decores_blobs::BlobStore;
use decores_detection::{Alert, AlertKind, Quota};
use decores_keys::{Algorithm, IndexKey, KeyInfo, KeyStore, Purpose};
use decores_launcher::LauncherHandle;
use decores_sandbox::HostCapabilities;
use decores_types::{AlertId, Attempt, Clock, JobId, KeyId, Random, Reason, Timestamp, chain};
use metrics_exporter_prometheus::PrometheusHandle;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How long to wait before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything the services act on.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) started: Timestamp,
    pub(crate) keystore: Arc<dyn KeyStore>,
    pub(crate) identity: KeyInfo,
    pub(crate) index: IndexKey,
    pub(crate) statement: NodeResponse,
    pub(crate) records: Records,
    pub(crate) ledger: Ledger,
    pub(crate) blobs: BlobStore,
    pub(crate) modules: Modules,
    pub(crate) launcher: LauncherHandle,
    pub(crate) host: HostCapabilities,
    pub(crate) offers: Offers,
    pub(crate) epochs: Epochs,
    pub(crate) health: Health,
    pub(crate) presence: Presence,
    pub(crate) mending: Mending,
    pub(crate) taking: Arc<Taking>,
    pub(crate) slots: Slots,
    /// Jobs that have not ended: the attempt, and the switch that cancels it.
    pub(crate) live: Mutex<HashMap<JobId, (Attempt, watch::Sender<Option<Reason>>)>>,
    pub(crate) admission: Arc<Admission>,
    /// Names jobs whose record changed.
    pub(crate) changed: broadcast::Sender<JobId>,
    pub(crate) summary: Summary,
    pub(crate) refusals: Refusals,
    pub(crate) quota: Mutex<Quota>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) stopping: watch::Sender<bool>,
}

impl Node {
    /// Writes changes and events; see [`Self::persist_entries`].
    pub(crate) async fn persist(&self, changes: Vec<Change>, events: Vec<Event>) -> Result<(), StoreError> {
        let entries = self.ledger.entries(&events);
        let entries = entries.map_err(|e| StoreError::Failed { during: "composing a log entry", source: e.into() })?;
        self.persist_entries(changes, entries).await
    }

    /// Writes until it is written: used where going on without would lose what was promised. While the
    /// disk is full this waits; a node that is stopping tries once more and leaves the rest to its next start.
    ///
    /// # Errors
    /// If it can never be written, or the node stops first.
    pub(crate) async fn persist_entries(&self, changes: Vec<Change>, entries: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let mut stopping = self.stopping.subscribe();
        loop {
            let last = *stopping.borrow_and_update();
            match self.ledger.commit(changes.clone(), entries.clone()).await {
                Ok(_) => return Ok(()),
                Err(error @ (StoreError::Busy | StoreError::Failed { .. })) if !last => {
                    tracing::error!(error = chain(&error), "failed to write state; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        _ = stopping.changed() => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes once, for a caller who can ask again: what cannot be written now was not done.
    pub(crate) async fn write(&self, changes: Vec<Change>, events: Vec<Event>) -> Result<(), StoreError> {
        let entries = self.ledger.entries(&events);
        let entries = entries.map_err(|e| StoreError::Failed { during: "composing a log entry", source: e.into() })?;
        self.ledger.commit(changes, entries).await.map(drop)
    }

    /// Like [`Self::persist`], for what is only told: a failure is in the node's own log.
    pub(crate) async fn note(&self, events: Vec<Event>) {
        if let Err(error) = self.persist(Vec::new(), events).await {
            tracing::error!(error = chain(&error), "failed to write log entries");
        }
    }

    /// Writes a job's record as it stands, with events.
    pub(crate) async fn write_job(&self, held: &mut Held<JobRow>, events: Vec<Event>) -> Result<(), StoreError> {
        let change = self.records.update(held, job_state(&held.row))?;
        self.persist(vec![change], events).await?;
        held.version += 1;
        Ok(())
    }

    /// Raises an alert: a record, an event, a line in the node's log. Beyond the quota of its kind, the line alone.
    pub(crate) async fn alert(&self, kind: AlertKind, message: String) {
        let now = self.clock.monotonic_ms();
        if !self.quota.lock().unwrap_or_else(PoisonError::into_inner).admits(kind, now) {
            tracing::warn!(kind = kind.as_str(), message, "one more alert of this kind; not kept");
            metrics::counter!("decores_alerts_total", "kind" => kind.as_str()).increment(1);
            return;
        }
        let written = match self.compose_alert(kind, message) {
            Ok((change, event)) => self.persist(vec![change], event.into_iter().collect()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(error = chain(&error), "failed to store an alert");
        }
    }

    /// Composes an alert's record and event, for whoever writes them with something else; the node's log has its line.
    pub(crate) fn compose_alert(
        &self,
        kind: AlertKind,
        message: String,
    ) -> Result<(Change, Option<Event>), StoreError> {
        tracing::warn!(kind = kind.as_str(), message, "alert");
        metrics::counter!("decores_alerts_total", "kind" => kind.as_str()).increment(1);
        let alert = Alert::new(AlertId::random(&*self.random), kind, message, self.clock.now());
        Ok((self.records.insert(alert.id.as_bytes(), None, ALERT_OPEN, &alert)?, alert_raised(&alert)))
    }

    /// Tells a live job to stop; `false` if it is not live.
    pub(crate) fn cancel(&self, job: JobId, reason: Reason) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(&job).is_some_and(|(_, switch)| switch.send(Some(reason)).is_ok())
    }

    /// Jobs that have not ended.
    pub(crate) fn live_jobs(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Says that a job's record changed.
    pub(crate) fn announce(&self, job: JobId) {
        // Nobody listening is the usual case.
        let _ = self.changed.send(job);
    }
}

/// State of an alert nobody has acknowledged.
pub(crate) const ALERT_OPEN: i64 = 0;
/// State of an acknowledged alert.
pub(crate) const ALERT_ACKNOWLEDGED: i64 = 1;

pub(crate) fn alert_raised(alert: &Alert) -> Option<Event> {
    let kind = LogCode::parse(alert.kind.as_str()).ok()?;
    let severity = LogCode::parse(alert.kind.severity().as_str()).ok()?;
    Some(Event::AlertRaised { alert: alert.id, kind, severity })
}

/// What happened to a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyChange {
    Created,
    Retired,
    Destroyed,
}

/// The event of a change to a key.
pub(crate) fn key_event(change: KeyChange, key: KeyId, purpose: Purpose, epoch: u32, algorithm: Algorithm) -> Event {
    match change {
        KeyChange::Created => Event::KeyCreated { key, purpose, epoch, algorithm },
        KeyChange::Retired => Event::KeyRetired { key, purpose, epoch, algorithm },
        KeyChange::Destroyed => Event::KeyDestroyed { key, purpose, epoch, algorithm },
    }
}

/// What a client learns when its request could not be written: nothing was done, and it may ask again.
pub(crate) fn unwritten(error: &StoreError) -> Problem {
    match error {
        StoreError::Failed { .. } => {
            tracing::error!(error = chain(error), "the store failed");
            Problem::new(Code::Unavailable, "the node could not write this down, so it was not done (store)")
                .hint("the node goes on by itself when it can write again; ask again after `Retry-After`")
        }
        error => store_problem(error),
    }
}

/// What a client learns when the store fails; the cause goes to the node's own log.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Busy => {
            Problem::new(Code::Unavailable, "too much is waiting to be written").hint("ask again after `Retry-After`")
        }
        error => {
            tracing::error!(error = chain(error), "the store failed");
            Problem::new(Code::Internal, "the node could not store or read its state")
                .hint("ask again; if that does not help, the node's own log says what its operator has to mend")
        }
    }
}
