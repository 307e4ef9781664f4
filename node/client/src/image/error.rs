//! Why an image is not taken.

use crate::ClientError;
use crate::error::ErrorKind;
use decores_types::Digest;

/// Why an image is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No name of an image.
    #[error("it is no name of an image: {0}")]
    Reference(String),
    /// None, or several, could be meant.
    #[error("{0}")]
    Choice(String),
    /// Not an image, or one that is not taken.
    #[error("{0}")]
    Unfit(String),
    /// A document that does not parse.
    #[error("{what} is not what it should be")]
    Document {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Named, but not there.
    #[error("{0} is missing")]
    Missing(String),
    /// Not what its digest says.
    #[error("{what} is corrupt: it is {found}")]
    Corrupt {
        /// What.
        what: String,
        /// What it is instead.
        found: String,
    },
    /// The registry wants another password, or none of ours.
    #[error("the registry {host} does not give it out: it answered {status}")]
    Denied {
        /// Which registry.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The registry does not have it, or is none.
    #[error("the registry {host} answered {status} to {what}")]
    Answer {
        /// Which registry.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// No connection, or it broke.
    #[error("failed to reach the registry {host}")]
    Unreachable {
        /// Which registry.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of ours or of the image's.
    #[error("{}", .0)]
    File(Box<ClientError>),
}

impl ImageError {
    pub(super) fn wrong_digest(what: impl Into<String>, found: &Digest) -> Self {
        Self::Corrupt { what: what.into(), found: found.to_string() }
    }

    /// What a caller branches on.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(_) | Self::Choice(_) | Self::Unfit(_) | Self::Document { .. } | Self::Missing(_) => {
                ErrorKind::Usage
            }
            Self::Corrupt { .. } | Self::Denied { .. } => ErrorKind::Refused,
            Self::Answer { status, .. } if *status >= 500 => ErrorKind::Unreachable,
            Self::Answer { .. } => ErrorKind::Usage,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::File(error) => error.kind(),
        }
    }

    /// What to do about it, where we know.
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Reference(_) => {
                Some("write oci:FOLDER:TAG, oci-archive:FILE, docker-archive:FILE or docker://HOST/NAME:TAG")
            }
            Self::Corrupt { .. } | Self::Missing(_) => Some("copy it again: skopeo copy SOURCE oci:FOLDER:TAG"),
            Self::Denied { .. } => Some(
                "log in with `docker login` or `skopeo login --authfile ~/.docker/config.json`; credential helpers are not asked",
            ),
            Self::Unreachable { .. } => {
                Some("a registry without TLS must be on this machine, or be named: --insecure-registry HOST:PORT")
            }
            _ => None,
        }
    }
}

impl From<ClientError> for ImageError {
    fn from(error: ClientError) -> Self {
        Self::File(Box::new(error))
    }
}
