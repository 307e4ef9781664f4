//! Receipts: fetched, verified, completed with what only we know.

use crate::client::Client;
use crate::connection::{path, pause};
use crate::{ClientError, JobRecord};
use decores_api::paths;
use decores_audit::receipt::{MAX_RECEIPT, Opening, Receipt};
use decores_audit::verify::{Report, Require, verify};
use decores_audit::{Trust, receipt::ReceiptError};
use decores_types::JobId;
use std::time::Duration;

/// How often, and how many times, we ask for a receipt that is not in the log yet.
const ASK_EVERY: Duration = Duration::from_millis(250);
const ASK_TIMES: u32 = 240;

/// A receipt with our opening in it, and what verification found.
#[derive(Clone, Debug)]
pub struct JobReceipt {
    /// The file's bytes, canonical.
    pub bytes: Vec<u8>,
    /// What was found of each claim.
    pub report: Report,
}

impl Client {
    /// The trust file of this home.
    pub fn trust(&self) -> Result<Trust, ClientError> {
        let path = self.home.trust_path();
        let bytes = self.home.trust()?.ok_or_else(|| ClientError::NoLogin(path.clone()))?;
        Trust::parse(&bytes).map_err(|source| ClientError::Damaged { path, source: Box::new(source) })
    }

    /// Fetches a job's receipt, waiting until its entry stands in the log, verifies it with `trust`
    /// and adds what opens its commitments.
    pub async fn receipt(&self, job: JobId, trust: &Trust, require: &[Require]) -> Result<JobReceipt, ClientError> {
        self.wait_for_receipt(job).await?;
        let bytes = self.connection.get_bytes(&path(paths::JOB_RECEIPT, "{job}", &job), MAX_RECEIPT as u64).await?;
        let mut receipt = Receipt::parse(&bytes).map_err(refused)?;
        let predicate = receipt.predicate();
        let ours = (predicate.node.identity, predicate.job, predicate.consumer);
        if ours != (self.login.identity, job, self.login.consumer) {
            return Err(ClientError::Mismatch("the receipt: it is of another node, job or consumer".to_owned()));
        }
        if let Some(record) = self.home.job(job)? {
            if predicate.spec != record.spec {
                return Err(ClientError::Mismatch("the receipt: it is of another spec than we sent".to_owned()));
            }
            receipt.file.opening = Some(opening(&record)?);
        }
        let bytes = receipt.file.to_bytes().map_err(refused)?;
        let report = verify(&bytes, trust, None, require)
            .map_err(|e| ClientError::Refused { what: "the receipt".to_owned(), source: Box::new(e) })?;
        Ok(JobReceipt { bytes, report })
    }

    async fn wait_for_receipt(&self, job: JobId) -> Result<(), ClientError> {
        for _ in 0..ASK_TIMES {
            let state = self.job(job).await?;
            if state.receipt {
                return Ok(());
            }
            if !state.state.is_final() {
                let text = format!("{job} has not ended: it is {} ({})", state.state, state.explanation);
                return Err(ClientError::Input(text));
            }
            pause(ASK_EVERY).await;
        }
        Err(self.connection.timeout(ASK_EVERY * ASK_TIMES))
    }
}

/// An output that was never opened here is left out: its commitment stays closed.
fn opening(record: &JobRecord) -> Result<Opening, ClientError> {
    Ok(Opening::new(&record.commitment_key()?, record.program.0, record.input.0, record.output.clone()))
}

fn refused(source: ReceiptError) -> ClientError {
    ClientError::Refused { what: "the receipt".to_owned(), source: Box::new(source) }
}
