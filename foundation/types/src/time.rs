//! Moments, to the millisecond.

use crate::encoding::{ParseError, serde_as_text};
use std::fmt;

/// Milliseconds since the Unix epoch; text form RFC 3339, UTC, exactly three decimals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Timestamp(i64);

/// The largest moment we print: the end of the year 9999.
const MAX_MS: i64 = 253_402_207_200_000;

impl Timestamp {
    /// The moment this many milliseconds after 1970-01-01T00:00:00Z, clamped to the years 1970 to 9999.
    pub const fn from_ms(ms: i64) -> Self {
        if ms < 0 {
            Self(0)
        } else if ms > MAX_MS {
            Self(MAX_MS)
        } else {
            Self(ms)
        }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// This moment moved forward; saturates.
    pub const fn plus_ms(self, ms: u64) -> Self {
        let ms = if ms > MAX_MS as u64 { MAX_MS } else { ms as i64 };
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; zero if it lies later.
    pub fn since_ms(self, earlier: Self) -> u64 {
        u64::try_from(self.0 - earlier.0).unwrap_or(0)
    }

    /// Parses exactly the form that [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        const WHAT: ParseError = ParseError("time (RFC 3339, UTC, milliseconds)");
        let parsed: jiff::Timestamp = text.parse().map_err(|_| WHAT)?;
        let this = Self::from_ms(parsed.as_millisecond());
        if this.to_string() == text { Ok(this) } else { Err(WHAT) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

serde_as_text!(Timestamp);
