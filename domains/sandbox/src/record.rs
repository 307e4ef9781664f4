//! A job's life: its states in order, each with a reason.

use decores_types::{Attempt, ConsumerId, Digest, JobId, JobState, OfferId, Reason, Timestamp};
use serde::{Deserialize, Serialize};

/// One step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The attempt it belongs to.
    pub attempt: Attempt,
    /// The state that was entered.
    pub state: JobState,
    /// Why.
    pub reason: Reason,
    /// When.
    pub time: Timestamp,
}

/// A job, as the store keeps it sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// The offer of the current attempt.
    pub offer: OfferId,
    /// Digest of that offer's DSSE payload.
    pub offer_digest: Digest,
    /// Digest of the spec.
    pub spec: Digest,
    /// Every step of every attempt, in order.
    pub steps: Vec<Step>,
}

/// A step that the states do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job in state `{from}` cannot become `{to}`")]
pub struct TransitionError {
    /// Where it stands.
    pub from: JobState,
    /// Where it was to go.
    pub to: JobState,
}

impl JobRecord {
    /// The current attempt.
    pub fn attempt(&self) -> Attempt {
        self.steps.last().map_or(Attempt(1), |s| s.attempt)
    }

    /// The latest step of the current attempt.
    pub fn last(&self) -> Option<&Step> {
        self.steps.last()
    }

    /// Where the job stands.
    pub fn state(&self) -> JobState {
        self.steps.last().map_or(JobState::Queued, |s| s.state)
    }

    /// Adds a step to the current attempt.
    ///
    /// # Errors
    /// If the states do not allow it; the record is unchanged then.
    pub fn enter(&mut self, state: JobState, reason: Reason, time: Timestamp) -> Result<Step, TransitionError> {
        let attempt = self.attempt();
        if let Some(last) = self.steps.last()
            && !last.state.may_become(state)
        {
            return Err(TransitionError { from: last.state, to: state });
        }
        let step = Step { attempt, state, reason, time };
        self.steps.push(step);
        Ok(step)
    }

    /// Whether a new attempt may start: the last one failed for a reason that says so.
    pub fn may_resubmit(&self) -> bool {
        matches!(self.last(), Some(s) if s.state == JobState::Failed
            && matches!(s.reason, Reason::Resubmit | Reason::QueueExpired | Reason::EngineLost))
    }

    /// Starts the next attempt under another offer.
    ///
    /// # Errors
    /// If the last attempt has not ended in a way that allows it.
    pub fn resubmit(&mut self, offer: OfferId, offer_digest: Digest, time: Timestamp) -> Result<Step, TransitionError> {
        if !self.may_resubmit() {
            return Err(TransitionError { from: self.state(), to: JobState::Queued });
        }
        let attempt = Attempt(self.attempt().0.saturating_add(1));
        let step = Step { attempt, state: JobState::Queued, reason: Reason::Accepted, time };
        self.offer = offer;
        self.offer_digest = offer_digest;
        self.steps.push(step);
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn job() -> JobRecord {
        let digest = Digest::of(b"x");
        JobRecord {
            job: JobId::from_bytes([1; 16]),
            consumer: ConsumerId::from_bytes([2; 16]),
            offer: OfferId::from_bytes([3; 16]),
            offer_digest: digest,
            spec: digest,
            steps: Vec::new(),
        }
    }

    fn walk(job: &mut JobRecord, states: &[(JobState, Reason)]) {
        for (i, (state, reason)) in states.iter().enumerate() {
            job.enter(*state, *reason, Timestamp::from_ms(i as i64)).unwrap();
        }
    }

    const TO_WIPING: [(JobState, Reason); 4] = [
        (JobState::Queued, Reason::Accepted),
        (JobState::Attesting, Reason::NotRequired),
        (JobState::Starting, Reason::SlotFree),
        (JobState::Wiping, Reason::Ended),
    ];

    #[test]
    fn a_step_that_skips_a_state_is_refused_and_changes_nothing() {
        let mut job = job();
        walk(&mut job, &TO_WIPING[..1]);
        let error = job.enter(JobState::Running, Reason::Started, Timestamp::from_ms(9)).unwrap_err();
        assert_eq!((error.from, error.to), (JobState::Queued, JobState::Running));
        assert_eq!(job.steps.len(), 1);
    }

    #[test]
    fn an_attempt_ends_once() {
        let mut job = job();
        walk(&mut job, &TO_WIPING);
        walk(&mut job, &[(JobState::Failed, Reason::Trap)]);
        assert!(job.enter(JobState::Done, Reason::Completed, Timestamp::from_ms(9)).is_err());
    }

    #[test]
    fn only_what_the_node_lost_may_be_tried_again() {
        for (reason, again) in [(Reason::Resubmit, true), (Reason::EngineLost, true), (Reason::Trap, false)] {
            let mut job = job();
            walk(&mut job, &TO_WIPING);
            walk(&mut job, &[(JobState::Failed, reason)]);
            assert_eq!(job.may_resubmit(), again, "{reason}");
            let next = job.resubmit(OfferId::from_bytes([4; 16]), Digest::of(b"y"), Timestamp::from_ms(9));
            assert_eq!(next.is_ok(), again);
            assert_eq!(job.attempt(), Attempt(if again { 2 } else { 1 }));
        }
    }
}
