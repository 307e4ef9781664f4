//! An attempt's sealed files.

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
