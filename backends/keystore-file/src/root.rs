//! Where the root comes from.

use crate::disk;
use crate::document::{Kdf, KdfAlgorithm};
use crate::error::FileError;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use decores_keys::RootSource;
use decores_secrets::Secret;
use decores_types::ambient::random_bytes;
use decores_types::{Base64, Random};
use std::path::Path;
use zeroize::Zeroize;

/// Bytes of a root.
pub(crate) const ROOT_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// The most memory that a file may make us take.
const MAX_MEMORY_KIB: u32 = 1 << 20;
/// The most rounds that a file may make us do.
const MAX_ITERATIONS: u32 = 64;
const MAX_LANES: u32 = 16;

/// What the root is had from.
#[derive(Clone, Copy, Debug)]
pub enum RootInput<'a> {
    /// A passphrase that a person entered.
    Passphrase(&'a Secret),
    /// A file of 32 random bytes that systemd provides (`$CREDENTIALS_DIRECTORY/decores-root`).
    Credential(&'a Path),
    /// A file beside the keystore: whoever takes the disk takes the keys.
    BesideData,
}

impl RootInput<'_> {
    /// What the file calls it.
    pub const fn source(&self) -> RootSource {
        match self {
            Self::Passphrase(_) => RootSource::Passphrase,
            Self::Credential(_) => RootSource::Credential,
            Self::BesideData => RootSource::BesideData,
        }
    }
}

/// The parameters for a new passphrase: RFC 9106's second recommendation, on one lane.
pub(crate) fn new_kdf(random: &dyn Random) -> Kdf {
    Kdf {
        algorithm: KdfAlgorithm::Argon2id,
        iterations: 3,
        lanes: 1,
        memory_kib: 65_536,
        salt: Base64(random_bytes::<SALT_BYTES>(random).to_vec()),
    }
}

/// The root of a passphrase.
pub(crate) fn derive(passphrase: &Secret, kdf: &Kdf) -> Result<Secret, FileError> {
    let KdfAlgorithm::Argon2id = kdf.algorithm;
    if passphrase.is_empty() {
        return Err(FileError::Passphrase("it is empty"));
    }
    let too_much = kdf.memory_kib > MAX_MEMORY_KIB || kdf.iterations > MAX_ITERATIONS || kdf.lanes > MAX_LANES;
    if too_much || !(8..=64).contains(&kdf.salt.0.len()) {
        return Err(FileError::Malformed("the parameters of `kdf` are out of range"));
    }
    let params = Params::new(kdf.memory_kib, kdf.iterations, kdf.lanes, Some(ROOT_BYTES))
        .map_err(|_| FileError::Malformed("the parameters of `kdf` are out of range"))?;
    let mut memory = vec![Block::default(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut root = Secret::zeroed(ROOT_BYTES)?;
    let derived =
        argon2.hash_password_into_with_memory(passphrase.expose(), &kdf.salt.0, root.expose_mut(), &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    derived.map_err(|_| FileError::Passphrase("it is too long"))?;
    Ok(root)
}

/// The root in a file beside the data.
pub(crate) fn read_private(path: &Path) -> Result<Secret, FileError> {
    of_bytes(path, disk::read_private(path, ROOT_BYTES)?.as_mut_slice())
}

/// The root in a credential. Its mode is systemd's business: it shows a group where an access list stands.
pub(crate) fn read_credential(path: &Path) -> Result<Secret, FileError> {
    of_bytes(path, disk::read(path, ROOT_BYTES)?.as_mut_slice())
}

fn of_bytes(path: &Path, bytes: &mut [u8]) -> Result<Secret, FileError> {
    if bytes.len() != ROOT_BYTES {
        return Err(FileError::RootSize(path.to_owned()));
    }
    Ok(Secret::absorb(bytes)?)
}
