//! Time and randomness, as arguments. `backends/system` holds the only real implementations.

use crate::Timestamp;

/// Wall and monotonic time.
pub trait Clock: Send + Sync {
    /// The wall clock, to the millisecond.
    fn now(&self) -> Timestamp;

    /// Milliseconds since an arbitrary start; never goes back.
    fn monotonic_ms(&self) -> u64;
}

/// A cryptographically secure random source.
pub trait Random: Send + Sync {
    /// Fills `out` with unpredictable bytes.
    fn fill(&self, out: &mut [u8]);
}

/// `N` random bytes.
pub fn random_bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut out = [0; N];
    random.fill(&mut out);
    out
}
