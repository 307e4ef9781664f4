//! Following a job to its end.

use crate::client::Client;
use crate::connection::{SILENCE, path, pause};
use crate::{ClientError, Progress};
use decores_api::jobs::Job;
use decores_api::{headers, paths};
use decores_types::{JobId, Limits};
use std::time::Duration;

/// Lost connections in a row before we give up; with growing pauses, about a minute.
pub(crate) const MAX_LOSSES: u32 = 8;

/// The pause after the `n`-th loss in a row: half a second, doubling up to fifteen.
pub(crate) fn backoff(n: u32) -> Duration {
    Duration::from_millis(500_u64.saturating_mul(1 << n.min(8)).min(15_000))
}

/// Shortest time between two answers without news.
const PACE: Duration = Duration::from_millis(500);

/// How long a job may take beside compiling and running: waiting for its turn, starting, sealing, wiping.
const SLACK: Duration = Duration::from_secs(2 * 3600);

/// After this long, a job that has not ended never will.
fn deadline(limits: &Limits) -> Duration {
    SLACK.saturating_add(Duration::from_millis(limits.wall_ms.saturating_add(limits.compile_ms)))
}

impl Client {
    /// Waits until the current attempt has ended, and tells of every step after the first `seen`.
    ///
    /// Steps that were told are added to `seen`. A lost connection is taken up again. A job that is not over an hour
    /// after all its time is given up.
    pub async fn wait(&self, job: JobId, seen: &mut usize, note: &dyn Fn(Progress<'_>)) -> Result<Job, ClientError> {
        let path = path(paths::JOB, "{job}", &job);
        let limit = SILENCE + Duration::from_secs(headers::MAX_WAIT_SECONDS);
        let patience = deadline(&self.record(job)?.spec.limits);
        let now = || Duration::from_millis(self.clock.monotonic_ms());
        let start = now();
        let mut losses = 0;
        loop {
            let asked = now();
            if asked.saturating_sub(start) > patience {
                return Err(ClientError::Overdue { job, seconds: patience.as_secs() });
            }
            let query = [("after", seen.to_string()), ("wait", headers::MAX_WAIT_SECONDS.to_string())];
            match self.connection.get_within::<Job>("job", &path, &query, limit).await {
                Ok(state) => {
                    losses = 0;
                    for step in state.steps.iter().skip(*seen) {
                        note(Progress::Step(step));
                    }
                    let news = state.steps.len() > *seen;
                    *seen = state.steps.len().max(*seen);
                    if state.state.is_final() {
                        return Ok(state);
                    }
                    // The node was asked to wait for news; one that does not must not make us spin.
                    if !news && now().saturating_sub(asked) < PACE {
                        pause(PACE).await;
                    }
                }
                Err(error) if losses < MAX_LOSSES && (error.is_connection_loss() || error.busy().is_some()) => {
                    let wait = error.busy().unwrap_or_else(|| backoff(losses));
                    note(Progress::Again { why: &error, wait });
                    pause(wait).await;
                    losses += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_follows_the_limits_and_cannot_overflow() {
        let limits = Limits { wall_ms: 60_000, compile_ms: 30_000, ..Limits::default() };
        assert_eq!(deadline(&limits), Duration::from_secs(7_290));
        assert!(deadline(&Limits { wall_ms: u64::MAX, ..limits }) > Duration::from_secs(1 << 40));
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(backoff(0), Duration::from_millis(500));
        assert_eq!(backoff(1), Duration::from_secs(1));
        assert_eq!(backoff(5), Duration::from_secs(15));
        assert_eq!(backoff(u32::MAX), Duration::from_secs(15));
    }
}
