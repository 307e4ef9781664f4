//! Why a keystore refused.

use crate::key::{Algorithm, Purpose};
use decores_secrets::SecretError;
use decores_types::KeyId;
use std::error::Error;

/// Why a keystore did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("no key {0} in the keystore")]
    Unknown(KeyId),
    /// The key no longer signs or seals.
    #[error("key {0} is retired: it opens, but no longer seals or signs")]
    Retired(KeyId),
    /// The key is gone.
    #[error("key {0} is destroyed")]
    Destroyed(KeyId),
    /// A key in use is not destroyed at one stroke.
    #[error("key {0} is active; retire it before destroying it")]
    Active(KeyId),
    /// The key cannot do this.
    #[error("a key for {0} cannot do this")]
    Unfit(Algorithm),
    /// Keys for this purpose live in memory only.
    #[error("keys for {0} are never stored")]
    NotStored(Purpose),
    /// The wrapped value does not open: wrong key, wrong context or altered.
    #[error("the wrapped value does not open")]
    DoesNotOpen,
    /// There is no room for a secret.
    #[error("no room for a secret")]
    Secret(#[from] SecretError),
    /// The cryptographic library refused a key of ours.
    #[error("the cryptographic library refused a {0} key")]
    Library(Algorithm),
    /// The keystore could not be read or written.
    #[error("the keystore failed")]
    Store(#[source] Box<dyn Error + Send + Sync>),
}
