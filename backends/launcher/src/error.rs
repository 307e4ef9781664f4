//! Why a request to the launcher failed.

use std::io;

/// A request that failed; the launcher itself goes on.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Threads exist already: a fork would copy locks held by them.
    #[error("the launcher must be forked before any thread is started")]
    Threads,
    /// The launcher process could not be made.
    #[error("failed to fork the launcher")]
    Fork(#[source] io::Error),
    /// The launcher process is gone.
    #[error("the launcher has ended")]
    Ended,
    /// Talking to the launcher failed.
    #[error("failed to talk to the launcher")]
    Socket(#[source] io::Error),
    /// The launcher refused a plan that breaks its own rules.
    #[error("the launcher refused: {0}")]
    Refused(String),
    /// A step of starting an engine failed.
    #[error("failed to start the engine: {0}")]
    Failed(String),
}
