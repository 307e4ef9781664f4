//! Offers and plans.

use decores_types::{JobSpec, Protection};
use serde::{Deserialize, Serialize};

/// What a consumer needs before it seals anything.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferRequest {
    /// The weakest protection the consumer accepts.
    #[schema(value_type = String, example = "process")]
    pub protection: Protection,
}

/// An offer.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferResponse {
    /// DSSE envelope (docs/formats/keys.md, "Offers").
    #[schema(value_type = Object)]
    pub envelope: serde_json::Value,
}

/// A spec to plan for.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The spec (docs/formats/receipt.md).
    #[schema(value_type = Object)]
    pub spec: JobSpec,
}

/// How the node would isolate a job.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanResponse {
    /// The isolation plan.
    #[schema(value_type = Object)]
    pub plan: serde_json::Value,
}
