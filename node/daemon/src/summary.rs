//! What is counted instead of logged one by one: refusals before sign-in, repeated reads.

use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_types::Timestamp;
use std::collections::BTreeMap;
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
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "no-key",
            Self::MalformedKey => "malformed-key",
            Self::UnknownKey => "unknown-key",
            Self::ExpiredKey => "expired-key",
            Self::LogRead => "log-read",
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
