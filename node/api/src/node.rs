//! The node itself.

use crate::admin::Leftover;
use serde::{Deserialize, Serialize};

/// The node's signed statement of who it is.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeResponse {
    /// DSSE envelope by the identity key over [`NodeStatement`] (`application/vnd.decores.node+json`).
    #[schema(value_type = Object)]
    pub envelope: serde_json::Value,
}

/// Payload type of the node statement.
pub const NODE_STATEMENT_TYPE: &str = "application/vnd.decores.node+json";

/// Who the node is: what `decores login` pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeStatement {
    /// Format version: 1.
    pub version: u32,
    /// A name for people; not unique.
    pub name: String,
    /// Id of the identity key.
    #[schema(value_type = String)]
    pub identity: decores_types::KeyId,
    /// The raw Ed25519 identity key.
    #[schema(value_type = String)]
    pub identity_public: decores_types::Base64,
    /// The log's origin line.
    pub log_origin: String,
    /// The log's verifier key (C2SP signed-note vkey).
    pub log_key: String,
    /// The certificate authority of the node's TLS, DER.
    #[schema(value_type = String)]
    pub tls_ca: decores_types::Base64,
    /// When this statement was made.
    #[schema(value_type = String)]
    pub issued: decores_types::Timestamp,
}

/// What the node is doing.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// A name for people.
    pub name: String,
    /// Id of the identity key.
    #[schema(value_type = String)]
    pub identity: decores_types::KeyId,
    /// Since when it runs.
    #[schema(value_type = String)]
    pub started: decores_types::Timestamp,
    /// The node's clock.
    #[schema(value_type = String)]
    pub now: decores_types::Timestamp,
    /// The strongest protection it gives.
    #[schema(value_type = String)]
    pub protection: decores_types::Protection,
    /// Jobs waiting.
    pub queued: u64,
    /// Jobs running.
    pub running: u64,
    /// Offers open.
    pub offers: u64,
    /// Entries in the log.
    pub log_size: u64,
    /// Alerts not acknowledged; only shown to operators.
    pub alerts: Option<u64>,
    /// Why nothing new is taken, sorted: `clock`, `descriptors`, `disk`, `launcher`, `log`, `memory`, `places`, `store`.
    pub degraded: Vec<String>,
    /// What wipes left behind; only shown to operators.
    pub leftovers: Option<Vec<Leftover>>,
    /// `insecure_…` settings in force.
    pub insecure: Vec<String>,
    /// Where the keystore's root lies.
    pub root_source: String,
    /// Who is asking.
    #[schema(value_type = String)]
    pub consumer: decores_types::ConsumerId,
    /// With which role.
    pub role: String,
}
