//! The epoch key: signs offers for an hour, vouched for by the identity key.

use crate::dsse::{DsseError, Envelope};
use crate::ed25519::{Ed25519Key, Ed25519Public};
use crate::error::KeyError;
use crate::ports::KeyStore;
use decores_types::canonical::{self, CanonicalError};
use decores_types::{Base64, KeyId, Random, Timestamp};
use serde::{Deserialize, Serialize};

/// Media type of an epoch certificate.
pub const EPOCH_PAYLOAD_TYPE: &str = "application/vnd.decores.epoch+json";
/// A new epoch key is due after this.
pub const EPOCH_ROTATION_MS: u64 = 3_600_000;
/// A certificate's whole life: the hour and the overlap.
pub const EPOCH_LIFE_MS: u64 = 2 * EPOCH_ROTATION_MS;
const MAX_BYTES: usize = 4096;

/// Why an epoch certificate was refused.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// Its envelope is not the identity key's.
    #[error("the epoch certificate is not signed by the node's identity")]
    Envelope(#[source] DsseError),
    /// It is no epoch certificate.
    #[error("failed to read the epoch certificate")]
    Document(#[source] CanonicalError),
    /// A version that is not known here.
    #[error("epoch certificate of version {0}, only 1 is known")]
    Version(u32),
    /// It names another node than the one that signed it.
    #[error("the epoch certificate is for another node")]
    Node,
    /// The public key is no key, or its id is another's.
    #[error("the epoch certificate's key and id do not fit")]
    Key,
    /// It ends before it starts, or lives too long.
    #[error("the epoch certificate's life is not allowed")]
    Life,
}

/// The identity key's word for an epoch key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EpochCertificate {
    /// The epoch's number.
    pub epoch: u32,
    /// Id of the epoch key.
    pub id: KeyId,
    /// Id of the identity key.
    pub node: KeyId,
    /// Covers offers issued before this.
    pub not_after: Timestamp,
    /// Covers offers issued from this on.
    pub not_before: Timestamp,
    /// The epoch key.
    pub public: Base64,
    /// Format version: 1.
    pub version: u32,
}

impl EpochCertificate {
    /// Reads a certificate and checks that it is the identity's and makes sense; the epoch key comes with it.
    pub fn verify(envelope: &Envelope, identity: &Ed25519Public) -> Result<(Self, Ed25519Public), EpochError> {
        let payload = envelope.verify(EPOCH_PAYLOAD_TYPE, identity).map_err(EpochError::Envelope)?;
        let this: Self = canonical::from_slice(payload, MAX_BYTES).map_err(EpochError::Document)?;
        if this.version != 1 {
            return Err(EpochError::Version(this.version));
        }
        if this.node != identity.id() {
            return Err(EpochError::Node);
        }
        let key = Ed25519Public::from_base64(&this.public).filter(|k| k.id() == this.id).ok_or(EpochError::Key)?;
        let life = this.not_after.since_ms(this.not_before);
        if life == 0 || life > EPOCH_LIFE_MS {
            return Err(EpochError::Life);
        }
        Ok((this, key))
    }

    /// Whether it covers a moment.
    pub fn covers(&self, moment: Timestamp) -> bool {
        self.not_before <= moment && moment < self.not_after
    }
}

/// An epoch key in locked memory, and its certificate.
#[derive(Debug)]
pub struct EpochKey {
    key: Ed25519Key,
    certificate: EpochCertificate,
    envelope: Envelope,
}

impl EpochKey {
    /// Draws an epoch key and has the identity key `identity` vouch for it. Numbers grow by one: the caller keeps count.
    pub fn issue(
        epoch: u32,
        store: &dyn KeyStore,
        identity: KeyId,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Self, KeyError> {
        let key = Ed25519Key::generate(random)?;
        let certificate = EpochCertificate {
            epoch,
            id: key.public().id(),
            node: identity,
            not_after: now.plus_ms(EPOCH_LIFE_MS),
            not_before: now,
            public: Base64::from(key.public().as_bytes().as_slice()),
            version: 1,
        };
        let payload = canonical::to_vec(&certificate).map_err(|e| KeyError::Store(Box::new(e)))?;
        let envelope = Envelope::sign(EPOCH_PAYLOAD_TYPE, payload, identity, |m| store.sign(&identity, m))?;
        Ok(Self { key, certificate, envelope })
    }

    /// What the identity key says of it.
    pub const fn certificate(&self) -> &EpochCertificate {
        &self.certificate
    }

    /// The certificate as offers carry it.
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Whether its hour is over: issue the next one and drop this; its offers stay good to their end.
    pub fn is_due(&self, now: Timestamp) -> bool {
        !self.certificate.covers(now) || now >= self.certificate.not_before.plus_ms(EPOCH_ROTATION_MS)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.sign(message)
    }
}
