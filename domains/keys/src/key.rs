//! What is known of a key, apart from the key.

use decores_types::{Base64, KeyId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Signs receipts, node statements and epoch certificates.
    Identity,
    /// Signs checkpoints of the log.
    Log,
    /// Signs the node's TLS certificates.
    Ca,
    /// Seals rows and blobs.
    Storage,
    /// Makes lookup values from names and API keys.
    Index,
    /// Signs offers for an hour; in memory only.
    Epoch,
    /// Opens one job; in memory only.
    Offer,
}

impl Purpose {
    /// The algorithm of keys for this purpose.
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Identity | Self::Log | Self::Epoch => Algorithm::Ed25519,
            Self::Ca => Algorithm::EcdsaP256,
            Self::Storage => Algorithm::Aes256Gcm,
            Self::Index => Algorithm::HmacSha256,
            Self::Offer => Algorithm::XWing,
        }
    }

    /// Whether a keystore holds keys for this purpose.
    pub const fn is_stored(self) -> bool {
        !matches!(self, Self::Epoch | Self::Offer)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Log => "log",
            Self::Ca => "ca",
            Self::Storage => "storage",
            Self::Index => "index",
            Self::Epoch => "epoch",
            Self::Offer => "offer",
        })
    }
}

/// How a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// Signatures; 32-byte public key.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// Signatures for X.509, in DER; the public key is an uncompressed point.
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// Sealing to a public key, hybrid post-quantum.
    #[serde(rename = "x-wing")]
    XWing,
    /// Sealing under a shared key.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// Lookup values under a shared key.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
}

impl Algorithm {
    /// The name in formats and key ids.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::XWing => "x-wing",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::HmacSha256 => "hmac-sha256",
        }
    }

    /// Whether the key has no public part.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Aes256Gcm | Self::HmacSha256)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a key stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Seals, opens and signs.
    Active,
    /// Opens and verifies; no longer seals or signs.
    Retired,
    /// Gone; only its name is left.
    Destroyed,
}

/// A key's public side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyInfo {
    /// How it works.
    pub algorithm: Algorithm,
    /// When it was made.
    pub created: Timestamp,
    /// The how-manieth key of its purpose; the first is 1.
    pub epoch: u32,
    /// Its id.
    pub id: KeyId,
    /// The public key; symmetric keys have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Base64>,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it stands.
    pub state: KeyState,
}

/// Where the root that wraps a keystore comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootSource {
    /// Made from a passphrase that a person enters.
    Passphrase,
    /// Handed over by systemd.
    Credential,
    /// In a file next to the keys: whoever takes the disk takes the keys.
    BesideData,
    /// Nowhere: the keys end with the process.
    #[serde(skip)]
    Volatile,
}

impl fmt::Display for RootSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "passphrase",
            Self::Credential => "credential",
            Self::BesideData => "beside-data",
            Self::Volatile => "volatile",
        })
    }
}
