//! DSSE v1.0 envelopes, read strictly: exactly one signature, Ed25519, by the key that is expected.

use crate::ed25519::Ed25519Public;
use crate::error::KeyError;
use decores_types::{Base64, KeyId};
use serde::{Deserialize, Serialize};

/// Why an envelope was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// It holds another type of document.
    #[error("the envelope holds another type of document")]
    PayloadType,
    /// None, or more than one.
    #[error("the envelope has {0} signatures, exactly one is expected")]
    SignatureCount(usize),
    /// It names another key.
    #[error("the envelope is signed by {found}, not by {wanted}")]
    KeyId {
        /// The key it names.
        found: KeyId,
        /// The key that is expected.
        wanted: KeyId,
    },
    /// The signature is not by that key over this payload.
    #[error("the envelope's signature does not verify")]
    Signature,
}

/// A signed document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    /// The document's bytes.
    pub payload: Base64,
    /// Its media type.
    pub payload_type: String,
    /// Exactly one is accepted.
    pub signatures: Vec<Signature>,
}

/// A signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The key that signed.
    pub keyid: KeyId,
    /// The 64 bytes.
    pub sig: Base64,
}

impl Envelope {
    /// Signs a document; `sign` gets the bytes to be signed.
    pub fn sign(
        payload_type: &str,
        payload: Vec<u8>,
        keyid: KeyId,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
    ) -> Result<Self, KeyError> {
        let sig = Base64(sign(&pae(payload_type, &payload))?);
        let signatures = vec![Signature { keyid, sig }];
        Ok(Self { payload: Base64(payload), payload_type: payload_type.to_owned(), signatures })
    }

    /// The document's bytes, once the envelope is known to be `key`'s and of this type.
    pub fn verify(&self, payload_type: &str, key: &Ed25519Public) -> Result<&[u8], DsseError> {
        if self.payload_type != payload_type {
            return Err(DsseError::PayloadType);
        }
        let [signature] = self.signatures.as_slice() else {
            return Err(DsseError::SignatureCount(self.signatures.len()));
        };
        if signature.keyid != key.id() {
            return Err(DsseError::KeyId { found: signature.keyid, wanted: key.id() });
        }
        key.verify(&pae(payload_type, &self.payload.0), &signature.sig.0).map_err(|_| DsseError::Signature)?;
        Ok(&self.payload.0)
    }
}

/// The bytes that are signed: DSSE's pre-authentication encoding.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::ed25519::Ed25519Key;
    use crate::random::TestRandom;

    const TYPE: &str = "application/vnd.example+json";

    fn signed() -> (Ed25519Key, Envelope) {
        let key = Ed25519Key::generate(&TestRandom::new("dsse")).unwrap();
        let envelope = Envelope::sign(TYPE, b"{}".to_vec(), key.public().id(), |m| key.sign(m)).unwrap();
        (key, envelope)
    }

    #[test]
    fn the_encoding_is_the_specifications_example() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn opens_for_its_key_and_type() {
        let (key, envelope) = signed();
        assert_eq!(envelope.verify(TYPE, key.public()).unwrap(), b"{}");
    }

    #[test]
    fn refuses_another_type_key_count_payload_or_signature() {
        let (key, good) = signed();
        let public = key.public();
        assert_eq!(good.verify("text/plain", public), Err(DsseError::PayloadType));
        let other = *Ed25519Key::generate(&TestRandom::new("other")).unwrap().public();
        assert!(matches!(good.verify(TYPE, &other), Err(DsseError::KeyId { .. })));

        let mut bad = good.clone();
        bad.signatures.push(good.signatures[0].clone());
        assert_eq!(bad.verify(TYPE, public), Err(DsseError::SignatureCount(2)));
        bad.signatures.clear();
        assert_eq!(bad.verify(TYPE, public), Err(DsseError::SignatureCount(0)));

        let mut bad = good.clone();
        bad.payload.0[0] ^= 1;
        assert_eq!(bad.verify(TYPE, public), Err(DsseError::Signature));
        let mut bad = good.clone();
        bad.signatures[0].sig.0[0] ^= 1;
        assert_eq!(bad.verify(TYPE, public), Err(DsseError::Signature));
        let mut bad = good;
        bad.signatures[0].keyid = other.id();
        assert!(matches!(bad.verify(TYPE, &other), Err(DsseError::Signature)));
    }
}
