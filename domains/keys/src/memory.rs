//! A keystore that ends with the process: for tests.

use crate::error::KeyError;
use crate::key::{Algorithm, KeyInfo, KeyState, Purpose, RootSource};
use crate::ports::KeyStore;
use crate::private_key::{self, NewKey};
use decores_secrets::Secret;
use decores_types::{KeyId, Random, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keys in the arena, nowhere else.
pub struct MemoryKeyStore {
    random: Arc<dyn Random>,
    keys: Mutex<Vec<Held>>,
}

struct Held {
    info: KeyInfo,
    private: Option<Secret>,
}

impl MemoryKeyStore {
    /// An empty keystore.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self { random, keys: Mutex::new(Vec::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: &KeyId, f: impl FnOnce(&mut Held) -> Result<T, KeyError>) -> Result<T, KeyError> {
        f(self.lock().iter_mut().find(|k| k.info.id == *id).ok_or(KeyError::Unknown(*id))?)
    }
}

impl Held {
    fn private(&self) -> Result<&Secret, KeyError> {
        self.private.as_ref().ok_or(KeyError::Destroyed(self.info.id))
    }

    fn storage(&self) -> Result<&Secret, KeyError> {
        if self.info.algorithm != Algorithm::Aes256Gcm {
            return Err(KeyError::Unfit(self.info.algorithm));
        }
        self.private()
    }
}

impl KeyStore for MemoryKeyStore {
    fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        Ok(self.lock().iter().map(|k| k.info.clone()).collect())
    }

    fn create(&self, purpose: Purpose, now: Timestamp) -> Result<KeyInfo, KeyError> {
        let mut keys = self.lock();
        let known: Vec<KeyInfo> = keys.iter().map(|k| k.info.clone()).collect();
        let NewKey { info, private } = private_key::next_key(purpose, &known, now, &*self.random)?;
        for key in keys.iter_mut().filter(|k| k.info.purpose == purpose && k.info.state == KeyState::Active) {
            key.info.state = KeyState::Retired;
        }
        keys.push(Held { info: info.clone(), private: Some(private) });
        Ok(info)
    }

    fn sign(&self, id: &KeyId, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.with(id, |key| {
            private_key::may_seal(&key.info)?;
            private_key::sign(&key.info, key.private()?, message)
        })
    }

    fn wrap(&self, id: &KeyId, secret: &Secret, aad: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.with(id, |key| {
            private_key::may_seal(&key.info)?;
            private_key::wrap(key.storage()?, secret, aad, &*self.random)
        })
    }

    fn unwrap(&self, id: &KeyId, wrapped: &[u8], aad: &[u8]) -> Result<Secret, KeyError> {
        self.with(id, |key| private_key::unwrap(key.storage()?, wrapped, aad))
    }

    fn open_symmetric(&self, id: &KeyId) -> Result<Secret, KeyError> {
        self.with(id, |key| {
            if !key.info.algorithm.is_symmetric() {
                return Err(KeyError::Unfit(key.info.algorithm));
            }
            Ok(Secret::from_slice(key.private()?.expose())?)
        })
    }

    fn retire(&self, id: &KeyId) -> Result<(), KeyError> {
        self.with(id, |key| {
            private_key::may_open(&key.info)?;
            key.info.state = KeyState::Retired;
            Ok(())
        })
    }

    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.with(id, |key| {
            if key.info.state == KeyState::Active {
                return Err(KeyError::Active(key.info.id));
            }
            key.private = None;
            key.info.state = KeyState::Destroyed;
            Ok(())
        })
    }

    fn root_source(&self) -> RootSource {
        RootSource::Volatile
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::random::TestRandom;

    #[test]
    fn keeps_the_contract() {
        crate::contract::check(&MemoryKeyStore::new(Arc::new(TestRandom::new("memory"))));
    }
}
