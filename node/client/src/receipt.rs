//! Receipts: fetched, verified, completed with what only we know.

use crate::client::Client;
use crate::connection::{path, pause};
use crate::{ClientError, JobRecord, Output};
use decores_api::jobs::Job;
use decores_api::paths;
use decores_audit::Trust;
use decores_audit::receipt::{MAX_RECEIPT, Opening, Predicate, Receipt, ReceiptError};
use decores_audit::verify::{Claim, Report, Require, Status, verify};
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

impl JobReceipt {
    /// Whether the node signed it and its log holds it: then it answers for what stands in it, good or bad.
    pub fn is_authentic(&self) -> bool {
        is_authentic(&self.report)
    }
}

impl Client {
    /// The trust file of this home.
    pub fn trust(&self) -> Result<Trust, ClientError> {
        let path = self.home.trust_path();
        let bytes = self.home.trust()?.ok_or_else(|| ClientError::NoLogin(path.clone()))?;
        Trust::parse(&bytes).map_err(|source| ClientError::Damaged { path, source: Box::new(source) })
    }

    /// Fetches the receipt of a job that has ended, waiting until its entry stands in the log, verifies it with
    /// `trust` and adds what opens its commitments.
    ///
    /// `job` is what the node showed us, unsigned, and `output` what it gave us: refused where the receipt says
    /// something else. An output that fits is remembered, and opens the receipt from then on.
    pub async fn receipt(
        &self,
        job: &Job,
        output: Option<&Output>,
        trust: &Trust,
        require: &[Require],
    ) -> Result<JobReceipt, ClientError> {
        if !job.state.is_final() {
            let text = format!("{} has not ended: it is {} ({})", job.job, job.state, job.explanation);
            return Err(ClientError::Input(text));
        }
        self.wait_for_receipt(job.job).await?;
        let path = path(paths::JOB_RECEIPT, "{job}", &job.job);
        let bytes = self.connection.get_bytes(&path, MAX_RECEIPT as u64).await?;
        let mut receipt = Receipt::parse(&bytes).map_err(refused)?;
        self.check_ours(receipt.predicate(), job)?;
        let mut record = self.home.job(job.job)?;
        if let Some(record) = &mut record {
            if receipt.predicate().spec != record.spec {
                return Err(mismatch("it is of another spec than we sent"));
            }
            if let Some(output) = output {
                if receipt.predicate().output != Some(output.commitment()) {
                    return Err(mismatch("it is of another output than the node gave us"));
                }
                record.output = Some(output.manifest().clone());
            }
            receipt.file.opening = Some(opening(record)?);
        }
        let bytes = receipt.file.to_bytes().map_err(refused)?;
        let report = verify(&bytes, trust, None, require)
            .map_err(|e| ClientError::Refused { what: "the receipt".to_owned(), source: Box::new(e) })?;
        if let (Some(record), Some(_), true) = (&record, output, is_authentic(&report)) {
            self.home.save_job(record)?;
        }
        Ok(JobReceipt { bytes, report })
    }

    /// Refuses a receipt of something else, or one that contradicts what the node showed without signing it.
    fn check_ours(&self, receipt: &Predicate, job: &Job) -> Result<(), ClientError> {
        if (receipt.node.identity, receipt.consumer) != (self.login.identity, self.login.consumer) {
            return Err(mismatch("it is of another node or consumer"));
        }
        if (receipt.job, receipt.attempt) != (job.job, job.attempt) {
            return Err(mismatch(&format!("it is of {}, attempt {}", receipt.job, receipt.attempt)));
        }
        let (told, signed) = ((job.state, job.reason), (receipt.result.state, receipt.result.reason));
        if told != signed {
            let text =
                format!("the node told us `{}` for `{}`, and signed `{}` for `{}`", told.0, told.1, signed.0, signed.1);
            return Err(mismatch(&text));
        }
        Ok(())
    }

    async fn wait_for_receipt(&self, job: JobId) -> Result<(), ClientError> {
        for _ in 0..ASK_TIMES {
            if self.job(job).await?.receipt {
                return Ok(());
            }
            pause(ASK_EVERY).await;
        }
        Err(self.connection.timeout(ASK_EVERY * ASK_TIMES))
    }
}

/// An output that was never opened here is left out: its commitment stays closed.
fn opening(record: &JobRecord) -> Result<Opening, ClientError> {
    let (program, input) = (record.program.0, record.input.0);
    let opening = Opening::new(&record.commitment_key()?, program, input, record.output.clone());
    Ok(Opening { image: record.image.as_ref().map(|image| image.digest), ..opening })
}

fn is_authentic(report: &Report) -> bool {
    [Claim::Issuer, Claim::Log, Claim::Commitment].iter().all(|claim| report.status(*claim) == Status::Holds)
}

fn mismatch(what: &str) -> ClientError {
    ClientError::Mismatch(format!("the receipt: {what}"))
}

fn refused(source: ReceiptError) -> ClientError {
    ClientError::Refused { what: "the receipt".to_owned(), source: Box::new(source) }
}
