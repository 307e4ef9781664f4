//! What is kept of ended jobs, and its end: each thing has its time, and goes when that is over.
//!
//! Files go first, and are looked for; then the records, in one transaction with the event that tells of it. Where the
//! node ends in between, the next round does the same again.

use crate::blobs::names;
use crate::leftovers;
use crate::modules;
use crate::node::Node;
use crate::receipts::row_id;
use crate::records::{Held, JobRow, RESULT_KEPT, job_state};
use crate::wipe::{SEALED_LOGS, SEALED_OUTPUT};
use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_audit::ports::{Change, Select, StoreError, Table};
use decores_blobs::BlobError;
use decores_detection::AlertKind;
use decores_types::{Attempt, JobId, JobState, Timestamp, chain};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often results and logs are looked at; more often where they live shorter.
const RESULTS: Duration = Duration::from_secs(60);
/// How often records are looked at of which no result is kept: there may be many.
const RECORDS: Duration = Duration::from_secs(3600);
/// Records read at a time.
const PAGE: usize = 200;
/// Jobs of which something is removed in one round; the rest waits for the next.
const ROUND: usize = 1000;

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Expired,
    ByConsumer,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::ByConsumer => "by-consumer",
        }
    }
}

/// What of a job is to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removal {
    output: bool,
    logs: bool,
    /// The record, with receipts and idempotency key.
    record: bool,
}

impl Removal {
    /// What the consumer need not fetch any more.
    pub(crate) fn results(row: &JobRow) -> Self {
        Self { output: row.result_kept().is_some(), logs: row.logs_kept().is_some(), record: false }
    }

    /// What has no time left.
    fn due(row: &JobRow, now: Timestamp) -> Self {
        let over = |until: Option<Timestamp>| until.is_some_and(|until| now >= until);
        if over(row.receipt_until) {
            return Self { record: true, ..Self::results(row) };
        }
        Self { output: over(row.result_kept()), logs: over(row.logs_kept()), record: false }
    }

