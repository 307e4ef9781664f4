//! Two kinds of failure: the job's, which is reported, and ours, which ends the engine.

use decores_jail::JailError;
use decores_secrets::SecretError;
use decores_types::Reason;
use std::io;

/// Why an attempt stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// By the program's or the payload's fault: told to the node by its reason alone.
    #[error("{reason}")]
    Job {
        /// What the node is told.
        reason: Reason,
        /// The last line of the sealed logs; may quote the guest.
        note: String,
    },
    /// By ours.
    #[error("the engine failed")]
    Engine(#[from] EngineError),
}

impl Stop {
    /// By the job's fault.
    pub fn job(reason: Reason, note: impl Into<String>) -> Self {
        Self::Job { reason, note: note.into() }
    }
}

/// Something that no job should be able to cause.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The lock did not close.
    #[error("failed to lock the engine in")]
    Jail(#[from] JailError),
    /// There is no locked memory.
    #[error("failed to hold secrets")]
    Secret(#[from] SecretError),
    /// A descriptor or the forked process failed.
    #[error("failed while {0}")]
    Io(&'static str, #[source] io::Error),
    /// The node's message is not one.
    #[error("the job is not as the protocol says: {0}")]
    Protocol(&'static str),
    /// What runs the program could not be set up.
    #[error("failed to set up what runs the program")]
    Runtime(String),
}

/// Names what was being done when an I/O error came.
pub fn doing(what: &'static str) -> impl Fn(io::Error) -> EngineError {
    move |e| EngineError::Io(what, e)
}
