//! Sealing and keys: which keys there are, what each seals or signs, and when it stops.
//!
//! Start with [`offer`]: a node makes a one-use [`XWingKey`], signs an offer with its hourly
//! [`EpochKey`], whose certificate the identity key signed; the consumer checks it with
//! [`verify_offer`] and seals a job to the [`Recipient`] in it ([`payload`]). The engine opens it and
//! seals the result to the consumer's key the same way. [`ports::KeyStore`] is where long-lived keys
//! are, [`RowKeys`] seals what the store keeps.
//!
//! Refused: whatever is not exactly as `docs/formats/keys.md` and `docs/formats/sealed-payload.md`
//! say. An authentication failure never says more than that it failed.
//!
//! Nothing here does I/O of its own or reads a clock. Randomness comes in as [`decores_types::Random`],
//! with two exceptions, where AWS-LC takes no other source than its own: generating a P-256 key, and
//! the nonce of an ECDSA signature.

pub mod contract;
mod dsse;
mod ed25519;
mod epoch;
mod error;
mod index;
mod key;
mod memory;
pub mod offer;
pub mod payload;
pub mod ports;
pub mod private_key;
mod random;
mod row;
mod x_wing;

pub use dsse::{DsseError, Envelope, Signature, pae};
pub use ed25519::{BadSignature, Ed25519Key, Ed25519Public, verify_ed25519};
pub use epoch::{EPOCH_LIFE_MS, EPOCH_PAYLOAD_TYPE, EPOCH_ROTATION_MS, EpochCertificate, EpochError, EpochKey};
pub use error::KeyError;
pub use index::IndexKey;
pub use key::{Algorithm, KeyInfo, KeyState, Purpose, RootSource};
pub use memory::MemoryKeyStore;
pub use offer::{OfferError, OfferKey, OfferTerms, Requirements, VerifiedOffer, verify_offer};
pub use ports::KeyStore;
pub use row::{RowError, RowKey, RowKeys};
pub use x_wing::{Recipient, X_WING_PUBLIC_BYTES, XWingKey};
