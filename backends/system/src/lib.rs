//! The machine's clock and random source: the only place that reads them; and what room it has left.

mod memory;
mod room;
mod syscall;

pub use room::{DiskRoom, descriptor_limit, descriptor_room, disk_room, memory_room, used_up};

use aws_lc_rs::rand;
use decores_types::{Clock, Random, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock. Its monotonic time goes on while the machine sleeps: waking is no jump of the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock(());

impl SystemClock {
    /// The clock.
    pub const fn new() -> Self {
        Self(())
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 reads as 1970: every certificate and offer is then refused.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    #[expect(clippy::expect_used, reason = "every kernel that runs this has that clock")]
    fn monotonic_ms(&self) -> u64 {
        syscall::since_boot_ms().expect("the machine has a clock")
    }
}

/// AWS-LC's random generator, seeded by the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that draws randomness")]
    #[expect(clippy::expect_used, reason = "going on without randomness would make keys that can be guessed")]
    fn fill(&self, out: &mut [u8]) {
        rand::fill(out).expect("the random generator works");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decores_types::ambient::random_bytes;

    #[test]
    fn time_goes_forward() {
        let clock = SystemClock::new();
        let (wall, monotonic) = (clock.now(), clock.monotonic_ms());
        assert!(wall > Timestamp::from_ms(1_700_000_000_000));
        assert!(clock.now() >= wall && clock.monotonic_ms() >= monotonic);
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random_bytes::<32>(&SystemRandom), random_bytes::<32>(&SystemRandom));
    }
}
