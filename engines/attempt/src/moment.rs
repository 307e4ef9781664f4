//! Durations of the engine's own work.

use std::time::Instant;

/// A moment to measure from; the engine has no clock of the node's.
#[expect(clippy::disallowed_methods, reason = "durations of the engine's own work, for its report")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since `start`.
#[expect(clippy::disallowed_methods, reason = "durations of the engine's own work, for its report")]
pub fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
