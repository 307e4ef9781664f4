//! Records as types: sealed on the way to the store, opened on the way back.

use decores_access::ApiKeyRecord;
use decores_audit::ports::{Change, Record, Select, Store, StoreError, Table};
use decores_detection::Alert;
use decores_keys::RowKeys;
use decores_sandbox::protocol::{Given, Locked};
use decores_sandbox::{IsolationPlan, JobRecord};
use decores_secrets::Zeroizing;
use decores_types::{Base64, ConsumerId, Digest, JobId, JobSpec, Random, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;

/// A kind of record and its table.
pub(crate) trait Row: Serialize + DeserializeOwned {
    /// Where it is kept.
    const TABLE: Table;
}

/// A job, as the store keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobRow {
    pub(crate) record: JobRecord,
    pub(crate) spec: JobSpec,
    /// Opens the digests in this job's log entries.
    pub(crate) log_key: Base64,
    /// Until when the sealed output is kept; absent where there is none.
    pub(crate) result_until: Option<Timestamp>,
    /// Until when the sealed logs are kept; absent where there are none.
    pub(crate) logs_until: Option<Timestamp>,
    /// Until when the compiled program is kept that the current attempt made or used; absent where none is.
    #[serde(default)]
    pub(crate) module_until: Option<Timestamp>,
    /// How the current attempt's engine is isolated; absent before one is launched.
    #[serde(default, deserialize_with = "of_this_version")]
    pub(crate) engine: Option<EngineRow>,
    /// When the sealed output was removed.
    #[serde(alias = "resultsRemoved")]
    pub(crate) result_removed: Option<Timestamp>,
    /// When the sealed logs were removed.
    pub(crate) logs_removed: Option<Timestamp>,
    /// Until when the receipt of the attempt that ended last is kept, and this record with it.
    pub(crate) receipt_until: Option<Timestamp>,
    /// Id of the idempotency key's record; older rows do not name it.
    #[serde(default)]
    pub(crate) submission: Base64,
    /// Whether a receipt of an ended attempt is kept, and of which.
    pub(crate) receipt_attempt: Option<u32>,
}

/// An engine that is being started: kept, so that it is looked for and told of even after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EngineRow {
    pub(crate) plan: IsolationPlan,
    /// Its place.
    pub(crate) slot: u32,
    /// What the launcher gave it; absent until it runs.
    pub(crate) given: Option<Given>,
    /// How it is locked in; absent until it says so, and it is told nothing before.
    pub(crate) locked: Option<Locked>,
}

/// A row that an older program wrote holds a plan that nothing can be done with any more: its engine ended with it,
/// and the launcher finds by name what it left.
pub(crate) fn of_this_version<'de, D, T>(row: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let row: Option<serde_json::Value> = Deserialize::deserialize(row)?;
    Ok(row.and_then(|row| serde_json::from_value(row).ok()))
}

/// What an idempotency key stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SubmissionRow {
    pub(crate) job: JobId,
    pub(crate) spec: Digest,
}

/// A receipt, without the proof that is made when it is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiptRow {
    /// The DSSE envelope.
    pub(crate) envelope: decores_keys::Envelope,
    /// The `job.ended` entry.
    pub(crate) entry: Base64,
    /// How far that stands behind the first entry of its batch.
    #[serde(default = "former_offset")]
    pub(crate) offset: u64,
}

/// What it was before it was written down.
const fn former_offset() -> u64 {
    2
}

impl Held<ReceiptRow> {
    /// The index of the `job.ended` entry.
    pub(crate) const fn index(&self) -> u64 {
        self.entry.saturating_add(self.row.offset)
    }
}

/// Bytes the node keeps about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeRow(pub(crate) Base64);

impl Row for JobRow {
    const TABLE: Table = Table::Jobs;
}
impl Row for SubmissionRow {
    const TABLE: Table = Table::Submissions;
}
impl Row for ApiKeyRecord {
    const TABLE: Table = Table::ApiKeys;
}
impl Row for ReceiptRow {
    const TABLE: Table = Table::Receipts;
}
impl Row for Alert {
    const TABLE: Table = Table::Alerts;
}
impl Row for NodeRow {
    const TABLE: Table = Table::Node;
}

