//! An attempt's sealed files.

use crate::records::JobRow;
use decores_blobs::{BlobError, BlobName};
use decores_types::{Attempt, JobId};

/// The names of one attempt's files.
pub(crate) struct Names {
    pub(crate) payload: BlobName,
    pub(crate) output: BlobName,
    pub(crate) logs: BlobName,
}

/// The names of an attempt's files.
pub(crate) fn names(job: JobId, attempt: Attempt) -> Result<Names, BlobError> {
    let name = |what: &str| BlobName::parse(&format!("{job}-{attempt}.{what}"));
    Ok(Names { payload: name("payload")?, output: name("output")?, logs: name("logs")? })
}

/// The job that a file belongs to, from its name.
pub(crate) fn job_of(blob: &BlobName) -> Option<JobId> {
    JobId::parse(blob.as_str().split_once('-')?.0).ok()
}

/// Whether an ended job's record keeps this file. Payloads are never kept.
pub(crate) fn is_kept(blob: &BlobName, row: &JobRow) -> bool {
    let Ok(names) = names(row.record.job, row.record.attempt()) else { return false };
    let ended = row.record.state().is_final() && row.results_removed.is_none();
    ended
        && ((*blob == names.output && row.result_until.is_some()) || (*blob == names.logs && row.logs_until.is_some()))
}
