//! Ids: 16 bytes each, a type each, a prefix each.

use crate::ambient::{Random, random_bytes};
use crate::encoding::{ParseError, parse_hex, serde_as_text};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Draws a new random id.
            pub fn random(random: &dyn Random) -> Self {
                Self(random_bytes(random))
            }

            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Parses the text form: prefix and 32 lower-case hexadecimal digits.
            pub fn parse(text: &str) -> Result<Self, ParseError> {
                let hex = text.strip_prefix($prefix).ok_or(ParseError($what))?;
                parse_hex(hex, $what).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        serde_as_text!($name);
    };
}

id!(/** A job: one spec under one idempotency key, however many attempts. */ JobId, "job_", "job id");
id!(/** An offer and its one-use sealing key. */ OfferId, "off_", "offer id");
id!(/** A consumer, pseudonymous. */ ConsumerId, "con_", "consumer id");
id!(/** An API key's public handle; not the key. */ ApiKeyId, "ak_", "API key id");
id!(/** An alert. */ AlertId, "alr_", "alert id");
id!(/** A cryptographic key (docs/formats/keys.md). */ KeyId, "key_", "key id");

impl KeyId {
    /// The id of an asymmetric key: a truncated digest of its algorithm and public key.
    pub fn of_public(algorithm: &str, public: &[u8]) -> Self {
        let mut input = b"decores key v1\0".to_vec();
        input.extend_from_slice(algorithm.as_bytes());
        input.push(0);
        input.extend_from_slice(public);
        let digest = crate::Digest::of(&input);
        let mut id = [0; 16];
        id.copy_from_slice(digest.as_bytes().split_at(16).0);
        Self(id)
    }
}
