//! The file's form.

use crate::error::FileError;
use decores_keys::private_key;
use decores_keys::{Algorithm, KeyInfo, KeyState, Purpose, RootSource};
use decores_secrets::Secret;
use decores_types::canonical;
use decores_types::{Base64, KeyId, Random, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The largest keystore that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;
const CHECK_AAD: &[u8] = b"decores keystore v1 check";

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) keys: Vec<Record>,
    pub(crate) root: Root,
    version: u32,
}

/// How the root is had, and how to know that it is the right one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Root {
    check: Base64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kdf: Option<Kdf>,
    pub(crate) source: RootSource,
}

/// How a passphrase becomes a root.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Kdf {
    pub(crate) algorithm: KdfAlgorithm,
    pub(crate) iterations: u32,
    pub(crate) lanes: u32,
    pub(crate) memory_kib: u32,
    pub(crate) salt: Base64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum KdfAlgorithm {
    #[serde(rename = "argon2id")]
    Argon2id,
}

/// A key: its public side and, until it is destroyed, the wrapped private one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    algorithm: Algorithm,
    created: Timestamp,
    epoch: u32,
    id: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public: Option<Base64>,
    purpose: Purpose,
    state: KeyState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrapped: Option<Base64>,
}

impl Document {
    /// An empty keystore under a root.
    pub(crate) fn empty(root: Root) -> Self {
        Self { keys: Vec::new(), root, version: 1 }
    }

    /// The same keys under another root.
    pub(crate) fn with_root(keys: Vec<Record>, root: Root) -> Self {
        Self { keys, root, version: 1 }
    }

    /// Reads the form strictly; nothing is unwrapped yet.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        let this: Self = canonical::from_slice(bytes, MAX_BYTES).map_err(FileError::Document)?;
        if this.version != 1 {
            return Err(FileError::Version(this.version));
        }
        if (this.root.source == RootSource::Passphrase) != this.root.kdf.is_some() {
            return Err(FileError::Malformed("`kdf` stands there for a passphrase, and only then"));
        }
        this.check_records()?;
        Ok(this)
    }

    fn check_records(&self) -> Result<(), FileError> {
        let (mut ids, mut epochs, mut active) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for key in &self.keys {
            if !key.purpose.is_stored() || key.algorithm != key.purpose.algorithm() {
                return Err(FileError::Malformed("a purpose and an algorithm do not fit"));
            }
            if key.public.is_none() != key.algorithm.is_symmetric() {
                return Err(FileError::Malformed("keys of pairs have a public key, others have none"));
            }
            if (key.state == KeyState::Destroyed) != key.wrapped.is_none() {
                return Err(FileError::Malformed("a key has a wrapped form until it is destroyed"));
            }
            let again = !ids.insert(key.id) || key.epoch == 0 || !epochs.insert((key.purpose, key.epoch));
            if again || (key.state == KeyState::Active && !active.insert(key.purpose)) {
                return Err(FileError::Malformed("an id, an epoch or an active key stands twice"));
            }
        }
        Ok(())
    }

    /// The bytes to be written.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, FileError> {
        canonical::to_vec(self).map_err(FileError::Document)
    }
}

impl Root {
    /// The entry for a root.
    pub(crate) fn new(
        source: RootSource,
        kdf: Option<Kdf>,
        root: &Secret,
        random: &dyn Random,
    ) -> Result<Self, FileError> {
        let check = private_key::wrap(root, &Secret::zeroed(32)?, CHECK_AAD, random)?;
        Ok(Self { check: Base64(check), kdf, source })
    }

    /// Whether `root` is the one this was made for.
    pub(crate) fn fits(&self, root: &Secret) -> bool {
        private_key::unwrap(root, &self.check.0, CHECK_AAD).is_ok_and(|zero| zero.expose() == [0; 32])
    }
}

impl Record {
    /// A new key, wrapped.
    pub(crate) fn wrap(info: KeyInfo, private: &Secret, root: &Secret, random: &dyn Random) -> Result<Self, FileError> {
        let KeyInfo { algorithm, created, epoch, id, public, purpose, state } = info;
        let mut this = Self { algorithm, created, epoch, id, public, purpose, state, wrapped: None };
        this.wrapped = Some(Base64(private_key::wrap(root, private, &this.aad(), random)?));
        Ok(this)
    }

    /// The private key, in locked memory.
    pub(crate) fn unwrap(&self, root: &Secret) -> Result<Secret, FileError> {
        let wrapped = self.wrapped.as_ref().ok_or(FileError::Damaged(self.id))?;
        let private = match private_key::unwrap(root, &wrapped.0, &self.aad()) {
            Err(decores_keys::KeyError::DoesNotOpen) => return Err(FileError::Damaged(self.id)),
            other => other?,
        };
        if private_key::fits(&self.info(), &private) { Ok(private) } else { Err(FileError::Damaged(self.id)) }
    }

    /// The same key under another root.
    pub(crate) fn rewrap(&self, old: &Secret, new: &Secret, random: &dyn Random) -> Result<Self, FileError> {
        if self.state == KeyState::Destroyed {
            return Ok(self.clone());
        }
        Self::wrap(self.info(), &self.unwrap(old)?, new, random)
    }

    pub(crate) fn info(&self) -> KeyInfo {
        KeyInfo {
            algorithm: self.algorithm,
            created: self.created,
            epoch: self.epoch,
            id: self.id,
            public: self.public.clone(),
            purpose: self.purpose,
            state: self.state,
        }
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn retire(&mut self) {
        self.state = KeyState::Retired;
    }

    pub(crate) fn destroy(&mut self) {
        self.state = KeyState::Destroyed;
        self.wrapped = None;
    }

    fn aad(&self) -> Vec<u8> {
        let Self { id, purpose, epoch, algorithm, .. } = self;
        format!("decores keystore v1\0{id}\0{purpose}\0{epoch}\0{algorithm}").into_bytes()
    }
}
