//! Where long-lived keys are kept.

use crate::error::KeyError;
use crate::key::{KeyInfo, KeyState, Purpose, RootSource};
use decores_secrets::Secret;
use decores_types::{KeyId, Timestamp};

/// A keystore: a file, a token.
///
/// Private keys of pairs never leave it: callers name a key and get signatures. Symmetric keys for
/// rows and lookups are asked for once and used in the process, since a token is far too slow for
/// them. A token keeps those as a key wrapped by one that stays inside it: `open_symmetric` then
/// unwraps, and `destroy` deletes both. [`crate::contract::check`] says what every keystore does.
pub trait KeyStore: Send + Sync {
    /// All keys, destroyed ones too, in the order they were made.
    fn list(&self) -> Result<Vec<KeyInfo>, KeyError>;

    /// Makes the next key of a purpose and retires the one before it, in one step.
    fn create(&self, purpose: Purpose, now: Timestamp) -> Result<KeyInfo, KeyError>;

    /// Signs: Ed25519 gives 64 bytes, ECDSA over SHA-256 gives DER.
    fn sign(&self, id: &KeyId, message: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Wraps a small secret under a storage key; it opens with the same `aad` only.
    fn wrap(&self, id: &KeyId, secret: &Secret, aad: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Unwraps what [`Self::wrap`] wrapped.
    fn unwrap(&self, id: &KeyId, wrapped: &[u8], aad: &[u8]) -> Result<Secret, KeyError>;

    /// A symmetric key, for use in this process; keys of pairs are refused.
    fn open_symmetric(&self, id: &KeyId) -> Result<Secret, KeyError>;

    /// Stops a key from sealing and signing; it still opens.
    fn retire(&self, id: &KeyId) -> Result<(), KeyError>;

    /// Destroys a retired key for good.
    fn destroy(&self, id: &KeyId) -> Result<(), KeyError>;

    /// Where the root that wraps the keys comes from.
    fn root_source(&self) -> RootSource;

    /// What is known of a key.
    fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.list()?.into_iter().find(|k| k.id == *id).ok_or(KeyError::Unknown(*id))
    }

    /// The key of a purpose that seals or signs now.
    fn active(&self, purpose: Purpose) -> Result<Option<KeyInfo>, KeyError> {
        Ok(self.list()?.into_iter().find(|k| k.purpose == purpose && k.state == KeyState::Active))
    }
}
