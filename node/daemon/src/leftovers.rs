//! What wipes left behind: remembered, kept from being used again, tried again.

use crate::ending::wiped_event;
use crate::node::Node;
use crate::receipts::row_id;
use crate::records::{EngineRow, Held, JobRow, Row, of_this_version};
use crate::wipe::{OFFER_KEY, When, Wiped};
use anyhow::{Context as _, Result};
use decores_api::admin::{Leftover, Mended};
use decores_audit::ports::{Change, Select, StoreError, Table};
use decores_sandbox::{IsolationPlan, JobRecord, WipeCheck, WipeRecord};
use decores_types::{Attempt, JobId, Timestamp, WipeCategory};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tokio::sync::Mutex as AsyncMutex;

/// Most that are shown.
const MOST: usize = 1000;
/// Rows that are read at once.
const PAGE: usize = 100;

/// What is left of one attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeftoverRow {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    /// Where and as whom its engine ran; absent where none was ever to start.
    pub(crate) engine: Option<Place>,
    /// What can be tried again, as it was found the last time.
    pub(crate) checks: Vec<WipeCheck>,
    /// Why something is left, as far as is known.
    pub(crate) causes: Vec<String>,
    pub(crate) since: Timestamp,
}

/// Where an engine ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// As whom; absent where another version of this program wrote it.
    #[serde(deserialize_with = "of_this_version")]
    plan: Option<IsolationPlan>,
    slot: u32,
}

impl Row for LeftoverRow {
    const TABLE: Table = Table::Leftovers;
}

/// One mend at a time.
#[derive(Debug, Default)]
pub(crate) struct Mending(AsyncMutex<()>);

impl LeftoverRow {
    /// What a wipe left behind, if anything that can be tried again: a key in memory cannot.
    pub(crate) fn of(
        (job, attempt): (JobId, Attempt),
        engine: Option<&EngineRow>,
        wiped: &Wiped,
        now: Timestamp,
    ) -> Option<Self> {
        let checks: Vec<WipeCheck> = wiped.checks.iter().filter(|check| check.what != OFFER_KEY).cloned().collect();
        let engine = engine.map(|engine| Place { plan: Some(engine.plan.clone()), slot: engine.slot });
        let row = Self { job, attempt, engine, checks, causes: wiped.causes.clone(), since: now };
        if row.is_gone() { None } else { Some(row) }
    }

    /// The place that is kept from being used.
    pub(crate) fn slot(&self) -> Option<u32> {
        self.engine.as_ref().map(|place| place.slot)
    }

    fn is_gone(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The names of the checks that did not pass.
    fn what(&self) -> Vec<String> {
        self.checks.iter().filter(|check| !check.passed).map(|check| check.what.clone()).collect()
    }

    fn wire(&self) -> Leftover {
        Leftover {
            job: self.job,
            attempt: self.attempt,
            what: self.what(),
            causes: self.causes.clone(),
            since: self.since,
        }
    }

    /// Whether the check is of a file; any other is of an engine's traces.
    fn is_file(check: &WipeCheck) -> bool {
        check.what.starts_with("sealed-")
    }

    async fn wipe_again(&self, node: &Node) -> Wiped {
        let mut wiped = Wiped::default();
        match self.engine.as_ref().and_then(|place| place.plan.as_ref()) {
            Some(plan) => wiped.engine(node, plan, When::Now).await,
            None => wiped = self.untried(),
        }
        for check in self.checks.iter().filter(|check| Self::is_file(check)) {
            wiped.file(node, (self.job, self.attempt), &check.what, check.category).await;
        }
        wiped
    }

    /// An engine's traces as they were found the last time: without its plan nothing can be done about them.
    fn untried(&self) -> Wiped {
        let checks: Vec<WipeCheck> = self.checks.iter().filter(|check| !Self::is_file(check)).cloned().collect();
        let cause = "only the version of this program that started the engine can remove what is left of it";
        let causes = checks.iter().find(|check| !check.passed).map(|_| cause.to_owned());
        Wiped { checks, causes: causes.into_iter().collect() }
    }
}

/// Everything that is left, newest first.
async fn rows(node: &Node) -> Result<Vec<Held<LeftoverRow>>, StoreError> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page: Vec<Held<LeftoverRow>> =
            node.records.list(Select { before, limit: PAGE, ..Select::default() }).await?;
        let Some(last) = page.last() else { return Ok(all) };
        before = Some(last.sequence);
        all.extend(page);
    }
}

/// What is left, newest first.
pub(crate) async fn list(node: &Node) -> Result<Vec<Leftover>, StoreError> {
    let rows: Vec<Held<LeftoverRow>> = node.records.list(Select { limit: MOST, ..Select::default() }).await?;
    Ok(rows.iter().map(|held| held.row.wire()).collect())
}

/// Keeps the places of former runs' leftovers from being used.
pub(crate) async fn block_places(node: &Node) -> Result<(), StoreError> {
    for slot in rows(node).await?.iter().filter_map(|held| held.row.slot()) {
        node.slots.block(slot);
    }
    Ok(())
}

