//! Ed25519: keys in memory, and checking signatures.

use crate::error::KeyError;
use crate::key::Algorithm;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use decores_secrets::Secret;
use decores_types::{Base64, KeyId, Random};

/// A signature that is not by this key over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Checks an Ed25519 signature.
pub fn verify_ed25519(public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).map_err(|_| BadSignature)
}

/// An Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519Public([u8; 32]);

impl Ed25519Public {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key in a document; `None` if it has not 32 bytes.
    pub fn from_base64(bytes: &Base64) -> Option<Self> {
        bytes.array().map(Self)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        KeyId::of_public("ed25519", &self.0)
    }

    /// Checks a signature by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        verify_ed25519(&self.0, message, signature)
    }
}

/// An Ed25519 key in locked memory; AWS-LC copies the seed for the length of one signature.
#[derive(Debug)]
pub struct Ed25519Key {
    seed: Secret,
    public: Ed25519Public,
}

impl Ed25519Key {
    /// Draws a new key.
    pub fn generate(random: &dyn Random) -> Result<Self, KeyError> {
        let seed = Secret::filled(32, |out| random.fill(out))?;
        Self::from_seed(seed).ok_or(KeyError::Library(Algorithm::Ed25519))
    }

    /// The key of a seed; `None` if it has not 32 bytes.
    pub fn from_seed(seed: Secret) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
        let public = Ed25519Public(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { seed, public })
    }

    /// The public key.
    pub const fn public(&self) -> &Ed25519Public {
        &self.public
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let library = KeyError::Library(Algorithm::Ed25519);
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(self.seed.expose()) else { return Err(library) };
        Ok(pair.try_sign(message).map_err(|_| library)?.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signs_as_the_rfc_does() {
        let seed = hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = Ed25519Key::from_seed(Secret::from_slice(&seed).unwrap()).unwrap();
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(hex::encode(key.public().as_bytes()), public);
        let signature = key.sign(&[0x72]).unwrap();
        assert_eq!(
            hex::encode(&signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        key.public().verify(&[0x72], &signature).unwrap();
        assert_eq!(key.public().verify(&[0x73], &signature), Err(BadSignature));
        assert_eq!(key.public().verify(&[0x72], &[]), Err(BadSignature));
    }
}
