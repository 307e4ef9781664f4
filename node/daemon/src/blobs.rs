//! An attempt's sealed files.

use crate::records::JobRow;
use decores_blobs::{BlobError, BlobName};
use decores_types::{Attempt, JobId};

/// The names of one attempt's files.
pub(crate) struct Names {
    pub(crate) payload: BlobName,
    pub(crate) output: BlobName,
    pub(crate) logs: BlobName,
    pub(crate) module: BlobName,
}

/// The names of an attempt's files.
pub(crate) fn names(job: JobId, attempt: Attempt) -> Result<Names, BlobError> {
    let name = |what: &str| BlobName::parse(&format!("{job}-{attempt}.{what}"));
    Ok(Names { payload: name("payload")?, output: name("output")?, logs: name("logs")?, module: name("module")? })
}

/// The attempt that a file belongs to, from its name.
pub(crate) fn attempt_of(blob: &BlobName) -> Option<(JobId, Attempt)> {
    let (stem, _) = blob.as_str().split_once('.')?;
    let (job, attempt) = stem.split_once('-')?;
    Some((JobId::parse(job).ok()?, Attempt(attempt.parse().ok()?)))
}

/// Whether an ended job's record keeps this file. Payloads are never kept.
pub(crate) fn is_kept(blob: &BlobName, row: &JobRow) -> bool {
    let Ok(names) = names(row.record.job, row.record.attempt()) else { return false };
    row.record.state().is_final()
        && ((*blob == names.output && row.result_kept().is_some())
            || (*blob == names.logs && row.logs_kept().is_some()))
}
