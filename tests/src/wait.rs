//! Waiting for something to become true. Nothing here sleeps for its own sake.

use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something, at most for `seconds`.
#[expect(clippy::disallowed_methods, reason = "tests wait for other processes")]
pub fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(seconds), "waited {seconds} s in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// How long something takes.
#[expect(clippy::disallowed_methods, reason = "tests measure other processes")]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
