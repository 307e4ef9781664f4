//! `decoresd doctor`.
use crate::args::Common;
use anyhow::Result;
use std::process::ExitCode;
pub(crate) fn doctor(_: &Common) -> Result<ExitCode> { Ok(ExitCode::SUCCESS) }
