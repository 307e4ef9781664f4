//! What a client remembers, under `$DECORES_HOME/client/`.
//!
//! | File | Holds |
//! |---|---|
//! | `login.json` | the node we talk to: URL, identity, certificate authority |
//! | `api-key` | the API key for it |
//! | `known-nodes.json` | which identity stood behind which URL |
//! | `trust.json` | the trust file (docs/formats/receipt.md) |
//! | `jobs/<job>.json` | what only we know of a job: see [`crate::JobRecord`] |
//! | `program-key` | names our programs to nodes that keep them compiled, without telling what they are |
//! | `checkpoint-<identity>` | the newest checkpoint of a node's log that we verified |
//!
//! All of them are 0600, and the folder 0700.

use crate::connection::ApiKey;
use crate::files::{self, PRIVATE};
use crate::{ClientError, Connection, JobRecord, NodeUrl};
use decores_types::{Base64, CommitmentKey, ConsumerId, JobId, KeyId, Random, canonical};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest file of ours that is read.
const MAX_FILE: u64 = 4 << 20;

/// The node we talk to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Format version: 1.
    pub version: u32,
    /// Where it is.
    pub url: NodeUrl,
    /// What it calls itself.
    pub name: String,
    /// Its pinned identity.
    pub identity: KeyId,
    /// The raw Ed25519 key of that identity.
    pub identity_public: Base64,
    /// Its pinned certificate authority, DER.
    pub ca: Base64,
    /// Who we are there.
    pub consumer: ConsumerId,
}

impl Login {
    /// The pinned identity key; refused if its id is another's.
    pub fn identity_key(&self) -> Result<[u8; 32], ClientError> {
        let key = self.identity_public.array::<32>();
        key.filter(|k| KeyId::of_public("ed25519", k) == self.identity)
            .ok_or_else(|| ClientError::Mismatch("our own login: its identity is not the id of its key".to_owned()))
    }
}

/// The folder of a client.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at `root` (`$DECORES_HOME`); nothing is made until something is written.
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// `$DECORES_HOME` itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the trust file is.
    pub fn trust_path(&self) -> PathBuf {
        self.file("trust.json")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join("client").join(name)
    }

    /// The node we are logged in to.
    pub fn login(&self) -> Result<Login, ClientError> {
        let path = self.file("login.json");
        let login: Login = read_json(&path)?.ok_or_else(|| ClientError::NoLogin(path.clone()))?;
        if login.version == 1 { Ok(login) } else { Err(damaged(&path, format!("version {}", login.version))) }
    }

    /// Remembers the node, its URL and the API key.
    pub fn save_login(&self, login: &Login, key: &ApiKey) -> Result<(), ClientError> {
        let mut known = self.known_nodes()?;
        known.insert(login.url.clone(), login.identity);
        self.write("known-nodes.json", &known)?;
        self.write_bytes("api-key", format!("{}\n", key.expose()).as_bytes())?;
        self.write("login.json", login)
    }

    /// Which identity stood behind which URL so far.
    pub fn known_nodes(&self) -> Result<BTreeMap<NodeUrl, KeyId>, ClientError> {
        Ok(read_json(&self.file("known-nodes.json"))?.unwrap_or_default())
    }

    /// The API key that was given at login.
    pub fn api_key(&self) -> Result<Option<ApiKey>, ClientError> {
        let bytes = files::read_private(&self.file("api-key"), 1024)?;
        let text = bytes.map(|b| String::from_utf8_lossy(&b).into_owned());
        text.as_deref().map(ApiKey::parse).transpose()
    }

    /// A verified connection to the node we are logged in to; `url` and `key` take the place of what login stored.
    pub fn connect(&self, url: Option<NodeUrl>, key: Option<ApiKey>) -> Result<(Login, Connection), ClientError> {
        let login = self.login()?;
        let key = match key {
            Some(key) => key,
            None => self.api_key()?.ok_or_else(|| ClientError::NoLogin(self.file("api-key")))?,
        };
        let url = url.unwrap_or_else(|| login.url.clone());
        let connection = Connection::pinned(url, &login.ca.0, Some(&key))?;
        Ok((login, connection))
    }

    /// What we know of a job.
    pub fn job(&self, job: JobId) -> Result<Option<JobRecord>, ClientError> {
        read_json(&self.job_file(&job.to_string()))
    }

    /// Keeps what we know of a job, under its id as soon as it has one.
    pub fn save_job(&self, record: &JobRecord) -> Result<(), ClientError> {
        let name = record.job.map_or_else(|| pending(record), |job| job.to_string());
        self.write(&format!("jobs/{name}.json"), record)?;
        if record.job.is_some() { self.forget_pending(record) } else { Ok(()) }
    }

    /// Removes what was kept of a job before it had an id.
    pub(crate) fn forget_pending(&self, record: &JobRecord) -> Result<(), ClientError> {
        let path = self.job_file(&pending(record));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(files::failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn job_file(&self, name: &str) -> PathBuf {
        self.file(&format!("jobs/{name}.json"))
    }

    /// Where to put something sealed for a moment.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, ClientError> {
        let folder = self.file("jobs");
        files::private_folder(&folder)?;
        Ok(folder.join(name))
    }

    /// The newest checkpoint of this node's log that we verified.
    pub fn checkpoint(&self, node: KeyId) -> Result<Option<Vec<u8>>, ClientError> {
        files::read(&self.file(&format!("checkpoint-{node}")), 64 * 1024)
    }

    /// Remembers a verified checkpoint.
    pub fn save_checkpoint(&self, node: KeyId, checkpoint: &[u8]) -> Result<(), ClientError> {
        self.write_bytes(&format!("checkpoint-{node}"), checkpoint)
    }

    /// The bytes of the trust file.
    pub fn trust(&self) -> Result<Option<Vec<u8>>, ClientError> {
        files::read(&self.trust_path(), MAX_FILE)
    }

    /// Replaces the trust file.
    pub fn save_trust(&self, trust: &[u8]) -> Result<(), ClientError> {
        self.write_bytes("trust.json", trust)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), ClientError> {
        let path = self.file(name);
        let bytes = canonical::to_vec(value).map_err(|e| damaged(&path, e))?;
        self.write_bytes(name, &bytes)
    }

    /// The key that kept programs are named by; drawn when it is first needed.
    pub(crate) fn program_key(&self, random: &dyn Random) -> Result<CommitmentKey, ClientError> {
        const NAME: &str = "program-key";
        let path = self.file(NAME);
        if let Some(bytes) = files::read_private(&path, 1024)? {
            let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| damaged(&path, "not 32 bytes".to_owned()))?;
            return Ok(CommitmentKey::from_bytes(bytes));
        }
        let key = CommitmentKey::random(random);
        self.write_bytes(NAME, key.expose())?;
        Ok(key)
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let path = self.file(name);
        if let Some(folder) = path.parent() {
            files::private_folder(folder)?;
        }
        files::replace(&path, PRIVATE, bytes)
    }
}

