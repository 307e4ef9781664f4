//! How many alerts of one kind are kept: what a consumer can cause at will must not bury the rest.

use crate::AlertKind;
use std::collections::HashMap;

/// Alerts of one kind that are kept an hour, of those that a consumer can cause.
const AN_HOUR: u32 = 20;
const HOUR_MS: u64 = 3_600_000;

/// Counts alerts by kind, by the hour.
#[derive(Debug, Default)]
pub struct Quota(HashMap<AlertKind, Hour>);

#[derive(Debug)]
struct Hour {
    since_ms: u64,
    count: u32,
}

impl Quota {
    /// Whether one more of this kind is kept; `monotonic_ms` is now.
    pub fn admits(&mut self, kind: AlertKind, monotonic_ms: u64) -> bool {
        if !kind.is_caused_by_consumers() {
            return true;
        }
        let hour = self.0.entry(kind).or_insert(Hour { since_ms: monotonic_ms, count: 0 });
        if monotonic_ms.saturating_sub(hour.since_ms) >= HOUR_MS {
            *hour = Hour { since_ms: monotonic_ms, count: 0 };
        }
        hour.count = hour.count.saturating_add(1);
        hour.count <= AN_HOUR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_consumers_cause_is_kept_so_many_times_an_hour_and_nothing_else_is_held_back() {
        let mut quota = Quota::default();
        let kept = |quota: &mut Quota, kind, now| (0..100).filter(|_| quota.admits(kind, now)).count();
        assert_eq!(kept(&mut quota, AlertKind::EngineLost, 5), 20);
        assert_eq!(kept(&mut quota, AlertKind::WipeIncomplete, 5), 100);
        assert_eq!(kept(&mut quota, AlertKind::EngineLost, 4 + HOUR_MS), 0);
        assert_eq!(kept(&mut quota, AlertKind::EngineLost, 5 + HOUR_MS), 20);
    }
}
