//! What a payload is bound to: it opens in this place only.

use decores_types::canonical::{self, CanonicalError};
use decores_types::{Attempt, ConsumerId, Digest, JobId, KeyId};
use serde::Serialize;

/// The place of a job's program and input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobBinding {
    /// Who sends it.
    pub consumer: ConsumerId,
    /// Digest of the offer's DSSE payload.
    pub offer: Digest,
    /// The key that outputs are sealed to.
    pub output_key: KeyId,
    /// Digest of the canonical spec.
    pub spec: Digest,
}

impl JobBinding {
    /// The digest that goes into the associated data.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Ok(Digest::of(&canonical::to_vec(self)?))
    }
}

/// The place of an output or of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResultBinding {
    /// Which try it came from.
    pub attempt: Attempt,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// The job.
    pub job: JobId,
    /// Digest of the canonical spec.
    pub spec: Digest,
}

impl ResultBinding {
    /// The digest that goes into the associated data.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Ok(Digest::of(&canonical::to_vec(self)?))
    }
}
