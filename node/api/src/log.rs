//! The log.

use decores_types::Base64;
use serde::{Deserialize, Serialize};

/// An entry and its place.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// Its index, from 0.
    pub index: u64,
    /// Its bytes: what the tree's leaf is the hash of.
    #[schema(value_type = String)]
    pub entry: Base64,
}

/// A run of entries, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogEntries {
    /// The entries.
    pub entries: Vec<LogEntry>,
    /// Number of entries in the log now.
    pub size: u64,
}
