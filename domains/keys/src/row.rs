//! Rows and blobs at rest (`docs/formats/keys.md`).

use crate::error::KeyError;
use crate::key::{KeyState, Purpose};
use crate::ports::KeyStore;
use crate::private_key::aes;
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use decores_secrets::{Secret, Zeroizing};
use decores_types::ambient::random_bytes;
use decores_types::{KeyId, Random};

const MAGIC: &[u8; 4] = b"DCR1";
/// Bytes before the ciphertext.
const HEADER: usize = 4 + 16 + 4 + NONCE_LEN;

/// Why a row was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Not a sealed row.
    #[error("not a sealed row")]
    Magic,
    /// Sealed under a key that is not here.
    #[error("the row is sealed under {0}, epoch {1}, which is not here")]
    Key(KeyId, u32),
    /// Altered, or moved from another table or id.
    #[error("the row does not authenticate: it was altered or moved")]
    Refused,
    /// There is no storage key to seal under.
    #[error("the keystore has no active storage key")]
    NoKey,
    /// The keystore or the library failed.
    #[error("failed to use a storage key")]
    Store(#[from] KeyError),
}

/// A storage key in locked memory; AWS-LC expands it for the length of one row.
#[derive(Debug)]
pub struct RowKey {
    id: KeyId,
    epoch: u32,
    key: Secret,
}

impl RowKey {
    /// The storage key of this id and epoch.
    pub const fn new(id: KeyId, epoch: u32, key: Secret) -> Self {
        Self { id, epoch, key }
    }

    /// Seals a value for one place; tables' names hold no zero byte.
    pub fn seal(
        &self,
        table: &'static str,
        row: &[u8],
        value: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, RowError> {
        let nonce = random_bytes::<NONCE_LEN>(random);
        let mut sealed = Zeroizing::new(value.to_vec());
        let tag = aes(&self.key)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad(table, row)), &mut sealed)
            .map_err(|_| RowError::Refused)?;
        let epoch = self.epoch.to_be_bytes();
        Ok([MAGIC.as_slice(), self.id.as_bytes(), &epoch, &nonce, &sealed, tag.as_ref()].concat())
    }

    /// Opens a value in its place.
    pub fn open(&self, table: &'static str, row: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, RowError> {
        let (id, epoch) = key_of_row(sealed)?;
        if (id, epoch) != (self.id, self.epoch) {
            return Err(RowError::Key(id, epoch));
        }
        let (header, sealed) = sealed.split_at_checked(HEADER).ok_or(RowError::Magic)?;
        let nonce = header.last_chunk::<NONCE_LEN>().ok_or(RowError::Magic)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let len = aes(&self.key)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad(table, row)), &mut opened)
            .map_err(|_| RowError::Refused)?
            .len();
        opened.truncate(len);
        Ok(opened)
    }
}

/// The key and epoch a row is sealed under.
fn key_of_row(sealed: &[u8]) -> Result<(KeyId, u32), RowError> {
    let rest = sealed.strip_prefix(MAGIC).filter(|_| sealed.len() >= HEADER).ok_or(RowError::Magic)?;
    let (id, rest) = rest.split_first_chunk().ok_or(RowError::Magic)?;
    let (epoch, _) = rest.split_first_chunk().ok_or(RowError::Magic)?;
    Ok((KeyId::from_bytes(*id), u32::from_be_bytes(*epoch)))
}

fn aad(table: &str, row: &[u8]) -> Vec<u8> {
    [b"decores row v1\0", table.as_bytes(), b"\0", row].concat()
}

/// The storage keys of a keystore: the active one seals, all open.
#[derive(Debug)]
pub struct RowKeys {
    active: RowKey,
    retired: Vec<RowKey>,
}

impl RowKeys {
    /// Takes the storage keys out of a keystore into locked memory.
    pub fn load(store: &dyn KeyStore) -> Result<Self, RowError> {
        let (mut active, mut retired) = (None, Vec::new());
        for info in store.list()?.into_iter().filter(|k| k.purpose == Purpose::Storage) {
            match info.state {
                KeyState::Active => active = Some(RowKey::new(info.id, info.epoch, store.open_symmetric(&info.id)?)),
                KeyState::Retired => retired.push(RowKey::new(info.id, info.epoch, store.open_symmetric(&info.id)?)),
                KeyState::Destroyed => {}
            }
        }
        Ok(Self { active: active.ok_or(RowError::NoKey)?, retired })
    }

    /// Seals under the active key.
    pub fn seal(
        &self,
        table: &'static str,
        row: &[u8],
        value: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, RowError> {
        self.active.seal(table, row, value, random)
    }

    /// Opens under whichever key the row names.
    pub fn open(&self, table: &'static str, row: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, RowError> {
        let (id, epoch) = key_of_row(sealed)?;
        let mut keys = std::iter::once(&self.active).chain(&self.retired);
        keys.find(|k| (k.id, k.epoch) == (id, epoch)).ok_or(RowError::Key(id, epoch))?.open(table, row, sealed)
    }

    /// Whether a row is due to be sealed again, under the active key.
    pub fn is_stale(&self, sealed: &[u8]) -> bool {
        key_of_row(sealed).is_ok_and(|key| key != (self.active.id, self.active.epoch))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::memory::MemoryKeyStore;
    use crate::random::TestRandom;
    use decores_types::Timestamp;
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp::from_ms(0);

    #[test]
    fn rows_open_in_their_place_and_after_a_rotation() {
        let random = Arc::new(TestRandom::new("rows"));
        let store = MemoryKeyStore::new(random.clone());
        assert!(matches!(RowKeys::load(&store), Err(RowError::NoKey)));
        store.create(Purpose::Storage, NOW).unwrap();
        let keys = RowKeys::load(&store).unwrap();
        let sealed = keys.seal("jobs", b"1", b"value", &*random).unwrap();
        assert_eq!(keys.open("jobs", b"1", &sealed).unwrap().as_slice(), b"value");
        assert!(!keys.is_stale(&sealed));

        let old = store.active(Purpose::Storage).unwrap().unwrap();
        store.create(Purpose::Storage, NOW).unwrap();
        let keys = RowKeys::load(&store).unwrap();
        assert!(keys.is_stale(&sealed));
        assert_eq!(keys.open("jobs", b"1", &sealed).unwrap().as_slice(), b"value");
        store.destroy(&old.id).unwrap();
        let gone = RowKeys::load(&store).unwrap().open("jobs", b"1", &sealed);
        assert!(matches!(gone, Err(RowError::Key(id, 1)) if id == old.id), "what its key took with it stays shut");
    }

    #[test]
    fn refuses_moved_altered_and_cut_rows() {
        let random = TestRandom::new("rows");
        let key = RowKey::new(KeyId::from_bytes([1; 16]), 3, Secret::from_slice(&[2; 32]).unwrap());
        let sealed = key.seal("jobs", b"1", b"", &random).unwrap();
        assert_eq!(sealed.len(), HEADER + 16);
        assert_eq!(key.open("jobs", b"1", &sealed).unwrap().as_slice(), b"");
        assert!(matches!(key.open("jobs", b"2", &sealed), Err(RowError::Refused)));
        assert!(matches!(key.open("job", b"s1", &sealed), Err(RowError::Refused)));
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            let error = key.open("jobs", b"1", &bad).unwrap_err();
            match i {
                0..4 => assert!(matches!(error, RowError::Magic)),
                4..24 => assert!(matches!(error, RowError::Key(..))),
                _ => assert!(matches!(error, RowError::Refused)),
            }
            assert!(key.open("jobs", b"1", &sealed[..i]).is_err());
        }
    }
}
