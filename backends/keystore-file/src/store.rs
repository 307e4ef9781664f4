//! The keystore.

use crate::disk;
use crate::document::{Document, MAX_BYTES, Record, Root};
use crate::error::FileError;
use crate::root::{self, ROOT_BYTES, RootInput};
use decores_keys::private_key::{self, NewKey};
use decores_keys::{Algorithm, KeyError, KeyInfo, KeyState, KeyStore, Purpose, RootSource};
use decores_secrets::Secret;
use decores_types::{KeyId, Random, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The keystore's name in its folder.
pub const KEYSTORE_FILE: &str = "keystore.json";
/// The root's name beside it, where it is kept there.
pub const ROOT_FILE: &str = "root.key";

/// A keystore in a file. One process owns it.
pub struct FileKeyStore {
    folder: PathBuf,
    random: Arc<dyn Random>,
    open: Mutex<Open>,
}

/// The file's content and the root that opens it.
struct Open {
    document: Document,
    root: Secret,
}

impl FileKeyStore {
    /// Makes an empty keystore in a folder that has none.
    pub fn create(folder: &Path, input: RootInput<'_>, random: Arc<dyn Random>) -> Result<Self, FileError> {
        let path = folder.join(KEYSTORE_FILE);
        if path.exists() {
            return Err(FileError::Exists(path));
        }
        let (root, entry) = new_root(folder, input, &*random)?;
        let open = Open { document: Document::empty(entry), root };
        disk::replace(&path, &open.document.to_bytes()?)?;
        Ok(Self { folder: folder.to_owned(), random, open: Mutex::new(open) })
    }

    /// Opens a keystore and checks that every key in it opens.
    pub fn open(folder: &Path, input: RootInput<'_>, random: Arc<dyn Random>) -> Result<Self, FileError> {
        let document = read(folder)?;
        let root = known_root(folder, &document.root, input)?;
        if !document.root.fits(&root) {
            return Err(FileError::WrongRoot(document.root.source));
        }
        for key in document.keys.iter().filter(|k| k.info().state != KeyState::Destroyed) {
            key.unwrap(&root)?;
        }
        Ok(Self { folder: folder.to_owned(), random, open: Mutex::new(Open { document, root }) })
    }

    /// Where the root of a folder's keystore comes from: what to ask a person for. `None` if there is no keystore.
    pub fn source(folder: &Path) -> Result<Option<RootSource>, FileError> {
        if !folder.join(KEYSTORE_FILE).exists() {
            return Ok(None);
        }
        Ok(Some(read(folder)?.root.source))
    }

    /// Wraps every key under another root. The old root opens the new file no more; copies of the old file it does.
    pub fn change_root(&self, input: RootInput<'_>) -> Result<(), FileError> {
        let mut open = self.lock();
        let old_source = open.document.root.source;
        if old_source == RootSource::BesideData && input.source() == RootSource::BesideData {
            // One file cannot hold the root of the old keystore and of the new one, and a crash may leave either.
            return Err(FileError::SameSource);
        }
        let (root, entry) = new_root(&self.folder, input, &*self.random)?;
        let keys = open.document.keys.iter().map(|k| k.rewrap(&open.root, &root, &*self.random));
        let document = Document::with_root(keys.collect::<Result<_, _>>()?, entry);
        disk::replace(&self.folder.join(KEYSTORE_FILE), &document.to_bytes()?)?;
        *open = Open { document, root };
        if old_source == RootSource::BesideData {
            disk::remove(&self.folder.join(ROOT_FILE))?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key that may open, and its private side; the latter is gone again when the caller is done.
    fn unwrapped(&self, id: &KeyId) -> Result<(KeyInfo, Secret), KeyError> {
        let open = self.lock();
        let record = open.document.keys.iter().find(|k| k.id() == *id).ok_or(KeyError::Unknown(*id))?;
        let info = record.info();
        private_key::may_open(&info)?;
        Ok((info, record.unwrap(&open.root)?))
    }

    /// Changes the keys, first on disk, then here.
    fn change<T>(&self, f: impl FnOnce(&mut Vec<Record>, &Secret) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let mut open = self.lock();
        let mut keys = open.document.keys.clone();
        let done = f(&mut keys, &open.root)?;
        let document = Document::with_root(keys, open.document.root.clone());
        disk::replace(&self.folder.join(KEYSTORE_FILE), &document.to_bytes()?)?;
        open.document = document;
        Ok(done)
    }
}

fn read(folder: &Path) -> Result<Document, FileError> {
    Document::parse(&disk::read_private(&folder.join(KEYSTORE_FILE), MAX_BYTES)?)
}

/// A new root, in the place it is kept, and the file's entry for it.
fn new_root(folder: &Path, input: RootInput<'_>, random: &dyn Random) -> Result<(Secret, Root), FileError> {
    let (root, kdf) = match input {
        RootInput::Passphrase(passphrase) => {
            let kdf = root::new_kdf(random);
            (root::derive(passphrase, &kdf)?, Some(kdf))
        }
        RootInput::Credential(path) => (root::read_credential(path)?, None),
        RootInput::BesideData => {
            let root = Secret::filled(ROOT_BYTES, |out| random.fill(out))?;
            disk::replace(&folder.join(ROOT_FILE), root.expose())?;
            (root, None)
        }
    };
    let entry = Root::new(input.source(), kdf, &root, random)?;
    Ok((root, entry))
}

/// The root of an existing keystore.
fn known_root(folder: &Path, entry: &Root, input: RootInput<'_>) -> Result<Secret, FileError> {
    if entry.source != input.source() {
        return Err(FileError::OtherSource { wanted: entry.source, given: input.source() });
    }
    match (input, &entry.kdf) {
        (RootInput::Passphrase(passphrase), Some(kdf)) => root::derive(passphrase, kdf),
        (RootInput::Passphrase(_), None) => Err(FileError::Malformed("`kdf` is missing")),
        (RootInput::Credential(path), _) => root::read_credential(path),
        (RootInput::BesideData, _) => root::read_private(&folder.join(ROOT_FILE)),
    }
}

/// Refuses keys that do not seal under AES.
fn storage_key(info: &KeyInfo) -> Result<(), KeyError> {
    if info.algorithm == Algorithm::Aes256Gcm { Ok(()) } else { Err(KeyError::Unfit(info.algorithm)) }
}

impl KeyStore for FileKeyStore {
    fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        Ok(self.lock().document.keys.iter().map(Record::info).collect())
    }

    fn create(&self, purpose: Purpose, now: Timestamp) -> Result<KeyInfo, KeyError> {
        self.change(|keys, root| {
            let known: Vec<KeyInfo> = keys.iter().map(Record::info).collect();
            let NewKey { info, private } = private_key::next_key(purpose, &known, now, &*self.random)?;
            for (key, was) in keys.iter_mut().zip(&known) {
                if was.purpose == purpose && was.state == KeyState::Active {
                    key.retire();
                }
            }
            keys.push(Record::wrap(info.clone(), &private, root, &*self.random)?);
            Ok(info)
        })
    }

    fn sign(&self, id: &KeyId, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let (info, private) = self.unwrapped(id)?;
        private_key::may_seal(&info)?;
        private_key::sign(&info, &private, message)
    }

    fn wrap(&self, id: &KeyId, secret: &Secret, aad: &[u8]) -> Result<Vec<u8>, KeyError> {
        let (info, private) = self.unwrapped(id)?;
        storage_key(&info)?;
        private_key::may_seal(&info)?;
        private_key::wrap(&private, secret, aad, &*self.random)
    }

    fn unwrap(&self, id: &KeyId, wrapped: &[u8], aad: &[u8]) -> Result<Secret, KeyError> {
        let (info, private) = self.unwrapped(id)?;
        storage_key(&info)?;
        private_key::unwrap(&private, wrapped, aad)
    }

    fn open_symmetric(&self, id: &KeyId) -> Result<Secret, KeyError> {
        match self.unwrapped(id)? {
            (info, private) if info.algorithm.is_symmetric() => Ok(private),
            (info, _) => Err(KeyError::Unfit(info.algorithm)),
        }
    }

    fn retire(&self, id: &KeyId) -> Result<(), KeyError> {
        self.change(|keys, _| {
            let key = keys.iter_mut().find(|k| k.id() == *id).ok_or(KeyError::Unknown(*id))?;
            private_key::may_open(&key.info())?;
            key.retire();
            Ok(())
        })
    }

    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.change(|keys, _| {
            let key = keys.iter_mut().find(|k| k.id() == *id).ok_or(KeyError::Unknown(*id))?;
            if key.info().state == KeyState::Active {
                return Err(KeyError::Active(*id));
            }
            key.destroy();
            Ok(())
        })
    }

    fn root_source(&self) -> RootSource {
        self.lock().document.root.source
    }
}
