//! How a command ends: 0 done, 1 the work failed, 2 wrong usage or unreadable file, 3 refused, 4 unreachable.

use decores_client::{ClientError, ErrorKind};
use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Refused = 3,
    Unreachable = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An end that is not the wanted one.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told.
    Told { exit: Exit, error: Box<dyn Error + Send + Sync>, hint: Option<String> },
    /// Whoever read our output has enough: nothing to tell.
    PipeClosed,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Told { exit, error: error.into(), hint: None }
    }

    pub(crate) fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Exit::Usage, error)
    }

    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Told { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(doing: &'static str, path: &Path, source: io::Error) -> Self {
        ClientError::File { doing, path: path.to_owned(), source }.into()
    }

    /// Tells, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => Exit::Done.into(),
            Self::Told { exit, error, hint } => {
                decores_telemetry::print_error(error.as_ref(), hint.as_deref());
                exit.into()
            }
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::File { source, .. } = &error
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            return Self::PipeClosed;
        }
        let exit = match error.kind() {
            ErrorKind::Failed => Exit::Failed,
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Refused => Exit::Refused,
            ErrorKind::Unreachable => Exit::Unreachable,
        };
        let hint = error.hint();
        Self::Told { exit, error: Box::new(error), hint }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]
    use super::*;

    fn exit(error: ClientError) -> Exit {
        match Failure::from(error) {
            Failure::Told { exit, .. } => exit,
            Failure::PipeClosed => panic!("told"),
        }
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        assert_eq!(exit(ClientError::Status { status: 500 }), Exit::Failed);
        assert_eq!(exit(ClientError::Url("x".to_owned())), Exit::Usage);
        assert_eq!(exit(ClientError::Mismatch("x".to_owned())), Exit::Refused);
        assert_eq!(exit(ClientError::Status { status: 503 }), Exit::Unreachable);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let source = io::ErrorKind::BrokenPipe.into();
        let error = ClientError::File { doing: "write", path: "standard output".into(), source };
        assert!(matches!(Failure::from(error), Failure::PipeClosed));
    }
}
