//! A clock that jumps: the wall clock against one that cannot be set.

use decores_types::Timestamp;

/// How far the two may part between two looks: no time service slews a clock by this much.
const JUMP_MS: u64 = 5_000;
/// How long after a jump a clock counts as unsteady.
const UNSTEADY_MS: u64 = 5_000;
/// How long after a jump nothing is removed because its time is over: a clock that is wrong for a while destroys nothing.
const HOLD_MS: u64 = 3_600_000;

/// The wall clock is not where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Where it should be.
    pub expected: Timestamp,
    /// Where it is.
    pub found: Timestamp,
}

/// Compares two clocks from look to look.
#[derive(Clone, Copy, Debug)]
pub struct ClockWatch {
    wall: Timestamp,
    monotonic_ms: u64,
    /// When the last jump was seen, by the monotonic clock.
    jumped_ms: Option<u64>,
}

impl ClockWatch {
    /// The first look.
    pub const fn new(wall: Timestamp, monotonic_ms: u64) -> Self {
        Self { wall, monotonic_ms, jumped_ms: None }
    }

    /// Looks again.
    pub fn look(&mut self, wall: Timestamp, monotonic_ms: u64) -> Option<Jump> {
        let expected = self.wall.plus_ms(monotonic_ms.saturating_sub(self.monotonic_ms));
        (self.wall, self.monotonic_ms) = (wall, monotonic_ms);
        // One of the two is zero.
        if wall.since_ms(expected).max(expected.since_ms(wall)) <= JUMP_MS {
            return None;
        }
        self.jumped_ms = Some(monotonic_ms);
        Some(Jump { expected, found: wall })
    }

    /// Takes note of a jump that somebody else found.
    pub const fn jumped(&mut self, monotonic_ms: u64) {
        self.jumped_ms = Some(monotonic_ms);
    }

    /// Whether the clock jumped a moment ago.
    pub fn is_unsteady(&self, monotonic_ms: u64) -> bool {
        self.within(monotonic_ms, UNSTEADY_MS)
    }

    /// Whether what is over by this clock is to be kept all the same.
    pub fn holds_expiry(&self, monotonic_ms: u64) -> bool {
        self.within(monotonic_ms, HOLD_MS)
    }

    fn within(&self, monotonic_ms: u64, span: u64) -> bool {
        self.jumped_ms.is_some_and(|jumped| monotonic_ms.saturating_sub(jumped) < span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_767_225_600_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(START + ms)
    }

    #[test]
    fn a_clock_that_is_slewed_does_not_jump() {
        let mut watch = ClockWatch::new(at(0), 7);
        for second in 1..100_i64 {
            // Five milliseconds a second, ten times what a time service does.
            assert_eq!(watch.look(at(second * 1005), 7 + second.unsigned_abs() * 1000), None);
        }
        assert!(!watch.is_unsteady(100_000) && !watch.holds_expiry(100_000));
    }

    #[test]
    fn a_long_pause_between_two_looks_is_no_jump() {
        let mut watch = ClockWatch::new(at(0), 0);
        assert_eq!(watch.look(at(86_400_000), 86_400_000), None);
    }

    #[test]
    fn a_clock_set_forth_or_back_is_told_once_with_where_it_should_be() {
        for found in [at(1000 + 5001), at(1000 - 5001), at(31_536_000_000), Timestamp::from_ms(0)] {
            let mut watch = ClockWatch::new(at(0), 0);
            assert_eq!(watch.look(found, 1000), Some(Jump { expected: at(1000), found }));
            assert_eq!(watch.look(found.plus_ms(1000), 2000), None);
        }
        let mut watch = ClockWatch::new(at(0), 0);
        assert_eq!(watch.look(at(1000 + 5000), 1000), None);
    }

    #[test]
    fn it_is_steady_again_soon_and_expiry_is_held_back_for_an_hour() {
        let mut watch = ClockWatch::new(at(0), 0);
        assert!(watch.look(at(60_000), 1000).is_some());
        assert!(watch.is_unsteady(1000) && watch.is_unsteady(5999) && !watch.is_unsteady(6000));
        assert!(watch.holds_expiry(3_600_999) && !watch.holds_expiry(3_601_000));
        // The way back is a jump as well, and begins the hour anew.
        assert!(watch.look(at(2000), 2000).is_some());
        assert!(watch.holds_expiry(3_601_000) && !watch.holds_expiry(3_602_000));
    }

    #[test]
    fn a_jump_that_a_start_found_counts() {
        let mut watch = ClockWatch::new(at(0), 50);
        watch.jumped(50);
        assert!(watch.is_unsteady(51) && watch.holds_expiry(51));
    }
}
