//! What the handlers ask of the node. The daemon implements it; the console will use it too.

use crate::body::PayloadStream;
use decores_access::{Permit, Principal, action};
use decores_api::admin::{Alert, ApiKey, ApiKeyCreated, ApiKeyRequest, Key, Mended};
use decores_api::jobs::{Job, Submission};
use decores_api::log::LogEntries;
use decores_api::node::{NodeResponse, Status};
use decores_api::offers::{OfferRequest, OfferResponse, PlanRequest, PlanResponse};
use decores_api::{Page, Problem};
use decores_types::{AlertId, ApiKeyId, JobId};
use std::future::Future;
use std::time::Duration;

/// What a submission led to.
#[derive(Debug)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// Whether this request made it (201), or it was there (200).
    pub created: bool,
}

/// A sealed file and its length.
#[derive(Debug)]
pub struct SealedFile {
    /// The file, at its start.
    pub file: std::fs::File,
    /// Bytes.
    pub length: u64,
}

/// Raw bytes of the log, and whether they can ever change.
#[derive(Debug)]
pub struct LogBytes {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// A full tile never changes.
    pub immutable: bool,
}

/// An answer to come.
pub trait Answer<T>: Future<Output = Result<T, Problem>> + Send {}
impl<T, F: Future<Output = Result<T, Problem>> + Send> Answer<T> for F {}

/// Every operation of the node. Those that act take the permit for exactly that.
pub trait Service: Send + Sync + 'static {
    /// The one door: who presents this bearer token? `Err` is already counted or logged.
    fn authenticate(&self, token: Option<&str>) -> impl Answer<Principal>;

    /// Notes a refusal after sign-in.
    fn refused(&self, who: &Principal, refusal: decores_access::Refusal) -> impl Future<Output = ()> + Send;

    /// Counts a request that was refused since its consumer has too many already.
    fn crowded(&self);

    /// The signed node statement.
    fn node(&self) -> impl Answer<NodeResponse>;

    /// What the node is doing.
    fn status(&self, permit: Permit<action::ReadStatus>) -> impl Answer<Status>;

    /// Metrics in Prometheus' text format.
    fn metrics(&self, permit: Permit<action::ReadMetrics>) -> impl Answer<String>;

    /// Whether an offer can be asked for now. Asked before a body is read.
    ///
    /// # Errors
    /// Why not.
    fn admits(&self) -> Result<(), Problem>;

    /// Whether a job can be submitted now with a payload of this length, or was taken before under this key. Asked
    /// before a body is read.
    fn admits_submission(
        &self,
        permit: &Permit<action::SubmitJob>,
        idempotency_key: &str,
        payload: u64,
    ) -> impl Answer<()>;

    /// Makes an offer.
    fn offer(&self, permit: Permit<action::AskOffer>, request: OfferRequest) -> impl Answer<OfferResponse>;

    /// Plans without running.
    fn plan(&self, permit: Permit<action::AskOffer>, request: PlanRequest) -> impl Answer<PlanResponse>;

    /// Takes a job.
    fn submit(
        &self,
        permit: Permit<action::SubmitJob>,
        idempotency_key: String,
        submission: Submission,
        payload: PayloadStream,
    ) -> impl Answer<Submitted>;

    /// Lists the caller's jobs.
    fn jobs(&self, permit: Permit<action::ReadJob>, cursor: Option<String>, limit: usize) -> impl Answer<Page<Job>>;

    /// Shows a job; waits up to `wait` until it has more than `after` steps.
    fn job(&self, who: &Principal, job: JobId, after: Option<usize>, wait: Duration) -> impl Answer<Job>;

    /// Stops a job.
    fn cancel(&self, who: &Principal, job: JobId) -> impl Answer<Job>;

    /// The sealed output.
    fn result(&self, who: &Principal, job: JobId) -> impl Answer<SealedFile>;

    /// Removes the sealed output and logs: the caller has them.
    fn delete_result(&self, who: &Principal, job: JobId) -> impl Answer<()>;

    /// The sealed logs.
    fn logs(&self, who: &Principal, job: JobId) -> impl Answer<SealedFile>;

    /// The receipt, as canonical bytes.
    fn receipt(&self, who: &Principal, job: JobId) -> impl Answer<Vec<u8>>;

    /// The newest checkpoint.
    fn checkpoint(&self, permit: Permit<action::ReadLogProofs>) -> impl Answer<LogBytes>;

    /// A hash tile.
    fn tile(&self, permit: Permit<action::ReadLogProofs>, path: String) -> impl Answer<LogBytes>;

    /// An entry bundle.
    fn entry_tile(&self, permit: Permit<action::ReadLogEntries>, path: String) -> impl Answer<LogBytes>;

    /// A C2SP tlog-proof.
    fn proof(&self, permit: Permit<action::ReadLogProofs>, index: u64) -> impl Answer<String>;

    /// Entries from an index on; the newest `limit` where there is none.
    fn entries(
        &self,
        permit: Permit<action::ReadLogEntries>,
        from: Option<u64>,
        limit: usize,
    ) -> impl Answer<LogEntries>;

    /// Lists the node's keys.
    fn keys(&self, permit: Permit<action::ReadKeys>) -> impl Answer<Vec<Key>>;

    /// Lists alerts, newest first.
    fn alerts(&self, permit: Permit<action::ReadAlerts>) -> impl Answer<Vec<Alert>>;

    /// Acknowledges an alert.
    fn acknowledge(&self, permit: Permit<action::AcknowledgeAlert>, alert: AlertId) -> impl Answer<Alert>;

    /// Tries unfinished wipes again.
    fn mend(&self, permit: Permit<action::MendWipes>) -> impl Answer<Mended>;

    /// Lists API keys.
    fn api_keys(&self, permit: Permit<action::ReadApiKeys>) -> impl Answer<Vec<ApiKey>>;

    /// Makes an API key.
    fn create_api_key(
        &self,
        permit: Permit<action::CreateApiKey>,
        request: ApiKeyRequest,
    ) -> impl Answer<ApiKeyCreated>;

    /// Revokes an API key.
    fn revoke_api_key(&self, permit: Permit<action::RevokeApiKey>, key: ApiKeyId) -> impl Answer<()>;
}
