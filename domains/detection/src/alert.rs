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
    /// The last run of the node ended without a goodbye.
    NodeCrashed,
    /// The machine's clock was set, or jumped.
    ClockChanged,
    /// The node acknowledges nothing new: it runs out of something, or its store fails.
    NodeDegraded,
    /// A sealed file of the node's was altered by somebody else.
    FileDamaged,
}

impl AlertKind {
    /// The text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WipeIncomplete => "wipe-incomplete",
            Self::EngineLost => "engine-lost",
            Self::LogStalled => "log-stalled",
            Self::InsecureSetting => "insecure-setting",
            Self::NodeCrashed => "node-crashed",
            Self::ClockChanged => "clock-changed",
            Self::NodeDegraded => "node-degraded",
            Self::FileDamaged => "file-damaged",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::WipeIncomplete | Self::LogStalled => Severity::Critical,
            Self::EngineLost | Self::NodeCrashed => Severity::Medium,
            Self::InsecureSetting | Self::ClockChanged | Self::NodeDegraded | Self::FileDamaged => Severity::High,
        }
    }

    /// Whether a consumer's job can raise it at will.
    pub const fn is_caused_by_consumers(self) -> bool {
        matches!(self, Self::EngineLost)
    }

    /// What to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::WipeIncomplete => {
                "see `decores status` for what is left, remove what holds it, then run `decores doctor --mend`"
            }
            Self::EngineLost => "run `decores doctor`; if it repeats, the machine may be short of memory",
            Self::LogStalled => "check the disk's free space and the node's log; nothing is lost while it waits",
            Self::InsecureSetting => "remove the setting from the configuration and restart the node",
            Self::NodeCrashed => {
                "look for the cause in the machine's own log: a power cut, the out-of-memory killer, a fault"
            }
            Self::ClockChanged => "check the machine's time service; open offers were ended, and clients ask again",
            Self::FileDamaged => "find out who can write to the node's home; what was altered is not used",
            Self::NodeDegraded => "see `decores status` for the cause; the node goes on by itself when it is over",
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