fn pending(record: &JobRecord) -> String {
    format!("pending-{}", record.idempotency_key)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ClientError> {
    let Some(bytes) = files::read_private(path, MAX_FILE)? else { return Ok(None) };
    canonical::from_json(&bytes, bytes.len()).map(Some).map_err(|e| damaged(path, e))
}

fn damaged(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Damaged { path: path.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn login() -> Login {
        Login {
            version: 1,
            url: NodeUrl::parse("https://127.0.0.1:7443").unwrap(),
            name: "attic".to_owned(),
            identity: KeyId::of_public("ed25519", &[9; 32]),
            identity_public: Base64(vec![9; 32]),
            ca: Base64(vec![1, 2, 3]),
            consumer: ConsumerId::from_bytes([8; 16]),
        }
    }

    #[test]
    fn a_login_comes_back_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("home"));
        assert!(matches!(home.login(), Err(ClientError::NoLogin(_))));
        home.save_login(&login(), &ApiKey::parse("dck_abc").unwrap()).unwrap();
        assert_eq!(home.login().unwrap(), login());
        assert_eq!(home.api_key().unwrap().unwrap().expose(), "dck_abc");
        assert_eq!(home.known_nodes().unwrap().get(&login().url), Some(&login().identity));
        for name in ["login.json", "api-key", "known-nodes.json"] {
            let mode = std::fs::metadata(home.file(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let mode = std::fs::metadata(home.root().join("client")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_login_with_unknown_members_or_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        home.write("login.json", &serde_json::json!({"version": 1, "extra": true})).unwrap();
        assert!(matches!(home.login(), Err(ClientError::Damaged { .. })));
        home.write("login.json", &Login { version: 2, ..login() }).unwrap();
        assert!(matches!(home.login(), Err(ClientError::Damaged { .. })));
    }

    #[test]
    fn a_login_whose_key_is_another_identitys_is_refused() {
        assert!(login().identity_key().is_ok());
        assert!(Login { identity: KeyId::from_bytes([7; 16]), ..login() }.identity_key().is_err());
    }

    #[test]
    fn a_checkpoint_and_a_trust_file_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        let node = KeyId::from_bytes([1; 16]);
        assert!(home.checkpoint(node).unwrap().is_none());
        home.save_checkpoint(node, b"c").unwrap();
        home.save_trust(b"{}").unwrap();
        assert_eq!(home.checkpoint(node).unwrap().unwrap(), b"c");
        assert_eq!(home.trust().unwrap().unwrap(), b"{}");
    }
}
