//! Why the lock did not close.

/// A lock that is not in force; the engine must not go on.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// Landlock is there and did not do what it was asked.
    #[error("failed to close the files with Landlock")]
    Landlock(#[from] landlock::RulesetError),
    /// The scratch could not be opened.
    #[error("failed to open the scratch folder")]
    Scratch(#[from] landlock::PathFdError),
    /// Landlock is in force in part only.
    #[error("Landlock is not fully in force")]
    Partial,
    /// The filter could not be made or loaded.
    #[error("failed to load the system call filter")]
    Filter(#[from] seccompiler::Error),
    /// The filter was refused before it was loaded.
    #[error("failed to build the system call filter")]
    Build(#[from] seccompiler::BackendError),
    /// This processor has no filter.
    #[error("no system call filter is known for this processor")]
    Processor,
    /// The kernel says that it is not in force.
    #[error("the kernel does not report {0} as in force")]
    NotInForce(&'static str),
}
