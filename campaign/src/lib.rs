//! The crash campaign: a node is damaged at a chosen moment, and then looked at from outside.
//!
//! [`plan`] says what each run does; it is a pure function of seed and index. A run takes a home ([`nest`]), submits
//! jobs with a planted secret and writes down everything that the node acknowledges ([`client`]), brings the job to
//! the moment, does the damage ([`damage`]), and looks ([`checks`]): at the disk while the node is down, and at
//! everything when it is back. docs/testing.md says what each kind of damage is, and what it is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails the campaign"
)]

pub mod checks;
pub mod client;
pub mod damage;
pub mod nest;
pub mod plan;
pub mod record;
pub mod report;
pub mod service;
pub mod strace;
pub mod tail;

use std::fmt;

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// Something acknowledged is gone, or another than it was.
    Loss,
    /// Something of an ended job is still there.
    Leftover,
    /// Two histories.
    Fork,
    /// The secret, readable.
    Plaintext,
    /// Anything else that should not be.
    Failure,
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: Wrong,
    /// What was found.
    pub what: String,
}

impl Finding {
    /// A finding.
    pub fn new(kind: Wrong, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}
