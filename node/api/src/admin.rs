//! Keys, API keys, alerts and unfinished wipes.

use decores_types::{AlertId, ApiKeyId, Attempt, ConsumerId, JobId, KeyId, Timestamp};
use serde::{Deserialize, Serialize};

/// A key of the node's, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its id.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// What it is for.
    pub purpose: String,
    /// Its epoch.
    pub epoch: u32,
    /// Its algorithm.
    pub algorithm: String,
    /// When it was made.
    #[schema(value_type = String)]
    pub created: Timestamp,
    /// `active`, `retired` or `destroyed`.
    pub state: String,
    /// Where it lives: `keystore` or `memory`.
    pub place: String,
}

/// Asks for a new API key.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiKeyRequest {
    /// A name for people, at most 64 characters; kept sealed.
    pub name: String,
    /// `consumer` or `operator`.
    pub role: String,
    /// Seconds it stays valid, at most 31,536,000 (a year).
    pub expires_seconds: u64,
}

/// A new API key; the only time the key itself is shown.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiKeyCreated {
    /// The key.
    pub api_key: String,
    /// Its record.
    pub record: ApiKey,
}

/// An API key's record.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Its handle.
    #[schema(value_type = String)]
    pub id: ApiKeyId,
    /// The consumer it stands for.
    #[schema(value_type = String)]
    pub consumer: ConsumerId,
    /// A name for people.
    pub name: String,
    /// Its role.
    pub role: String,
    /// When it was made.
    #[schema(value_type = String)]
    pub created: Timestamp,
    /// When it stops.
    #[schema(value_type = String)]
    pub expires: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// An alert.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AlertId,
    /// What it is about: `wipe-incomplete`, `engine-lost`, …
    pub kind: String,
    /// `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// What happened, for people.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// When it was raised.
    #[schema(value_type = String)]
    pub raised: Timestamp,
    /// When it was acknowledged.
    #[schema(value_type = String)]
    pub acknowledged: Option<Timestamp>,
}

/// What the wipe of an attempt left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Leftover {
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// Its attempt.
    #[schema(value_type = u32)]
    pub attempt: Attempt,
    /// The checks that did not pass: `processes`, `cgroup`, `mounts`, `scratch`, `sealed-input`, …
    pub what: Vec<String>,
    /// Why, as far as the node knows.
    pub causes: Vec<String>,
    /// Since when.
    #[schema(value_type = String)]
    pub since: Timestamp,
}

/// What came of trying unfinished wipes again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mended {
    /// What is gone now, as it was before.
    pub cleared: Vec<Leftover>,
    /// What is still there.
    pub left: Vec<Leftover>,
}
