//! What can go wrong between a client and a node, and what a caller should make of it.

use decores_api::{Code, Problem};
use decores_types::canonical::CanonicalError;
use std::path::PathBuf;
use std::time::Duration;

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The work failed.
    Failed,
    /// The caller asked for something that makes no sense, or a file is unreadable.
    Usage,
    /// Refused: by the node, or by our own verification.
    Refused,
    /// The node cannot be reached, or cannot take this now.
    Unreachable,
}

/// Why a client's operation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a URL that a node can have.
    #[error("`{0}` is not the URL of a node")]
    Url(String),
    /// TLS could not be set up.
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be built.
    #[error("failed to set up the HTTP client")]
    Http(#[source] reqwest::Error),
    /// No connection, or it broke.
    #[error("failed to reach the node at {url}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came for too long.
    #[error("the node at {url} did not answer within {seconds} seconds")]
    Timeout {
        /// Where it should be.
        url: String,
        /// How long we waited.
        seconds: u64,
    },
    /// A job that never ends.
    #[error("{job} should have ended within {seconds} seconds, and has not; we wait no longer")]
    Overdue {
        /// Which.
        job: decores_types::JobId,
        /// How long we waited.
        seconds: u64,
    },
    /// The node said no.
    #[error("the node answered {}: {}", .problem.status, .problem.detail)]
    Problem {
        /// What it said.
        problem: Box<Problem>,
        /// When it wants to be asked again.
        retry: Option<Duration>,
    },
    /// An answer that is not from a node, or from a broken one.
    #[error("the node answered {status} without saying why")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// An answer of too many bytes.
    #[error("the node's answer has more than {max} bytes")]
    TooLarge {
        /// The most we read.
        max: u64,
    },
    /// An answer that does not parse.
    #[error("the node's answer to `{what}` is malformed")]
    Answer {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: CanonicalError,
    },
    /// What the node sent did not pass verification.
    #[error("refused {what}")]
    Refused {
        /// What was refused.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the node sent contradicts what we know.
    #[error("refused {0}")]
    Mismatch(String),
    /// There is no login yet.
    #[error("not logged in: {} is missing", .0.display())]
    NoLogin(PathBuf),
    /// A file could not be read or written.
    #[error("failed to {doing} {}", .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One of our own files is damaged.
    #[error("{} is damaged", .path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file with secrets that others can read.
    #[error("{} can be read by others", .0.display())]
    Exposed(PathBuf),
    /// An input that cannot be sent.
    #[error("{0}")]
    Input(String),
    /// A file changed between hashing and sending.
    #[error("{0} changed while it was being sent")]
    Changed(String),
    /// An image that is not taken.
    #[error("failed to take the image {image}")]
    Image {
        /// Which.
        image: String,
        /// Why.
        #[source]
        source: crate::image::ImageError,
    },
    /// Sealing or opening failed.
    #[error("failed to {doing}")]
    Sealing {
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A worker thread of ours ended early.
    #[error("a worker thread ended without a result")]
    Worker,
}

impl ClientError {
    /// What a caller branches on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Url(_) | Self::NoLogin(_) | Self::File { .. } | Self::Input(_) | Self::Damaged { .. } => {
                ErrorKind::Usage
            }
            Self::Unreachable { source, .. } if is_certificate(source) => ErrorKind::Refused,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Overdue { .. } => ErrorKind::Unreachable,
            Self::Problem { problem, .. } => kind_of(problem.code),
            Self::Image { source, .. } => source.kind(),
            Self::Refused { .. } | Self::Mismatch(_) | Self::Exposed(_) => ErrorKind::Refused,
            Self::Status { status } => kind_of_status(*status),
            Self::Tls(_)
            | Self::Http(_)
            | Self::TooLarge { .. }
            | Self::Answer { .. }
            | Self::Changed(_)
            | Self::Sealing { .. }
            | Self::Worker => ErrorKind::Failed,
        }
    }

    /// What to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Url(_) => "give it as https://HOST:PORT",
            Self::Unreachable { source, .. } if is_certificate(source) => {
                "its certificate does not fit the pinned authority; if the node was reinstalled, log in again: decores login URL"
            }
            Self::Unreachable { .. } | Self::Timeout { .. } => {
                "is the node running, and is this its address? `decores up` starts one here"
            }
            Self::Problem { problem, .. } => return problem.hint.clone().or_else(|| hint_of(problem.code)),
            Self::Image { source, .. } => return source.hint().map(str::to_owned),
            Self::NoLogin(_) => "log in first: decores login URL",
            Self::Exposed(path) => return Some(format!("chmod 600 {}", path.display())),
            Self::Overdue { .. } => "ask the node's operator; `decores job cancel` gives it up",
            Self::Changed(_) => "submit again when nothing writes to it",
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the same request may succeed on a new connection.
    pub(crate) fn is_connection_loss(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Unreachable { source, .. } => !is_certificate(source),
            _ => false,
        }
    }

    /// How long to wait before asking again, where the node is only busy.
    pub(crate) fn busy(&self) -> Option<Duration> {
        match self {
            Self::Problem { problem, retry } if matches!(problem.code, Code::Unavailable | Code::TooManyRequests) => {
                *retry
            }
            _ => None,
        }
    }

    /// The problem code, where the node gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem { problem, .. } => Some(problem.code),
            _ => None,
        }
    }
}

fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::Unauthenticated
        | Code::KeyExpired
        | Code::Forbidden
        | Code::IdempotencyConflict
        | Code::StateConflict
        | Code::OfferInvalid
        | Code::TooLarge
        | Code::Refused
        | Code::TooManyRequests => ErrorKind::Refused,
        Code::Unavailable => ErrorKind::Unreachable,
        Code::Malformed
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::RequestTimeout
        | Code::Gone
        | Code::UnsupportedMediaType
        | Code::Internal => ErrorKind::Failed,
    }
}

const fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 | 409 | 413 | 422 | 429 => ErrorKind::Refused,
        502..=504 => ErrorKind::Unreachable,
        _ => ErrorKind::Failed,
    }
}

fn hint_of(code: Code) -> Option<String> {
    let text = match code {
        Code::Unauthenticated => "the node does not know this API key; log in again: decores login URL",
        Code::KeyExpired => "ask the node's operator for a new key (decores apikey create), then: decores login URL",
        Code::Forbidden => "this needs a key with another role; ask the node's operator",
        Code::TooManyRequests | Code::Unavailable => "try again in a moment",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Whether the node's certificate was refused; I/O errors hide their cause from `source`, hence the recursion.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().is_some_and(|inner| is_certificate(inner)),
        None => error.source().is_some_and(is_certificate),
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientError, ErrorKind};
    use decores_api::{Code, Problem};

    fn problem(code: Code) -> ClientError {
        ClientError::Problem { problem: Box::new(Problem::new(code, "no")), retry: None }
    }

    #[test]
    fn refusals_are_told_from_failures_and_silence() {
        assert_eq!(problem(Code::Unauthenticated).kind(), ErrorKind::Refused);
        assert_eq!(problem(Code::IdempotencyConflict).kind(), ErrorKind::Refused);
        assert_eq!(problem(Code::Unavailable).kind(), ErrorKind::Unreachable);
        assert_eq!(problem(Code::NotFound).kind(), ErrorKind::Failed);
        assert_eq!(ClientError::Status { status: 502 }.kind(), ErrorKind::Unreachable);
        assert_eq!(ClientError::Url("x".into()).kind(), ErrorKind::Usage);
    }

    #[test]
    fn the_nodes_own_hint_comes_first() {
        let full = Problem::new(Code::Unavailable, "full").hint("wait 5 seconds");
        let told = ClientError::Problem { problem: Box::new(full), retry: None };
        assert_eq!(told.hint().as_deref(), Some("wait 5 seconds"));
        assert_eq!(problem(Code::Unavailable).hint().as_deref(), Some("try again in a moment"));
    }
}
