//! A way in for `fuzz/`: a file's bytes, without a file.

use crate::document::Document;
use crate::error::FileError;
use decores_keys::KeyState;
use decores_secrets::Secret;

/// Reads a keystore's bytes and opens every key under a root, as [`crate::FileKeyStore::open`] does; what would be
/// written again, and how many keys opened.
///
/// # Errors
/// As there.
pub fn open(bytes: &[u8], root: &Secret) -> Result<(Vec<u8>, usize), FileError> {
    let document = Document::parse(bytes)?;
    if !document.root.fits(root) {
        return Err(FileError::WrongRoot(document.root.source));
    }
    let mut opened = 0;
    for key in document.keys.iter().filter(|key| key.info().state != KeyState::Destroyed) {
        key.unwrap(root)?;
        opened += 1;
    }
    Ok((document.to_bytes()?, opened))
}

/// Reads the form only; what would be written again.
///
/// # Errors
/// If it is not exactly the form.
pub fn parse(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    Document::parse(bytes)?.to_bytes()
}