/// A record that was read, and what an update of it must name.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    pub(crate) row: T,
    pub(crate) id: Vec<u8>,
    pub(crate) version: u64,
    pub(crate) sequence: u64,
    /// Index of the first log entry of the batch that last wrote it.
    pub(crate) entry: u64,
}

/// Typed access to the store.
pub(crate) struct Records {
    store: Arc<dyn Store>,
    keys: RowKeys,
    random: Arc<dyn Random>,
}

impl Records {
    pub(crate) fn new(store: Arc<dyn Store>, keys: RowKeys, random: Arc<dyn Random>) -> Self {
        Self { store, keys, random }
    }

    pub(crate) async fn get<T: Row>(&self, id: &[u8]) -> Result<Option<Held<T>>, StoreError> {
        let record = self.store.get(T::TABLE, id.to_vec()).await?;
        record.map(|record| self.open(record)).transpose()
    }

    pub(crate) async fn list<T: Row>(&self, select: Select) -> Result<Vec<Held<T>>, StoreError> {
        let records = self.store.list(T::TABLE, select).await?;
        records.into_iter().map(|record| self.open(record)).collect()
    }

    pub(crate) fn insert<T: Row>(
        &self,
        id: &[u8],
        owner: Option<ConsumerId>,
        state: i64,
        row: &T,
    ) -> Result<Change, StoreError> {
        let owner = owner.map(|o| o.as_bytes().to_vec()).unwrap_or_default();
        Ok(Change::Insert { table: T::TABLE, id: id.to_vec(), owner, state, value: self.seal(id, row)? })
    }

    /// Composes the update of a record; once it is written, the record is one version newer.
    pub(crate) fn update<T: Row>(&self, held: &Held<T>, state: i64) -> Result<Change, StoreError> {
        let value = self.seal(&held.id, &held.row)?;
        Ok(Change::Update { table: T::TABLE, id: held.id.clone(), expected: held.version, state, value })
    }

    fn seal<T: Row>(&self, id: &[u8], row: &T) -> Result<Vec<u8>, StoreError> {
        let failed = |source| StoreError::Failed { during: "sealing a row", source };
        let plain = Zeroizing::new(serde_json::to_vec(row).map_err(|e| failed(e.into()))?);
        self.keys.seal(T::TABLE.name(), id, &plain, &*self.random).map_err(|e| failed(e.into()))
    }

    fn open<T: Row>(&self, record: Record) -> Result<Held<T>, StoreError> {
        let failed = |source| StoreError::Failed { during: OPENING_A_ROW, source };
        let plain = self.keys.open(T::TABLE.name(), &record.id, &record.value).map_err(|e| failed(e.into()))?;
        let row = serde_json::from_slice(&plain).map_err(|e| failed(e.into()))?;
        Ok(Held { row, id: record.id, version: record.version, sequence: record.sequence, entry: record.entry })
    }
}

/// What fails where a row does not fit the keystore.
pub(crate) const OPENING_A_ROW: &str = "opening a row";
/// Added to an ended job's state while a sealed result of it is kept.
pub(crate) const RESULT_KEPT: i64 = 100;

impl JobRow {
    /// Until when the sealed output is kept; `None` where there is none, or none any more.
    pub(crate) fn result_kept(&self) -> Option<Timestamp> {
        self.result_until.filter(|_| self.result_removed.is_none())
    }

    /// Until when the sealed logs are kept; `None` where there are none, or none any more.
    pub(crate) fn logs_kept(&self) -> Option<Timestamp> {
        self.logs_until.filter(|_| self.logs_removed.is_none())
    }
}

/// The number that a job's record is selected by.
pub(crate) fn job_state(row: &JobRow) -> i64 {
    let state = row.record.state();
    let kept = row.result_kept().is_some() || row.logs_kept().is_some();
    state as i64 + if state.is_final() && kept { RESULT_KEPT } else { 0 }
}
