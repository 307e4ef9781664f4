//! Roles, until accounts bring their own.

use crate::permit::Action;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Submits jobs and reads its own.
    Consumer,
    /// Also reads the log's entries, keys and alerts, and hands out API keys.
    Operator,
}

impl Role {
    /// Parses the text form.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "consumer" => Some(Self::Consumer),
            "operator" => Some(Self::Operator),
            _ => None,
        }
    }

    /// Whether the role includes an action. Exhaustive: a new action must be decided here.
    pub(crate) const fn allows(self, action: Action) -> bool {
        match action {
            Action::ReadStatus
            | Action::AskOffer
            | Action::SubmitJob
            | Action::ReadJob
            | Action::CancelJob
            | Action::DeleteResult
            | Action::ReadLogProofs => true,
            Action::ReadLogEntries
            | Action::ReadMetrics
            | Action::ReadKeys
            | Action::ReadAlerts
            | Action::AcknowledgeAlert
            | Action::MendWipes
            | Action::ReadApiKeys
            | Action::CreateApiKey
            | Action::RevokeApiKey => matches!(self, Self::Operator),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consumer => "consumer",
            Self::Operator => "operator",
        })
    }
}
