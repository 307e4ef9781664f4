//! Checkpoints: a signed statement of the log's size and root (c2sp.org/tlog-checkpoint).
//!
//! Two readers: [`Checkpoint::open`] for a log being read, where lines by keys we do not know are
//! ignored as C2SP says; and [`Checkpoint::open_strict`] for receipts, where nothing unsigned may stand.

use crate::tree::Head;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use decores_types::Digest;
use signed_note::{Note, Signature, Verifier, VerifierList};
use std::fmt;
use tlog_tiles::tlog::Hash;

/// Largest checkpoint that is read, in bytes.
pub const MAX_CHECKPOINT: usize = 16 * 1024;
/// Largest tree that is read: what a JSON number holds exactly.
pub const MAX_SIZE: u64 = 1 << 53;
/// Signature type Ed25519 of c2sp.org/signed-note.
const ALG_ED25519: u8 = 1;

/// The size and root of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Digest,
}

/// Signs checkpoints; the key may live elsewhere.
pub trait LogSigner: Send + Sync {
    /// The public side.
    fn key(&self) -> &LogKey;

    /// An Ed25519 signature of `message`.
    ///
    /// # Errors
    /// If the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError>;
}

/// The signing key did not do it.
#[derive(Debug, thiserror::Error)]
#[error("the log key did not sign")]
pub struct SignerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A log's public key; text form `name+hex key id+base64` (a `vkey`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    id: u32,
    public: [u8; 32],
}

/// Why a checkpoint or log key was refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not `name+hex+base64`, or of another algorithm, or the id does not fit.
    #[error("not a log key of the form `name+hex id+base64`")]
    Key,
    /// Too long.
    #[error("checkpoint has {0} bytes, at most {MAX_CHECKPOINT} are read")]
    TooLarge(usize),
    /// Not a signed note in its one encoding.
    #[error("checkpoint is not a signed note")]
    Note,
    /// Not by the pinned key, or the signature does not fit.
    #[error("checkpoint is not signed by log key `{0}`")]
    Signature(LogKey),
    /// A line that is not the one signature of the pinned key.
    #[error("checkpoint has a signature line other than the log's own")]
    UnknownLine,
    /// The signed text is no checkpoint.
    #[error("signed note is not a checkpoint")]
    Body,
    /// Of another log.
    #[error("checkpoint is of log `{found}`, not `{expected}`")]
    Origin {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The key did not sign.
    #[error("failed to sign the checkpoint")]
    Sign(#[source] SignerError),
}

impl LogKey {
    /// The key of a log by name and raw public key.
    ///
    /// # Errors
    /// If the name is empty or holds spaces or `+`.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, CheckpointError> {
        if !signed_note::is_key_name_valid(name) || name.chars().any(char::is_control) || name.len() > 256 {
            return Err(CheckpointError::Key);
        }
        let typed = [&[ALG_ED25519], public.as_slice()].concat();
        Ok(Self { name: name.to_owned(), id: signed_note::key_id(name, &typed), public })
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// If it is not exactly what [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CheckpointError::Key);
        };
        let key = STANDARD.decode(key).map_err(|_| CheckpointError::Key)?;
        let public = match key.split_first() {
            Some((&ALG_ED25519, public)) => public.try_into().map_err(|_| CheckpointError::Key)?,
            _ => return Err(CheckpointError::Key),
        };
        let this = Self::new(name, public)?;
        if this.to_string() == text { Ok(this) } else { Err(CheckpointError::Key) }
    }

    /// The log's name: the origin of its checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short id in front of signatures.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The raw public key.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = [&[ALG_ED25519], self.public.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(typed))
    }
}

impl Verifier for LogKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(message, signature).is_ok()
    }
}

impl Checkpoint {
    /// Its tree.
    pub const fn head(&self) -> Head {
        Head { size: self.size, root: self.root }
    }

    /// The signed note.
    ///
    /// # Errors
    /// If the signer fails, or signs what its own key does not verify.
    pub fn sign(&self, signer: &dyn LogSigner) -> Result<Vec<u8>, CheckpointError> {
        let key = signer.key();
        let text = self.body()?;
        let signature = signer.sign(&text).map_err(CheckpointError::Sign)?;
        if !key.verify(&text, &signature) {
            return Err(CheckpointError::Signature(key.clone()));
        }
        let line = Signature::new(key.name.clone(), key.id, signature.to_vec()).map_err(|_| CheckpointError::Key)?;
        Note::new(&text, &[line]).map(|note| note.to_bytes()).map_err(|_| CheckpointError::Note)
    }

    /// Reads a log's checkpoint; lines by unknown keys (witnesses) are ignored.
    ///
    /// # Errors
    /// If `key` did not sign it, or it is of another log.
    pub fn open(bytes: &[u8], key: &LogKey) -> Result<Self, CheckpointError> {
        Self::read(bytes, key).map(|(this, _)| this)
    }

    /// Reads a checkpoint that holds the log's own signature and nothing else.
    ///
    /// # Errors
    /// As [`Self::open`], and if any other line stands in it.
    pub fn open_strict(bytes: &[u8], key: &LogKey) -> Result<Self, CheckpointError> {
        let (this, own_only) = Self::read(bytes, key)?;
        if own_only == bytes { Ok(this) } else { Err(CheckpointError::UnknownLine) }
    }

    /// The checkpoint, and the note with the one verified signature.
    fn read(bytes: &[u8], key: &LogKey) -> Result<(Self, Vec<u8>), CheckpointError> {
        if bytes.len() > MAX_CHECKPOINT {
            return Err(CheckpointError::TooLarge(bytes.len()));
        }
        let note = Note::from_bytes(bytes).map_err(|_| CheckpointError::Note)?;
        let known = VerifierList::new(vec![Box::new(key.clone())]);
        let (verified, _) = note.verify(&known).map_err(|_| CheckpointError::Signature(key.clone()))?;
        let this = Self::parse_body(note.text())?;
        if this.origin != key.name {
            return Err(CheckpointError::Origin { found: this.origin, expected: key.name.clone() });
        }
        let own_only = Note::new(note.text(), &verified).map_err(|_| CheckpointError::Note)?.to_bytes();
        Ok((this, own_only))
    }

    fn body(&self) -> Result<Vec<u8>, CheckpointError> {
        if self.size > MAX_SIZE {
            return Err(CheckpointError::Body);
        }
        tlog_tiles::Checkpoint::new(&self.origin, self.size, Hash(*self.root.as_bytes()), "")
            .map(|c| c.to_bytes())
            .map_err(|_| CheckpointError::Body)
    }

    /// Extension lines are refused: we write none, and what they would mean is unknown.
    fn parse_body(text: &[u8]) -> Result<Self, CheckpointError> {
        let parsed = tlog_tiles::Checkpoint::from_bytes(text).map_err(|_| CheckpointError::Body)?;
        let this =
            Self { origin: parsed.origin().to_owned(), size: parsed.size(), root: Digest::from_bytes(parsed.hash().0) };
        if this.body()? == text { Ok(this) } else { Err(CheckpointError::Body) }
    }
}
