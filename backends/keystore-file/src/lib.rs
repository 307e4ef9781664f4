//! The keystore as a file (`docs/formats/keys.md`): every private key wrapped under a root.
//!
//! The root comes from a passphrase, a systemd credential, or a file beside the data; it stays in
//! locked memory while the keystore is open. A private key is unwrapped into locked memory for the
//! length of one use. The file is replaced whole: a crash leaves the old one or the new one.
//!
//! Refused at opening: a group- or world-readable file, one that is not exactly in the format, a root
//! that does not fit ([`FileError::WrongRoot`]), a key that does not open under a root that fits
//! ([`FileError::Damaged`]). Not covered by any seal are a key's `created` and `state`, nor does
//! anything show that an older file was put back: whoever may write the file may do both.

mod disk;
mod document;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod root;
mod store;

pub use error::FileError;
pub use root::RootInput;
pub use store::{FileKeyStore, KEYSTORE_FILE, ROOT_FILE};
