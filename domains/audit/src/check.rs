//! Checking a whole log: every entry, every tile, the root, and what was seen before.

use crate::checkpoint::Checkpoint;
use crate::event::{Entry, EntryError, Event};
use crate::rows::Rows;
use crate::tree::{Fetch, Head, Place, TILE_WIDTH, TreeError, bundle_of, fetch_tile, split_bundle};
use decores_types::{Attempt, JobId};
use std::collections::HashMap;
use tlog_tiles::tlog::{self, Hash};

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
    let mut rows = Rows::default();
    let mut ends = HashMap::new();
    let mut index = 0;
    while let Some((path, first, width)) = bundle_of(checkpoint.size, index) {
        let bytes = fetch_tile(fetch, &path).map_err(CheckError::Tree)?;
        let entries = split_bundle(&bytes, width).ok_or(CheckError::Bundle(first))?;
        let hashes = Place { level: 0, number: first / TILE_WIDTH, width }.read(fetch).map_err(unfit)?;
        for (index, (entry, expected)) in (first..).zip(entries.iter().zip(hashes)) {
            let hash = tlog::record_hash(entry);
            if hash != expected {
                return Err(CheckError::Changed(index));
            }
            check_entry(index, entry, &mut ends)?;
            for (place, hashes) in rows.push(hash) {
                compare(fetch, place, &hashes)?;
            }
            if index + 1 == remembered.size && rows.root() != remembered.root {
                return Err(CheckError::Rewritten(remembered.size));
            }
        }
        index = first + width;
        progress(index, checkpoint.size);
    }
    for (place, hashes) in rows.partial() {
        compare(fetch, place, hashes)?;
    }
    if rows.root() == checkpoint.root { Ok(()) } else { Err(CheckError::Root(checkpoint.size)) }
}

fn compare(fetch: &Fetch<'_>, place: Place, hashes: &[Hash]) -> Result<(), CheckError> {
    if place.read(fetch).map_err(unfit)? == hashes { Ok(()) } else { Err(CheckError::Tile(place.path())) }
}

fn unfit(error: TreeError) -> CheckError {
    match error {
        TreeError::Damaged(path) => CheckError::Tile(path),
        error => CheckError::Tree(error),
    }
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
