//! An alert and its kinds.

use decores_types::{AlertId, Timestamp};
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Look at it today.
    Medium,
    /// Look at it now.
    High,
    /// Stop and look.
    Critical,
}

impl Severity {
    /// The text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A check of a wipe did not pass.
    WipeIncomplete,
    /// An engine vanished without a result.
    EngineLost,
    /// The log could not be extended.
    LogStalled,
    /// An `insecure_…` setting is in force.
    InsecureSetting,
}

impl AlertKind {
    /// The text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WipeIncomplete => "wipe-incomplete",
            Self::EngineLost => "engine-lost",
            Self::LogStalled => "log-stalled",
            Self::InsecureSetting => "insecure-setting",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::WipeIncomplete | Self::LogStalled => Severity::Critical,
            Self::EngineLost => Severity::Medium,
            Self::InsecureSetting => Severity::High,
        }
    }

    /// What to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::WipeIncomplete => "run `decores doctor`; what could not be wiped is not used again",
            Self::EngineLost => "run `decores doctor`; if it repeats, the machine may be short of memory",
            Self::LogStalled => "check the disk's free space and the node's log; nothing is lost while it waits",
            Self::InsecureSetting => "remove the setting from the configuration and restart the node",
        }
    }
}

/// An alert, as the store keeps it sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// What it is about.
    pub kind: AlertKind,
    /// What happened, for people.
    pub message: String,
    /// When it was raised.
    pub raised: Timestamp,
    /// When it was acknowledged.
    pub acknowledged: Option<Timestamp>,
}

impl Alert {
    /// A new alert.
    pub const fn new(id: AlertId, kind: AlertKind, message: String, raised: Timestamp) -> Self {
        Self { id, kind, message, raised, acknowledged: None }
    }
}
