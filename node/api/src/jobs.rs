//! Jobs.

use decores_types::{Attempt, ConsumerId, JobId, JobSpec, JobState, OfferId, Reason, Timestamp};
use serde::{Deserialize, Serialize};

/// The head of a submission; the sealed payload follows it.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The offer the payload is sealed to.
    #[schema(value_type = String)]
    pub offer: OfferId,
    /// The spec.
    #[schema(value_type = Object)]
    pub spec: JobSpec,
}

/// A job, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its id.
    #[schema(value_type = String)]
    pub job: JobId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub consumer: ConsumerId,
    /// The current attempt.
    #[schema(value_type = u32)]
    pub attempt: Attempt,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: JobState,
    /// Why.
    #[schema(value_type = String)]
    pub reason: Reason,
    /// Why, in a sentence.
    pub explanation: String,
    /// Every step, oldest first.
    pub steps: Vec<JobStep>,
    /// Whether a sealed output can be fetched.
    pub result: bool,
    /// Whether sealed logs can be fetched.
    pub logs: bool,
    /// Whether a receipt can be fetched.
    pub receipt: bool,
    /// Whether submitting again under the same idempotency key starts another attempt.
    pub resubmit: bool,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobStep {
    /// The attempt.
    #[schema(value_type = u32)]
    pub attempt: Attempt,
    /// The state that was entered.
    #[schema(value_type = String)]
    pub state: JobState,
    /// Why.
    #[schema(value_type = String)]
    pub reason: Reason,
    /// When (the node's clock).
    #[schema(value_type = String)]
    pub time: Timestamp,
}
