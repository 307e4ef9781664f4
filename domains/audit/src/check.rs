//! Checking a whole log: every entry, every tile, the root, and what was seen before.

use crate::checkpoint::Checkpoint;
use crate::event::{Entry, EntryError, Event};
use crate::tree::{Fetch, Head, TILE_WIDTH, TreeError, bundle_of, fetch_tile, hash_tile_path, leaf_hash, split_bundle};
use decores_types::{Attempt, Digest, JobId};
use std::collections::HashMap;
use tlog_tiles::tlog::{EMPTY_HASH, HASH_SIZE, Hash, node_hash};

/// Why a log is not to be relied on.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A tile or bundle cannot be read.
    #[error("failed to read the log")]
    Tree(#[source] TreeError),
    /// A bundle does not hold its entries.
    #[error("the bundle with entry {0} is damaged")]
    Bundle(u64),
    /// An entry is not what the tiles say.
    #[error("entry {0} is not the one in the log's tree: it was changed")]
    Changed(u64),
    /// A tile is not what its entries hash to.
    #[error("tile `{0}` does not fit the entries below it")]
    Tile(String),
    /// An entry does not read.
    #[error("entry {index} cannot be read")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// Two ends of one attempt.
    #[error("entry {second} ends attempt {attempt} of {job} a second time, entry {first} had ended it")]
    TwoEnds {
        /// The job.
        job: JobId,
        /// Its attempt.
        attempt: Attempt,
        /// Index of the first end.
        first: u64,
        /// Index of the second.
        second: u64,
    },
    /// The entries do not have the signed root.
    #[error("the entries do not have the root that the checkpoint of {0} entries signs")]
    Root(u64),
    /// Smaller than before.
    #[error("the log has {now} entries, it had {before} before: it was cut")]
    Shrunk {
        /// Entries now.
        now: u64,
        /// Entries under the remembered checkpoint.
        before: u64,
    },
    /// Another history.
    #[error("the first {0} entries are not those seen before: the log was rewritten")]
    Rewritten(u64),
}

/// Checks the log under `checkpoint` (already opened with the log's key), and that it continues
/// `remembered`. `progress` is told entries done and entries in all.
///
/// # Errors
/// The first fault, with the index of the entry where it shows.
pub fn check_log(
    fetch: &Fetch<'_>,
    checkpoint: &Checkpoint,
    remembered: Option<&Checkpoint>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), CheckError> {
    let remembered = remembered.map_or(Head::EMPTY, Checkpoint::head);
    if remembered.size > checkpoint.size {
        return Err(CheckError::Shrunk { now: checkpoint.size, before: remembered.size });
    }
    let mut levels = Levels { fetch, rows: Vec::new() };
    let mut ends = HashMap::new();
    let mut index = 0;
    while let Some((path, first, width)) = bundle_of(checkpoint.size, index) {
        let bytes = fetch_tile(fetch, &path).map_err(CheckError::Tree)?;
        let entries = split_bundle(&bytes, width).ok_or(CheckError::Bundle(first))?;
        let hashes = levels.leaf_tile(first / TILE_WIDTH, width)?;
        for (index, (entry, expected)) in (first..).zip(entries.iter().zip(hashes.chunks(HASH_SIZE))) {
            let hash = leaf_hash(entry);
            if hash.as_bytes().as_slice() != expected {
                return Err(CheckError::Changed(index));
            }
            check_entry(index, entry, &mut ends)?;
            levels.push(0, Hash(*hash.as_bytes()))?;
            if index + 1 == remembered.size && levels.root() != remembered.root {
                return Err(CheckError::Rewritten(remembered.size));
            }
        }
        index = first + width;
        progress(index, checkpoint.size);
    }
    levels.check_partial()?;
    if levels.root() == checkpoint.root { Ok(()) } else { Err(CheckError::Root(checkpoint.size)) }
}

fn check_entry(index: u64, bytes: &[u8], ends: &mut HashMap<(JobId, Attempt), u64>) -> Result<(), CheckError> {
    let entry = Entry::parse(bytes).map_err(|source| CheckError::Entry { index, source })?;
    if let Event::JobEnded { job, attempt, .. } = entry.event
        && let Some(first) = ends.insert((job, attempt), index)
    {
        return Err(CheckError::TwoEnds { job, attempt, first, second: index });
    }
    Ok(())
}

/// The tree's hashes at levels 0, 8, 16 …: of each level the tile that is being filled.
struct Levels<'a> {
    fetch: &'a Fetch<'a>,
    rows: Vec<Row>,
}

#[derive(Default)]
struct Row {
    /// Tiles that are full.
    full: u64,
    hashes: Vec<Hash>,
}

impl Levels<'_> {
    fn leaf_tile(&self, number: u64, width: u64) -> Result<Vec<u8>, CheckError> {
        self.tile(0, number, width).map(|(_, bytes)| bytes)
    }

    fn tile(&self, level: u8, number: u64, width: u64) -> Result<(String, Vec<u8>), CheckError> {
        let path = hash_tile_path(level, number, width);
        let mut bytes = fetch_tile(self.fetch, &path).map_err(CheckError::Tree)?;
        bytes.truncate(width as usize * HASH_SIZE);
        if bytes.len() as u64 == width * HASH_SIZE as u64 { Ok((path, bytes)) } else { Err(CheckError::Tile(path)) }
    }

    /// Adds a hash at a level; a tile that is full is compared and becomes one hash of the level above.
    fn push(&mut self, level: u8, hash: Hash) -> Result<(), CheckError> {
        let at = usize::from(level);
        if self.rows.len() <= at {
            self.rows.resize_with(at + 1, Row::default);
        }
        let Some(row) = self.rows.get_mut(at) else { return Ok(()) };
        row.hashes.push(hash);
        if (row.hashes.len() as u64) < TILE_WIDTH {
            return Ok(());
        }
        let (number, hashes) = (row.full, std::mem::take(&mut row.hashes));
        row.full += 1;
        self.compare(level, number, &hashes)?;
        match fold(&hashes) {
            Some(root) => self.push(level + 1, root),
            None => Ok(()),
        }
    }

    fn compare(&self, level: u8, number: u64, hashes: &[Hash]) -> Result<(), CheckError> {
        let (path, bytes) = self.tile(level, number, hashes.len() as u64)?;
        let same = bytes.chunks(HASH_SIZE).zip(hashes).all(|(found, hash)| found == hash.0);
        if same { Ok(()) } else { Err(CheckError::Tile(path)) }
    }

    fn check_partial(&self) -> Result<(), CheckError> {
        for (level, row) in (0_u8..).zip(&self.rows) {
            if !row.hashes.is_empty() {
                self.compare(level, row.full, &row.hashes)?;
            }
        }
        Ok(())
    }

    /// The root over all that was pushed: full subtrees joined from the right, where the lowest levels are.
    fn root(&self) -> Digest {
        let mut root = None;
        for row in &self.rows {
            let mut rest = row.hashes.as_slice();
            while !rest.is_empty() {
                let (left, subtree) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
                root = match (fold(subtree), root) {
                    (Some(subtree), Some(right)) => Some(node_hash(subtree, right)),
                    (subtree, right) => subtree.or(right),
                };
                rest = left;
            }
        }
        Digest::from_bytes(root.unwrap_or(EMPTY_HASH).0)
    }
}

/// The hash over as many hashes as a power of two.
fn fold(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            Some(node_hash(fold(left)?, fold(right)?))
        }
    }
}