/// Remembers a sealed file that could not be deleted and that no attempt's end tells of; whether it was known already.
pub(crate) async fn remember_file(node: &Node, attempt: (JobId, Attempt), what: &str, cause: String) -> Result<bool> {
    let Some(change) = remembered(node, attempt, what, cause).await? else { return Ok(true) };
    node.persist(vec![change], Vec::new()).await?;
    Ok(false)
}

/// Composes what remembers such a file; `None` where it is known already.
pub(crate) async fn remembered(
    node: &Node,
    (job, attempt): (JobId, Attempt),
    what: &str,
    cause: String,
) -> Result<Option<Change>, StoreError> {
    let id = row_id(job, attempt);
    let check = WipeCheck { what: what.to_owned(), category: WipeCategory::Clear, passed: false };
    let known = |check: &WipeCheck| check.what == what && !check.passed;
    Ok(match node.records.get::<LeftoverRow>(&id).await? {
        Some(held) if held.row.checks.iter().any(known) => None,
        Some(mut held) => {
            held.row.checks.retain(|check| check.what != what);
            held.row.checks.push(check);
            held.row.causes.push(cause);
            Some(node.records.update(&held, 0)?)
        }
        None => {
            let (checks, causes, since) = (vec![check], vec![cause], node.clock.now());
            let row = LeftoverRow { job, attempt, engine: None, checks, causes, since };
            Some(node.records.insert(&id, None, 0, &row)?)
        }
    })
}

/// Composes what forgets files that are gone by now, and the place that is free with them; nothing where none of them
/// was remembered.
pub(crate) async fn forgotten(
    node: &Node,
    (job, attempt): (JobId, Attempt),
    what: &[&str],
) -> Result<(Option<Change>, Option<u32>), StoreError> {
    let Some(mut held) = node.records.get::<LeftoverRow>(&row_id(job, attempt)).await? else { return Ok((None, None)) };
    let before = held.row.checks.len();
    held.row.checks.retain(|check| !what.contains(&check.what.as_str()));
    if held.row.is_gone() {
        let gone = Change::Delete { table: LeftoverRow::TABLE, id: held.id };
        return Ok((Some(gone), held.row.slot()));
    }
    let change = (held.row.checks.len() < before).then(|| node.records.update(&held, 0)).transpose()?;
    Ok((change, None))
}

/// Frees a place that a forgotten row named, unless another one still does.
pub(crate) async fn free(node: &Node, slot: u32) -> Result<(), StoreError> {
    if rows(node).await?.iter().all(|held| held.row.slot() != Some(slot)) {
        node.slots.unblock(slot);
    }
    Ok(())
}

/// Tries everything again: says what is gone now, and what is not; frees the places where nothing is left.
///
/// # Errors
/// If something could not be tried, or what was found not be written; all the rest is done by then.
pub(crate) async fn mend(node: &Node) -> Result<Mended> {
    let _one = node.mending.0.lock().await;
    let mut round = Round::default();
    for mut held in rows(node).await? {
        let before = held.row.clone();
        let tried = try_again(node, &mut held).await;
        round.add(&before, tried.map(|()| &held.row));
    }
    round.freed().for_each(|slot| node.slots.unblock(slot));
    round.failed.map_or(Ok(round.mended), Err)
}

/// What came of trying everything again.
#[derive(Debug, Default)]
struct Round {
    mended: Mended,
    /// Places in which something was.
    emptied: BTreeSet<u32>,
    /// Places in which something still is, for all that is known.
    kept: BTreeSet<u32>,
    /// The first failure.
    failed: Option<anyhow::Error>,
}

impl Round {
    fn add(&mut self, before: &LeftoverRow, found: Result<&LeftoverRow>) {
        match found {
            Ok(row) if row.is_gone() => {
                tracing::info!(job = %row.job, attempt = %row.attempt, "an unfinished wipe is finished");
                self.emptied.extend(before.slot());
                self.mended.cleared.push(before.wire());
            }
            Ok(row) => {
                self.kept.extend(row.slot());
                self.mended.left.push(row.wire());
            }
            Err(error) => {
                let (job, attempt) = (before.job, before.attempt);
                tracing::error!(%job, %attempt, error = format!("{error:#}"), "failed to try an unfinished wipe again");
                self.kept.extend(before.slot());
                self.failed.get_or_insert(error);
            }
        }
    }

    /// Places in which nothing is any more.
    fn freed(&self) -> impl Iterator<Item = u32> {
        self.emptied.difference(&self.kept).copied()
    }
}

/// Tries one row again. An attempt that has begun since has files of the same names: they are its own, and its end
/// forgets this row.
async fn try_again(node: &Node, held: &mut Held<LeftoverRow>) -> Result<()> {
    let job: Option<Held<JobRow>> = node.records.get(held.row.job.as_bytes()).await?;
    if job.is_some_and(|job| is_open(&job.row.record, held.row.attempt)) {
        return Ok(());
    }
    let before = held.row.clone();
    let wiped = held.row.wipe_again(node).await;
    (held.row.checks, held.row.causes) = (wiped.checks, wiped.causes);
    write(node, held, &before).await
}

