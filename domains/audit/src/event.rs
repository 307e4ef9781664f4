//! Events: what stands in the log (docs/formats/events.md).
//!
//! An [`Entry`] is an [`Event`] with a time, as canonical JSON. Its types hold random ids, HMACs,
//! numbers and [`Code`]s only: names, addresses, free text and digests of data do not fit.

use crate::code::{Code, Version};
use decores_keys::{Algorithm, Purpose, RootSource};
use decores_types::canonical::{self, CanonicalError};
use decores_types::{
    AlertId, ApiKeyId, Attempt, Commitment, ConsumerId, JobId, JobState, KeyId, OfferId, Reason, Swap, Timestamp,
    WipeCategory,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest entry, in bytes: what the length field of an entry bundle can say.
pub const MAX_ENTRY: usize = 65_535;
/// The version that is written and read.
const VERSION: u32 = 1;

/// Label of the spec's HMAC in a `queued` entry.
pub const LABEL_SPEC: &str = "spec";
/// Label of the receipt's HMAC in a `job.ended` entry.
pub const LABEL_RECEIPT: &str = "receipt";

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
#[allow(missing_docs, reason = "docs/formats/events.md names every member")]
pub enum Event {
    /// The node is up.
    #[serde(rename = "node.started")]
    NodeStarted { version: Version, identity: KeyId, insecure: Vec<Code>, root_source: RootSource, swap: Swap },
    /// The node goes down.
    #[serde(rename = "node.stopped")]
    NodeStopped { reason: Code },
    /// The last run of the node ended without a goodbye.
    #[serde(rename = "node.crashed")]
    NodeCrashed { last_seen: Timestamp, rebooted: bool },
    /// Between two runs there was no node.
    #[serde(rename = "node.absent")]
    NodeAbsent { from: Timestamp, until: Timestamp },
    /// The node acknowledges nothing new, for this cause.
    #[serde(rename = "node.degraded")]
    NodeDegraded { cause: Code },
    /// The cause is over.
    #[serde(rename = "node.recovered")]
    NodeRecovered { cause: Code },
    /// The machine's clock was set, or jumped.
    #[serde(rename = "clock.changed")]
    ClockChanged { expected: Timestamp, found: Timestamp },
    /// A key was made.
    #[serde(rename = "key.created")]
    KeyCreated { key: KeyId, purpose: Purpose, epoch: u32, algorithm: Algorithm },
    /// A key no longer signs or seals.
    #[serde(rename = "key.retired")]
    KeyRetired { key: KeyId, purpose: Purpose, epoch: u32, algorithm: Algorithm },
    /// A key is gone.
    #[serde(rename = "key.destroyed")]
    KeyDestroyed { key: KeyId, purpose: Purpose, epoch: u32, algorithm: Algorithm },
    /// An offer was made.
    #[serde(rename = "offer.issued")]
    OfferIssued { offer: OfferId, consumer: ConsumerId, key: KeyId, expires: Timestamp },
    /// An offer ran out, and its key with it.
    #[serde(rename = "offer.expired")]
    OfferExpired { offer: OfferId, key: KeyId },
    /// A job entered a state.
    #[serde(rename = "job.state")]
    JobState {
        job: JobId,
        attempt: Attempt,
        consumer: ConsumerId,
        state: JobState,
        reason: Reason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offer: Option<OfferId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spec: Option<Commitment>,
    },
    /// What an attempt held was destroyed, or not.
    #[serde(rename = "job.wiped")]
    JobWiped { job: JobId, attempt: Attempt, complete: bool, category: WipeCategory, checks: BTreeMap<Code, bool> },
    /// What was kept of an attempt was deleted.
    #[serde(rename = "job.removed")]
    JobRemoved {
        job: JobId,
        attempt: Attempt,
        reason: Code,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        what: Vec<Code>,
    },
    /// An attempt ended; the entry commits to its receipt.
    #[serde(rename = "job.ended")]
    JobEnded { job: JobId, attempt: Attempt, state: JobState, reason: Reason, receipt: Commitment },
    /// Someone signed in was refused.
    #[serde(rename = "access.refused")]
    AccessRefused {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consumer: Option<ConsumerId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_key: Option<ApiKeyId>,
        action: Code,
        reason: Code,
    },
    /// Refusals before sign-in and repeated reads, counted.
    #[serde(rename = "access.summary")]
    AccessSummary { cause: Code, count: u64, from: Timestamp, until: Timestamp },
    /// An API key was handed out.
    #[serde(rename = "apikey.created")]
    ApiKeyCreated { api_key: ApiKeyId, consumer: ConsumerId, role: Code, expires: Timestamp },
    /// An API key no longer opens anything.
    #[serde(rename = "apikey.revoked")]
    ApiKeyRevoked { api_key: ApiKeyId, consumer: ConsumerId, role: Code, expires: Timestamp },
    /// An alert was raised.
    #[serde(rename = "alert.raised")]
    AlertRaised { alert: AlertId, kind: Code, severity: Code },
    /// Someone took note of an alert.
    #[serde(rename = "alert.acknowledged")]
    AlertAcknowledged { alert: AlertId, kind: Code, severity: Code },
    /// A weakening setting is in force.
    #[serde(rename = "setting.insecure")]
    SettingInsecure { name: Code },
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    v: u32,
    /// When, by the node's own clock.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// An entry that is neither written nor read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Not canonical JSON of a known event, or too large.
    #[error("failed to read a log entry, or it has members its type does not know")]
    Json(#[source] CanonicalError),
    /// Of another version.
    #[error("log entry of version {0}, only {VERSION} is read")]
    Version(u32),
    /// Members that contradict each other.
    #[error("log entry contradicts itself: {0}")]
    Contradiction(&'static str),
    /// Longer than [`MAX_ENTRY`].
    #[error("log entry has {0} bytes, at most {MAX_ENTRY} are written")]
    TooLarge(usize),
}

impl Entry {
    /// The entry of an event at a time.
    pub const fn new(event: Event, time: Timestamp) -> Self {
        Self { v: VERSION, time, event }
    }

    /// The canonical bytes: the leaf of the log.
    ///
    /// # Errors
    /// If the event contradicts itself or is too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EntryError> {
        self.event.check()?;
        let bytes = canonical::to_vec(self).map_err(EntryError::Json)?;
        if bytes.len() > MAX_ENTRY { Err(EntryError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads the canonical bytes; every other encoding is refused.
    ///
    /// # Errors
    /// If the bytes are not what [`Self::to_bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let entry: Self = canonical::from_slice(bytes, MAX_ENTRY).map_err(EntryError::Json)?;
        if entry.v != VERSION {
            return Err(EntryError::Version(entry.v));
        }
        entry.event.check()?;
        Ok(entry)
    }
}

impl Event {
    fn check(&self) -> Result<(), EntryError> {
        let fits = match self {
            Self::NodeStarted { insecure, .. } if !insecure.is_sorted_by(|a, b| a < b) => {
                Err("`insecure` is not sorted or names a setting twice")
            }
            Self::JobState { state, offer, spec, .. } => {
                let queued = *state == JobState::Queued;
                if queued == offer.is_some() && queued == spec.is_some() {
                    Ok(())
                } else {
                    Err("`offer` and `spec` stand with state `queued`, and only there")
                }
            }
            Self::JobWiped { complete, checks, .. } => {
                let all = !checks.is_empty() && checks.values().all(|passed| *passed);
                if *complete == all { Ok(()) } else { Err("`complete` does not fit `checks`") }
            }
            Self::JobEnded { state, reason, .. } if !ends_with(*state, *reason) => {
                Err("an attempt does not end in this state for this reason")
            }
            Self::AccessRefused { consumer, api_key, .. } if consumer.is_some() == api_key.is_some() => {
                Err("either `consumer` or `apiKey` was refused")
            }
            Self::AccessSummary { from, until, .. } if from > until => Err("`from` lies after `until`"),
            Self::JobRemoved { what, .. } if !what.is_sorted_by(|a, b| a < b) => {
                Err("`what` is not sorted or names a thing twice")
            }
            _ => Ok(()),
        };
        fits.map_err(EntryError::Contradiction)
    }
}

/// Whether an attempt can end in `state` for `reason`.
pub fn ends_with(state: JobState, reason: Reason) -> bool {
    reason.end() == Some(state)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn ended(state: JobState, reason: Reason) -> Entry {
        let receipt = decores_types::digest::log_commitment(&[1; 32], LABEL_RECEIPT, b"x");
        let event = Event::JobEnded { job: JobId::from_bytes([1; 16]), attempt: Attempt(1), state, reason, receipt };
        Entry::new(event, Timestamp::from_ms(1_767_225_600_000))
    }

    #[test]
    fn reads_what_it_writes() {
        let entry = ended(JobState::Done, Reason::Completed);
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(Entry::parse(&bytes).unwrap(), entry);
        assert!(bytes.starts_with(b"{\"attempt\":1,\"job\":\"job_0101"));
    }

    #[test]
    fn refuses_an_unknown_member() {
        let text = String::from_utf8(ended(JobState::Done, Reason::Completed).to_bytes().unwrap()).unwrap();
        let more = text.replace("\"state\"", "\"name\":\"alice\",\"state\"");
        assert!(matches!(Entry::parse(more.as_bytes()), Err(EntryError::Json(_))));
    }

    #[test]
    fn refuses_an_end_that_is_none() {
        for (state, reason) in [
            (JobState::Done, Reason::Trap),
            (JobState::Running, Reason::Started),
            (JobState::Failed, Reason::WipeIncomplete),
        ] {
            assert!(matches!(ended(state, reason).to_bytes(), Err(EntryError::Contradiction(_))));
        }
    }

    #[test]
    fn refuses_people_in_words() {
        for bad in ["Alice", "alice@example.com", "10.0.0.1", "", "two words", "ö", &"a".repeat(49)] {
            assert!(Code::parse(bad).is_err(), "{bad}");
        }
    }
}