    /// Whether there is nothing to remove.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The files among it.
    fn files(self) -> Vec<&'static str> {
        let all = [(SEALED_LOGS, self.logs), (SEALED_OUTPUT, self.output)];
        all.into_iter().filter(|(_, removed)| *removed).map(|(name, _)| name).collect()
    }

    /// Its names in the log, sorted.
    fn names(self, row: &JobRow) -> Vec<&'static str> {
        let all = [
            ("receipt", self.record && row.receipt_attempt.is_some()),
            ("record", self.record),
            (SEALED_LOGS, self.logs),
            (SEALED_OUTPUT, self.output),
        ];
        all.into_iter().filter(|(_, removed)| *removed).map(|(name, _)| name).collect()
    }
}

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    /// A file could not be deleted.
    #[error("failed to delete what is called `{what}`")]
    File {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// That it is gone could not be written: the next try does.
    #[error("failed to write that it was removed")]
    Store(#[from] StoreError),
}

/// Removes what has no time left, until the node stops.
pub(crate) async fn expire(node: Arc<Node>, mut stopping: watch::Receiver<bool>) {
    let config = &node.config;
    let shortest = |life_ms: u64, most: Duration| Duration::from_millis(life_ms).min(most);
    let mut results = interval(shortest(config.keep_result_ms.min(config.keep_logs_ms), RESULTS));
    let mut records = interval(shortest(config.keep_receipt_ms, RECORDS));
    results.set_missed_tick_behavior(MissedTickBehavior::Delay);
    records.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = [JobState::Done, JobState::Failed, JobState::Refused, JobState::Cancelled].map(|state| state as i64);
    loop {
        let states = tokio::select! {
            _ = results.tick() => ended.map(|state| state + RESULT_KEPT),
            _ = records.tick() => ended,
            _ = stopping.changed() => return,
        };
        // A clock that is wrong for a while destroys nothing.
        if node.health.holds_expiry() {
            continue;
        }
        modules::expire(&node).await;
        if let Err(error) = round(&node, &states).await {
            tracing::error!(error = chain(&error), "failed to look for what has no time left");
        }
    }
}

/// Looks at every job in these states, newest first.
async fn round(node: &Node, states: &[i64]) -> Result<(), StoreError> {
    let (mut before, mut left) = (None, ROUND);
    loop {
        let select = Select { states: states.to_vec(), before, limit: PAGE, ..Select::default() };
        let jobs: Vec<Held<JobRow>> = node.records.list(select).await?;
        let Some(last) = jobs.last() else { return Ok(()) };
        before = Some(last.sequence);
        for held in jobs {
            let due = Removal::due(&held.row, node.clock.now());
            if due.is_empty() {
                continue;
            }
            let Some(fewer) = left.checked_sub(1) else { return Ok(()) };
            left = fewer;
            // One that fails keeps no other: on a full disk each of them makes room.
            if let Err(error) = remove(node, &held, due, Why::Expired).await {
                failed(node, &held, &error).await;
            }
        }
    }
}

/// What cannot be deleted is remembered and told once; every round tries again.
async fn failed(node: &Node, held: &Held<JobRow>, error: &RemoveError) {
    let (job, attempt) = (held.row.record.job, held.row.record.attempt());
    tracing::error!(%job, error = chain(error), "something whose time is over could not be removed");
    let RemoveError::File { what, .. } = error else { return };
    if let Err(error) = remember(node, (job, attempt), what, chain(error)).await {
        tracing::error!(%job, error = chain(&error), "failed to remember a leftover; the next round tries again");
    }
}

/// Written once, the record and its alert as one: a store that fails must not keep the other jobs from their end.
async fn remember(node: &Node, attempt: (JobId, Attempt), what: &'static str, cause: String) -> Result<(), StoreError> {
    let Some(change) = leftovers::remembered(node, attempt, what, cause).await? else { return Ok(()) };
    let message = format!("the time of {} is over, but what is called `{what}` could not be deleted", attempt.0);
    let (alert, event) = node.compose_alert(AlertKind::WipeIncomplete, message)?;
    node.write(vec![change, alert], event.into_iter().collect()).await
}

/// Deletes files, looks that they are gone, and writes that they are; with the record goes all that is kept of the job.
///
/// # Errors
/// If a file is still there, or it cannot be written. Doing it again does what is left to do.
pub(crate) async fn remove(node: &Node, held: &Held<JobRow>, removal: Removal, why: Why) -> Result<(), RemoveError> {
    delete_files(node, held, removal).await?;
    let row = &held.row;
    let (job, attempt) = (row.record.job, row.record.attempt());
    let code = |name: &str| {
        Code::parse(name).map_err(|e| StoreError::Failed { during: "naming what was removed", source: e.into() })
    };
    let what = removal.names(row).into_iter().map(code).collect::<Result<_, _>>()?;
    let event = Event::JobRemoved { job, attempt, reason: code(why.as_str())?, what };
    let now = node.clock.now();
    let mut left = held.clone();
    left.row.result_removed = left.row.result_removed.or(removal.output.then_some(now));
    left.row.logs_removed = left.row.logs_removed.or(removal.logs.then_some(now));
    // Before a deletion, too: an attempt that began meanwhile keeps its record.
    let mut changes = vec![node.records.update(&left, job_state(&left.row))?];
    if removal.record {
        changes.extend((1..=attempt.0).map(|n| delete(Table::Receipts, &row_id(job, Attempt(n)))));
        changes.push(delete(Table::Submissions, &row.submission.0));
        changes.push(delete(Table::Jobs, &held.id));
    }
    let (forgotten, slot) = leftovers::forgotten(node, (job, attempt), &removal.files()).await?;
    changes.extend(forgotten);
    node.write(changes, vec![event]).await?;
    if let Some(slot) = slot {
        leftovers::free(node, slot).await?;
    }
    Ok(())
}

fn delete(table: Table, id: &[u8]) -> Change {
    Change::Delete { table, id: id.to_vec() }
}

async fn delete_files(node: &Node, held: &Held<JobRow>, removal: Removal) -> Result<(), RemoveError> {
    let (job, attempt) = (held.row.record.job, held.row.record.attempt());
    let blobs = node.blobs.clone();
    let deleting = tokio::task::spawn_blocking(move || -> Result<(), (&'static str, BlobError)> {
        let names = names(job, attempt).map_err(|error| (SEALED_OUTPUT, error))?;
        for (what, name, wanted) in
            [(SEALED_OUTPUT, names.output, removal.output), (SEALED_LOGS, names.logs, removal.logs)]
        {
            if wanted {
                blobs.delete(&name).map_err(|error| (what, error))?;
            }
        }
        Ok(())
    });
    match deleting.await {
        Ok(deleted) => deleted.map_err(|(what, error)| RemoveError::File { what, source: error.into() }),
        Err(error) => Err(RemoveError::File { what: SEALED_OUTPUT, source: error.into() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_keys::XWingKey;
    use decores_sandbox::JobRecord;
    use decores_sandbox::record::Step;
    use decores_system::SystemRandom;
    use decores_types::job::EngineKind;
    use decores_types::{Base64, CommitmentKey, ConsumerId, Digest, JobSpec, Limits, OfferId, Protection, Reason};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(1_767_225_600_000 + seconds * 1000)
    }

    /// An ended job with an output until 10, logs until 20 and a receipt until 30.
    fn row() -> JobRow {
        let digest = Digest::of(b"x");
        let commitment = CommitmentKey::random(&SystemRandom);
        let step = Step { attempt: Attempt(1), state: JobState::Done, reason: Reason::Completed, time: at(0) };
        JobRow {
            record: JobRecord {
                job: JobId::from_bytes([1; 16]),
                consumer: ConsumerId::from_bytes([2; 16]),
                offer: OfferId::from_bytes([3; 16]),
                offer_digest: digest,
                spec: digest,
                steps: vec![step],
            },
            spec: JobSpec {
                version: 1,
                engine: EngineKind::Wasm,
                protection: Protection::Process,
                limits: Limits::default(),
                program: commitment.commit("program", &digest),
                input: commitment.commit("input", &digest),
                key_check: commitment.check(),
                output_key: XWingKey::generate(1, &SystemRandom).unwrap().recipient().to_output_key(),
                cache_seconds: 0,
                cache_id: None,
            },
            log_key: Base64(vec![0; 32]),
            result_until: Some(at(10)),
            logs_until: Some(at(20)),
            module_until: None,
            result_removed: None,
            logs_removed: None,
            receipt_until: Some(at(30)),
            submission: Base64(vec![0; 32]),
            engine: None,
            receipt_attempt: Some(1),
        }
    }

    fn names(row: &JobRow, seconds: i64) -> Vec<&'static str> {
        Removal::due(row, at(seconds)).names(row)
    }

    #[test]
    fn each_thing_goes_at_its_own_time() {
        let row = row();
        assert!(Removal::due(&row, at(9)).is_empty());
        assert_eq!(names(&row, 10), ["sealed-output"]);
        assert_eq!(names(&row, 20), ["sealed-logs", "sealed-output"]);
        assert_eq!(names(&row, 30), ["receipt", "record", "sealed-logs", "sealed-output"]);
    }

    #[test]
    fn what_was_removed_or_never_was_is_not_removed_again() {
        let row = JobRow { result_removed: Some(at(1)), ..row() };
        assert_eq!(names(&row, 20), ["sealed-logs"]);
        let row = JobRow { logs_until: None, ..row };
        assert!(Removal::due(&row, at(29)).is_empty());
        assert_eq!(names(&row, 30), ["receipt", "record"]);
        assert!(Removal::results(&row).is_empty());
    }

    #[test]
    fn without_a_stated_time_nothing_goes() {
        let row = JobRow { result_until: None, logs_until: None, receipt_until: None, ..row() };
        assert!(Removal::due(&row, at(1_000_000)).is_empty());
    }

    #[test]
    fn a_row_of_an_older_program_reads_without_its_plan() {
        let mut old = serde_json::to_value(row()).unwrap();
        let members = old.as_object_mut().unwrap();
        for newer in ["resultRemoved", "logsRemoved", "receiptUntil", "submission"] {
            members.remove(newer).unwrap();
        }
        members.insert("engine".to_owned(), serde_json::json!({ "plan": { "scratchNoswap": true } }));
        members.insert("resultsRemoved".to_owned(), serde_json::to_value(at(1)).unwrap());
        let read: JobRow = serde_json::from_value(old).unwrap();
        assert_eq!(read.result_removed, Some(at(1)));
        assert!(read.engine.is_none() && read.receipt_until.is_none());
    }
}
