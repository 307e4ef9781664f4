//! Waiting for something to become true. Nothing here sleeps for its own sake.

use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something, at most for `seconds`.
pub fn until<T>(what: &str, seconds: u64, look: impl FnMut() -> Option<T>) -> T {
    within(seconds * 1000, look).unwrap_or_else(|| panic!("waited {seconds} s in vain: {what}"))
}

/// Looks until there is something; `None` when there is nothing after `ms`.
#[expect(clippy::disallowed_methods, reason = "tests wait for other processes")]
pub fn within<T>(ms: u64, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() >= Duration::from_millis(ms) {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Lets other processes work for a time that is itself part of a test.
#[expect(clippy::disallowed_methods, reason = "the campaign strikes at chosen instants")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// How long something takes.
#[expect(clippy::disallowed_methods, reason = "tests measure other processes")]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
