//! Names of an attempt's sealed files.

use decores_types::{Attempt, JobId};

/// The sealed files of one attempt.
pub(crate) struct Names {
    pub(crate) payload: String,
    pub(crate) output: String,
    pub(crate) logs: String,
}

/// The names of an attempt's files.
pub(crate) fn names(job: JobId, attempt: Attempt) -> Names {
    let name = |what: &str| format!("{job}-{attempt}.{what}");
    Names { payload: name("payload"), output: name("output"), logs: name("logs") }
}
