//! Proofs from the tree, and the text form of an inclusion proof (c2sp.org/tlog-proof).

use crate::checkpoint::{Checkpoint, CheckpointError, LogKey, MAX_CHECKPOINT};
use crate::tree::{Fetch, Head, TreeError, with_hashes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use decores_types::Digest;
use tlog_tiles::tlog::{self, Hash, HashReader as _};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Longest inclusion path that is read.
const MAX_PATH: usize = 64;
/// Largest proof that is read, in bytes.
pub const MAX_PROOF: usize = MAX_CHECKPOINT + 64 * 64;

/// That one entry stands in the log, with the checkpoint it can be checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// The entry's index.
    pub index: u64,
    /// Hashes from the leaf's sibling to the root's child.
    pub path: Vec<Digest>,
    /// The signed checkpoint, as it is.
    pub checkpoint: Vec<u8>,
}

/// Why a proof was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Not the text form, or not its one encoding.
    #[error("not a tlog-proof: {0}")]
    Text(&'static str),
    /// The checkpoint is not to be trusted.
    #[error("the proof's checkpoint was refused")]
    Checkpoint(#[source] CheckpointError),
    /// The hashes do not lead to the root.
    #[error("the hashes do not lead from entry {index} to the root of the tree with {size} entries")]
    Path {
        /// The entry's index.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The newer tree does not continue the older.
    #[error("the log with {new} entries does not continue the log with {old} entries")]
    Consistency {
        /// Size of the older tree.
        old: u64,
        /// Size of the newer tree.
        new: u64,
    },
}

impl InclusionProof {
    /// Proves entry `index` under the checkpoint whose signed note is `note`.
    ///
    /// # Errors
    /// If the tiles do not fit the checkpoint, or the entry lies beyond it.
    pub fn make(fetch: &Fetch<'_>, head: Head, note: Vec<u8>, index: u64) -> Result<Self, TreeError> {
        if index >= head.size {
            return Err(TreeError::Beyond { size: head.size, asked: index });
        }
        let path = with_hashes(fetch, head, |reader| {
            let path = tlog::prove_record(head.size, index, reader)?;
            // The reader does not check every tile against the root, so what came of them is checked.
            let leaf = tlog::stored_hash_index(0, index);
            let leaf = reader.read_hashes(&[leaf])?.pop().ok_or(tlog::Error::IndexesNotInTree)?;
            tlog::check_record(&path, head.size, root(head), index, leaf)?;
            Ok(path)
        })?;
        Ok(Self { index, path: digests(path), checkpoint: note })
    }

    /// The text form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads the text form. Extra data is refused: nothing signs it.
    ///
    /// # Errors
    /// If the bytes are not exactly what [`Self::to_bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        if bytes.len() > MAX_PROOF {
            return Err(ProofError::Text("too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ProofError::Text("not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Text("no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(ProofError::Text("not of version 1"));
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.ok_or(ProofError::Text("the second line is not `index N`"))?;
        let index = index.parse().map_err(|_| ProofError::Text("the index is not a number"))?;
        let path: Vec<Digest> = lines.map(parse_hash).collect::<Option<_>>().ok_or(ProofError::Text("not a hash"))?;
        if path.len() > MAX_PATH {
            return Err(ProofError::Text("too many hashes"));
        }
        let this = Self { index, path, checkpoint: checkpoint.as_bytes().to_vec() };
        if this.to_bytes() == bytes { Ok(this) } else { Err(ProofError::Text("another encoding")) }
    }

    /// Checks that `entry` stands in the log of `key`; the checkpoint may hold the log's own signature only.
    ///
    /// # Errors
    /// If the checkpoint or the path is refused.
    pub fn verify(&self, entry: &[u8], key: &LogKey) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open_strict(&self.checkpoint, key).map_err(ProofError::Checkpoint)?;
        let (path, root) = (hashes(&self.path), root(checkpoint.head()));
        tlog::check_record(&path, checkpoint.size, root, self.index, tlog::record_hash(entry))
            .map_err(|_| ProofError::Path { index: self.index, size: checkpoint.size })?;
        Ok(checkpoint)
    }
}

/// Proves that the tree `head` continues its own first `old` entries.
///
/// # Errors
/// If the tiles do not fit the head, or `old` lies beyond it.
pub fn prove_consistency(fetch: &Fetch<'_>, head: Head, old: u64) -> Result<Vec<Digest>, TreeError> {
    if old > head.size {
        return Err(TreeError::Beyond { size: head.size, asked: old });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let proof = with_hashes(fetch, head, |reader| {
        let proof = tlog::prove_tree(head.size, old, reader)?;
        tlog::check_tree(&proof, head.size, root(head), old, tlog::tree_hash(old, reader)?)?;
        Ok(proof)
    });
    proof.map(digests)
}

/// Checks that the tree `new` continues the tree `old`.
///
/// # Errors
/// If it does not, or the proof does not show it.
pub fn check_consistency(proof: &[Digest], old: Head, new: Head) -> Result<(), ProofError> {
    let refused = ProofError::Consistency { old: old.size, new: new.size };
    if old.size == 0 {
        return if proof.is_empty() && old == Head::EMPTY { Ok(()) } else { Err(refused) };
    }
    if proof.len() > MAX_PATH {
        return Err(refused);
    }
    tlog::check_tree(&hashes(proof), new.size, root(new), old.size, root(old)).map_err(|_| refused)
}

fn root(head: Head) -> Hash {
    Hash(*head.root.as_bytes())
}

fn parse_hash(line: &str) -> Option<Digest> {
    let bytes = STANDARD.decode(line).ok()?;
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}

fn digests(hashes: Vec<Hash>) -> Vec<Digest> {
    hashes.into_iter().map(|h| Digest::from_bytes(h.0)).collect()
}

fn hashes(digests: &[Digest]) -> Vec<Hash> {
    digests.iter().map(|d| Hash(*d.as_bytes())).collect()
}
