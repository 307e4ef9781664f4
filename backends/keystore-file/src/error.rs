//! Why a keystore file was refused.

use decores_keys::{KeyError, RootSource};
use decores_secrets::SecretError;
use decores_types::KeyId;
use decores_types::canonical::CanonicalError;
use std::io;
use std::path::PathBuf;

/// Why a keystore was not opened or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk did not do as asked.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} may be read by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is one already.
    #[error("{} exists already; it is not overwritten", .0.display())]
    Exists(PathBuf),
    /// It is not in the format.
    #[error("failed to read the keystore")]
    Document(#[source] CanonicalError),
    /// A version that is not known here.
    #[error("keystore of version {0}, only 1 is known")]
    Version(u32),
    /// It contradicts itself.
    #[error("the keystore is malformed: {0}")]
    Malformed(&'static str),
    /// The root is another's: a wrong passphrase, or another credential.
    #[error("the keystore does not open: wrong {0}")]
    WrongRoot(RootSource),
    /// The root fits, and a key still does not open.
    #[error("key {0} is damaged: the file was altered; restore it from a backup")]
    Damaged(KeyId),
    /// Another kind of root is needed.
    #[error("the keystore opens with its {wanted}, not with a {given}")]
    OtherSource {
        /// What it needs.
        wanted: RootSource,
        /// What was given.
        given: RootSource,
    },
    /// The root's file has not 32 bytes.
    #[error("{} must hold exactly 32 random bytes", .0.display())]
    RootSize(PathBuf),
    /// The root is beside the data already.
    #[error("the root is beside the data already; change to a passphrase or a credential")]
    SameSource,
    /// The passphrase could not be made into a root.
    #[error("failed to make a root from the passphrase: {0}")]
    Passphrase(&'static str),
    /// There is no room for a secret.
    #[error("no room for a secret")]
    Secret(#[from] SecretError),
    /// A key could not be wrapped.
    #[error("failed to wrap a key")]
    Key(#[from] KeyError),
}

impl From<FileError> for KeyError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Key(error) => error,
            FileError::Secret(error) => Self::Secret(error),
            error => Self::Store(Box::new(error)),
        }
    }
}
