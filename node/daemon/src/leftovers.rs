//! What wipes left behind: remembered, kept from being used again, tried again.

use crate::ending::wiped_event;
use crate::node::Node;
use crate::receipts::row_id;
use crate::records::{EngineRow, Held, Row};
use crate::wipe::{OFFER_KEY, Removal, Wiped};
use anyhow::{Context as _, Result};
use decores_api::admin::{Leftover, Mended};
use decores_audit::ports::{Change, Select, StoreError, Table};
use decores_sandbox::{IsolationPlan, WipeCheck, WipeRecord};
use decores_types::{Attempt, JobId, Timestamp, WipeCategory};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tokio::sync::Mutex as AsyncMutex;

/// Most that are shown or tried at once.
const MOST: usize = 1000;

/// What is left of one attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeftoverRow {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    /// Where and as whom its engine ran; absent where none was ever to start.
    pub(crate) engine: Option<(IsolationPlan, u32)>,
    /// What can be tried again, as it was found the last time.
    pub(crate) checks: Vec<WipeCheck>,
    /// Why something is left, as far as is known.
    pub(crate) causes: Vec<String>,
    pub(crate) since: Timestamp,
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
        let engine = engine.map(|engine| (engine.plan.clone(), engine.slot));
        let row = Self { job, attempt, engine, checks, causes: wiped.causes.clone(), since: now };
        if row.is_gone() { None } else { Some(row) }
    }

    /// The place that is kept from being used.
    pub(crate) fn slot(&self) -> Option<u32> {
        self.engine.as_ref().map(|(_, slot)| *slot)
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

    async fn wipe_again(&self, node: &Node) -> Wiped {
        let mut wiped = Wiped::default();
        if let Some((plan, _)) = &self.engine {
            wiped.engine(node, plan, Removal::Now).await;
        }
        for check in self.checks.iter().filter(|check| check.what.starts_with("sealed-")) {
            wiped.file(node, (self.job, self.attempt), &check.what, check.category).await;
        }
        wiped
    }
}

async fn rows(node: &Node) -> Result<Vec<Held<LeftoverRow>>, StoreError> {
    node.records.list(Select { limit: MOST, ..Select::default() }).await
}

/// Everything that is left, newest first.
pub(crate) async fn list(node: &Node) -> Result<Vec<Leftover>, StoreError> {
    Ok(rows(node).await?.iter().map(|held| held.row.wire()).collect())
}

/// Keeps the places of former runs' leftovers from being used.
pub(crate) async fn block_places(node: &Node) -> Result<(), StoreError> {
    for slot in rows(node).await?.iter().filter_map(|held| held.row.slot()) {
        node.slots.block(slot);
    }
    Ok(())
}

/// Remembers a sealed file that could not be deleted and that no attempt's end tells of; whether it was known already.
pub(crate) async fn remember_file(
    node: &Node,
    (job, attempt): (JobId, Attempt),
    what: &str,
    cause: String,
) -> Result<bool> {
    let id = row_id(job, attempt);
    let check = WipeCheck { what: what.to_owned(), category: WipeCategory::Clear, passed: false };
    let change = match node.records.get::<LeftoverRow>(&id).await? {
        Some(held) if held.row.checks.iter().any(|check| check.what == what) => return Ok(true),
        Some(mut held) => {
            held.row.checks.push(check);
            held.row.causes.push(cause);
            node.records.update(&held, 0)?
        }
        None => {
            let (checks, causes, since) = (vec![check], vec![cause], node.clock.now());
            let row = LeftoverRow { job, attempt, engine: None, checks, causes, since };
            node.records.insert(&id, None, 0, &row)?
        }
    };
    node.persist(vec![change], Vec::new()).await?;
    Ok(false)
}

/// Tries everything again: says what is gone now, and what is not; frees the places where nothing is left.
pub(crate) async fn mend(node: &Node) -> Result<Mended> {
    let _one = node.mending.0.lock().await;
    let (mut mended, mut freed, mut kept) = (Mended::default(), BTreeSet::new(), BTreeSet::new());
    for mut held in rows(node).await? {
        let before = held.row.clone();
        let wiped = held.row.wipe_again(node).await;
        (held.row.checks, held.row.causes) = (wiped.checks, wiped.causes);
        write(node, &held, &before).await?;
        if held.row.is_gone() {
            tracing::info!(job = %held.row.job, attempt = %held.row.attempt, "an unfinished wipe is finished");
            freed.extend(before.slot());
            mended.cleared.push(before.wire());
        } else {
            kept.extend(held.row.slot());
            mended.left.push(held.row.wire());
        }
    }
    freed.difference(&kept).for_each(|slot| node.slots.unblock(*slot));
    Ok(mended)
}

/// Writes what a mend found, where that is not what was known: the record and the entry in the log as one.
async fn write(node: &Node, held: &Held<LeftoverRow>, before: &LeftoverRow) -> Result<()> {
    let row = &held.row;
    if row.what() == before.what() {
        return Ok(());
    }
    let event = wiped_event(row.job, row.attempt, &WipeRecord::new(row.checks.clone()));
    let event = event.context("failed to name what was wiped")?;
    let change = match row.is_gone() {
        true => Change::Delete { table: LeftoverRow::TABLE, id: held.id.clone() },
        false => node.records.update(held, 0)?,
    };
    // Tried once: what is not written is still remembered, and its place still blocked.
    Ok(node.write(vec![change], vec![event]).await?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

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
}
