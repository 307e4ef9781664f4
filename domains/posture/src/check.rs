//! One check and its outcome.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a check came out; ordered, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, with less protection; receipts say so.
    Weak,
    /// Absent: jobs do not run, or run without this protection.
    Missing,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Weak => "weak",
            Self::Missing => "missing",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its stable name.
    pub id: String,
    /// What was found, in a few words.
    pub title: String,
    /// How it came out.
    pub state: State,
    /// Why it matters.
    pub why: String,
    /// The command that mends it, or where there is none, what would.
    pub mend: Option<String>,
}

impl Check {
    /// A check that came out well.
    pub(crate) fn ok(id: &str, title: impl Into<String>, why: &str) -> Self {
        Self::new(id, title, State::Ok, why, None)
    }

    /// A check that came out otherwise.
    pub(crate) fn bad(id: &str, title: impl Into<String>, state: State, why: &str, mend: &str) -> Self {
        Self::new(id, title, state, why, Some(mend))
    }

    fn new(id: &str, title: impl Into<String>, state: State, why: &str, mend: Option<&str>) -> Self {
        Self { id: id.to_owned(), title: title.into(), state, why: why.to_owned(), mend: mend.map(str::to_owned) }
    }
}

/// The command that boots the kernel with one more option.
pub(crate) fn boot_with(option: &str) -> String {
    let line = format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {option}\"");
    let file = option.split('=').next().unwrap_or(option);
    format!("echo '{line}' | sudo tee /etc/default/grub.d/{file}.cfg && sudo update-grub && sudo reboot")
}