fn is_open(record: &JobRecord, attempt: Attempt) -> bool {
    record.attempt() == attempt && !record.state().is_final()
}

/// Writes what a mend found, where that is not what was known: the record and the entry in the log as one. A cause
/// alone is not for the log.
async fn write(node: &Node, held: &Held<LeftoverRow>, before: &LeftoverRow) -> Result<()> {
    let row = &held.row;
    if row.what() == before.what() && row.causes == before.causes {
        return Ok(());
    }
    let mut events = Vec::new();
    if row.what() != before.what() {
        let event = wiped_event(row.job, row.attempt, &WipeRecord::new(row.checks.clone()));
        events.push(event.context("failed to name what was wiped")?);
    }
    let change = match row.is_gone() {
        true => Change::Delete { table: LeftoverRow::TABLE, id: held.id.clone() },
        false => node.records.update(held, 0)?,
    };
    // Tried once: what is not written is still remembered, and its place still blocked.
    Ok(node.write(vec![change], events).await?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_sandbox::record::Step;
    use decores_types::{ConsumerId, Digest, JobState, OfferId, Reason};

    fn wiped(checks: &[(&str, bool)]) -> Wiped {
        let check = |(what, passed): &(&str, bool)| WipeCheck {
            what: (*what).to_owned(),
            category: WipeCategory::Clear,
            passed: *passed,
        };
        Wiped { checks: checks.iter().map(check).collect(), causes: Vec::new() }
    }

    fn of(checks: &[(&str, bool)]) -> Option<LeftoverRow> {
        LeftoverRow::of((JobId::from_bytes([1; 16]), Attempt(1)), None, &wiped(checks), Timestamp::from_ms(0))
    }

    #[test]
    fn only_what_did_not_pass_is_left() {
        assert!(of(&[("mounts", true), ("sealed-input", true)]).is_none());
        let row = of(&[("mounts", false), ("sealed-input", true), (OFFER_KEY, true)]).unwrap();
        assert_eq!(row.what(), ["mounts"]);
        assert_eq!(row.checks.len(), 2);
    }

    #[test]
    fn a_key_that_did_not_read_back_as_zero_cannot_be_tried_again() {
        assert!(of(&[(OFFER_KEY, false), ("sealed-input", true)]).is_none());
    }

    fn in_place(slot: u32, checks: &[(&str, bool)]) -> LeftoverRow {
        let base = of(&[("mounts", false)]).unwrap();
        LeftoverRow { engine: Some(Place { plan: None, slot }), checks: wiped(checks).checks, ..base }
    }

    #[test]
    fn a_row_that_fails_keeps_its_own_place_and_no_other() {
        let (left, gone) = ([("mounts", false)], [("mounts", true)]);
        let mut round = Round::default();
        round.add(&in_place(0, &left), Ok(&in_place(0, &gone)));
        round.add(&in_place(1, &left), Err(anyhow::anyhow!("the first")));
        round.add(&in_place(2, &left), Ok(&in_place(2, &gone)));
        round.add(&in_place(3, &left), Ok(&in_place(3, &left)));
        round.add(&in_place(2, &left), Err(anyhow::anyhow!("the second")));
        assert_eq!(round.freed().collect::<Vec<_>>(), [0], "something else may be left in 2");
        assert_eq!((round.mended.cleared.len(), round.mended.left.len()), (2, 1));
        assert_eq!(round.failed.unwrap().to_string(), "the first");
    }

    #[test]
    fn a_plan_of_another_version_keeps_its_place_and_is_not_called_gone() {
        let row = serde_json::to_value(in_place(3, &[("mounts", false), ("cgroup", true)])).unwrap();
        let unknown = serde_json::json!({ "scratchNoswap": true });
        for engine in [serde_json::json!({ "plan": unknown, "slot": 3 }), serde_json::json!([unknown, 3])] {
            let mut row = row.clone();
            row.as_object_mut().unwrap().insert("engine".to_owned(), engine);
            let row: LeftoverRow = serde_json::from_value(row).unwrap();
            assert_eq!(row.slot(), Some(3));
            let untried = row.untried();
            assert_eq!((untried.checks.len(), untried.causes.len()), (2, 1));
            assert!(!LeftoverRow { checks: untried.checks, ..row }.is_gone());
        }
    }

    #[test]
    fn files_of_an_attempt_that_has_begun_since_are_its_own() {
        let step = |attempt, state, reason| Step { attempt, state, reason, time: Timestamp::from_ms(0) };
        let digest = Digest::of(b"x");
        let mut record = JobRecord {
            job: JobId::from_bytes([1; 16]),
            consumer: ConsumerId::from_bytes([2; 16]),
            offer: OfferId::from_bytes([3; 16]),
            offer_digest: digest,
            spec: digest,
            steps: vec![step(Attempt(1), JobState::Failed, Reason::EngineLost)],
        };
        assert!(!is_open(&record, Attempt(1)) && !is_open(&record, Attempt(2)));
        record.steps.push(step(Attempt(2), JobState::Queued, Reason::Accepted));
        assert!(!is_open(&record, Attempt(1)) && is_open(&record, Attempt(2)));
    }
}
