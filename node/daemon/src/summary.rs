//! What is counted instead of logged one by one: refusals before sign-in, repeated reads.

use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_types::{ApiKeyId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// Why something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// No bearer token.
    NoKey,
    /// A token that cannot be an API key.
    MalformedKey,
    /// A key that is not known, or was revoked.
    UnknownKey,
    /// A key whose time is over.
    ExpiredKey,
    /// Log entries were read.
    LogRead,
    /// Checkpoints, tiles and proofs were read.
    ProofRead,
    /// Jobs, results and receipts were read.
    JobRead,
    /// Offers and submissions were refused since the node takes nothing new for now.
    Degraded,
    /// Refusals after sign-in beyond what one key may have entered a minute.
    Refused,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "no-key",
            Self::MalformedKey => "malformed-key",
            Self::UnknownKey => "unknown-key",
            Self::ExpiredKey => "expired-key",
            Self::LogRead => "log-read",
            Self::ProofRead => "proof-read",
            Self::JobRead => "job-read",
            Self::Degraded => "degraded",
            Self::Refused => "refused-repeatedly",
        }
    }
}

/// Counts since the last summary.
#[derive(Debug, Default)]
pub(crate) struct Summary(Mutex<BTreeMap<Cause, (u64, Timestamp)>>);

impl Summary {
    pub(crate) fn count(&self, cause: Cause, now: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(cause).or_insert((0, now)).0 += 1;
    }

    /// One event per cause, and a fresh start.
    pub(crate) fn take(&self, now: Timestamp) -> Vec<Event> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        counts
            .into_iter()
            .filter_map(|(cause, (count, from))| {
                let cause = Code::parse(cause.as_str()).ok()?;
                Some(Event::AccessSummary { cause, count, from, until: now.max(from) })
            })
            .collect()
    }
}

/// Refusals of one API key that are entries of their own, a minute; the rest is counted.
const REFUSALS_A_MINUTE: u32 = 60;

/// Refusals after sign-in, in this minute.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<ApiKeyId, u32>>);

impl Refusals {
    /// Whether one more refusal of this key gets an entry of its own.
    pub(crate) fn admit(&self, key: ApiKeyId) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_insert(0);
        *count = count.saturating_add(1);
        *count <= REFUSALS_A_MINUTE
    }

    /// Starts the next minute.
    pub(crate) fn next_minute(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_after_the_first_sixty() {
        let refusals = Refusals::default();
        let (noisy, quiet) = (ApiKeyId::from_bytes([1; 16]), ApiKeyId::from_bytes([2; 16]));
        let admitted = (0..1000).filter(|_| refusals.admit(noisy)).count();
        assert_eq!(admitted, 60);
        assert!(refusals.admit(quiet));
        refusals.next_minute();
        assert!(refusals.admit(noisy));
    }

    #[test]
    fn a_summary_has_one_event_a_cause_and_starts_afresh() {
        let (summary, now) = (Summary::default(), Timestamp::from_ms(5));
        for _ in 0..3 {
            summary.count(Cause::UnknownKey, now);
        }
        summary.count(Cause::NoKey, now);
        let events = summary.take(Timestamp::from_ms(9));
        assert_eq!(events.len(), 2);
        assert!(events.iter().any(|e| matches!(e, Event::AccessSummary { count: 3, from, .. } if *from == now)));
        assert!(summary.take(now).is_empty());
    }
}
