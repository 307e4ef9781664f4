//! What a verification found.

use crate::verify::claim::{Claim, Status};
use decores_types::{Attempt, ConsumerId, JobId, JobState, KeyId, Reason, Strength, Timestamp};
use serde::Serialize;

/// The finding about one claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimResult {
    /// Which.
    pub claim: Claim,
    /// What was found.
    pub status: Status,
    /// How strongly it is known when it holds.
    pub strength: Strength,
    /// Why.
    pub detail: String,
    /// Whether it must hold.
    pub demanded: bool,
}

/// What the receipt is about; only of a receipt whose issuer is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: Attempt,
    /// Whose it was.
    pub consumer: ConsumerId,
    /// What the trust file calls the node.
    pub node: String,
    /// Its identity.
    pub identity: KeyId,
    /// How the attempt ended.
    pub state: JobState,
    /// Why.
    pub reason: Reason,
    /// When, by the node's clock.
    pub ended: Timestamp,
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Every claim holds, or nobody demanded it.
    Accepted,
    /// It is not to be relied on.
    Refused {
        /// Each reason.
        why: Vec<String>,
    },
}

/// The whole finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Each claim, in order.
    pub claims: Vec<ClaimResult>,
    /// What the receipt is about; absent where its issuer is not established.
    pub receipt: Option<Summary>,
    /// What it comes to.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What was given is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt: not JSON")]
pub struct NotJson;

impl Report {
    /// Draws the verdict: a claim that does not hold refuses, and so does a demanded one that is anything but `holds`.
    pub(super) fn of(claims: Vec<ClaimResult>, receipt: Option<Summary>) -> Self {
        let mut why = Vec::new();
        for result in &claims {
            let (claim, status, detail) = (result.claim, result.status, &result.detail);
            if status == Status::DoesNotHold {
                why.push(format!("`{claim}` does not hold: {detail}"));
            } else if result.demanded && status != Status::Holds {
                why.push(format!("`{claim}` is demanded, but is {status}: {detail}"));
            }
        }
        let verdict = if why.is_empty() { Verdict::Accepted } else { Verdict::Refused { why } };
        Self { claims, receipt, verdict }
    }

    /// The finding about a file that cannot be read as a receipt.
    pub(super) fn unreadable(claims: Vec<ClaimResult>, why: String) -> Self {
        Self { claims, receipt: None, verdict: Verdict::Refused { why: vec![why] } }
    }

    /// What was found of a claim.
    pub fn status(&self, claim: Claim) -> Status {
        self.claims.iter().find(|r| r.claim == claim).map_or(Status::NotChecked, |r| r.status)
    }

    /// Whether the receipt may be relied on.
    pub const fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accepted)
    }
}
