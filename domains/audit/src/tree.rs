//! The Merkle tree, kept as tiles (c2sp.org/tlog-tiles): how it grows, and how it is read.
//!
//! Tiles have height 8. Whatever is read from them is first checked against a root that is
//! trusted: a changed tile is an error, never a wrong proof.

use crate::event::MAX_ENTRY;
use decores_types::Digest;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use tlog_tiles::tile::{Tile, TileHashReader, TileReader};
use tlog_tiles::tlog::{self, EMPTY_HASH, HASH_SIZE, Hash, HashReader};

/// Height of a tile.
const HEIGHT: u8 = 8;
/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 1 << HEIGHT;

/// Reads a tile or bundle by its path; `None` where there is none.
pub type Fetch<'a> = dyn Fn(&str) -> io::Result<Option<Vec<u8>>> + 'a;

/// The size and root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Root of the Merkle tree.
    pub root: Digest,
}

impl Head {
    /// The tree of no entries.
    pub const EMPTY: Self = Self { size: 0, root: Digest::from_bytes(EMPTY_HASH.0) };
}

/// A tile or bundle to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTile {
    /// Where it goes.
    pub path: String,
    /// What goes there.
    pub bytes: Vec<u8>,
    /// Whether it can grow no more.
    pub full: bool,
}

/// A tree that has grown: write the tiles, then sign the head.
#[derive(Clone, Debug)]
pub struct Growth {
    /// The tree with the new entries.
    pub head: Head,
    /// What must be durable before the head is signed.
    pub tiles: Vec<NewTile>,
}

/// Why the tree cannot be read or grown.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A tile could not be read.
    #[error("failed to read tile `{path}`")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tile that must exist does not.
    #[error("tile `{0}` is missing")]
    Missing(String),
    /// A tile that is not the one that was signed.
    #[error("tile `{0}` is damaged")]
    Damaged(String),
    /// Tiles and root do not fit each other.
    #[error("the tiles do not fit the root of the tree with {size} entries: {why}")]
    Inconsistent {
        /// The tree's size.
        size: u64,
        /// What the reader found.
        why: String,
    },
    /// An entry that was logged differently.
    #[error("entry {0} differs from what the log holds")]
    Entry(u64),
    /// An entry too long for a bundle.
    #[error("entry {index} has {length} bytes, at most {MAX_ENTRY} are logged")]
    EntryTooLarge {
        /// Which.
        index: u64,
        /// Its length.
        length: usize,
    },
    /// A question about entries the tree does not have.
    #[error("the tree has {size} entries, entry or size {asked} is beyond it")]
    Beyond {
        /// The tree's size.
        size: u64,
        /// What was asked for.
        asked: u64,
    },
}

/// Hash of an entry as a leaf (RFC 6962).
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest::from_bytes(tlog::record_hash(entry).0)
}

/// The path of the bundle that holds entry `index` in a tree of `size`; and the bundle's first entry and width.
pub fn bundle_of(size: u64, index: u64) -> Option<(String, u64, u64)> {
    let first = index - index % TILE_WIDTH;
    let width = size.checked_sub(first)?.min(TILE_WIDTH);
    (index < size).then(|| (bundle_path(first / TILE_WIDTH, width), first, width))
}

/// Fetches a tile of `width`, or cuts it out of the full one that replaced it.
pub(crate) fn fetch_tile(fetch: &Fetch<'_>, path: &str) -> Result<Vec<u8>, TreeError> {
    let read = |path: &str| fetch(path).map_err(|source| TreeError::Read { path: path.to_owned(), source });
    if let Some(bytes) = read(path)? {
        return Ok(bytes);
    }
    match path.split_once(".p/") {
        Some((full, _)) => read(full)?,
        None => None,
    }
    .ok_or_else(|| TreeError::Missing(path.to_owned()))
}

/// Where what is stored at `path`, or at the full form that replaced it, begins to differ from `expected`, in bytes;
/// `None` where it does not.
pub(crate) fn misfit(fetch: &Fetch<'_>, path: &str, expected: &[u8]) -> Result<Option<usize>, TreeError> {
    let read = |path: &str| fetch(path).map_err(|source| TreeError::Read { path: path.to_owned(), source });
    let (found, whole) = match (read(path)?, path.split_once(".p/")) {
        (None, Some((full, _))) => (read(full)?.unwrap_or_default(), false),
        (found, _) => (found.unwrap_or_default(), true),
    };
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let fits = same == expected.len() && (!whole || found.len() == same);
    Ok((!fits).then_some(same))
}

/// Splits an entry bundle of `width` entries; `None` if it is not exactly that.
pub fn split_bundle(mut bytes: &[u8], width: u64) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    for _ in 0..width {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bytes = rest;
    }
    // What follows belongs to entries the tree of this width does not have yet.
    Some(entries)
}

/// Adds entries to a tree. `entries` starts at the first entry of the last, partial bundle
/// (`head.size` rounded down to [`TILE_WIDTH`]); those already in the tree are compared with it.
///
/// # Errors
/// If the tiles do not fit the head, or an entry differs from what was logged.
pub fn grow(fetch: &Fetch<'_>, head: Head, entries: &[Vec<u8>]) -> Result<Growth, TreeError> {
    let first = head.size - head.size % TILE_WIDTH;
    let mut known = Known(rightmost(fetch, head)?);
    let indexed = || (first..).zip(entries);
    for (index, entry) in indexed() {
        if entry.len() > MAX_ENTRY {
            return Err(TreeError::EntryTooLarge { index, length: entry.len() });
        }
        let hash = tlog::record_hash(entry);
        let at = tlog::stored_hash_index(0, index);
        if index < head.size {
            if known.0.get(&at) != Some(&hash) {
                return Err(TreeError::Entry(index));
            }
        } else {
            let new = tlog::stored_hashes_for_record_hash(index, hash, &known).map_err(inconsistent(head.size))?;
            known.0.extend((at..).zip(new));
        }
    }
    let size = first + entries.len() as u64;
    if size < head.size {
        return Err(TreeError::Beyond { size, asked: head.size });
    }
    let root = tlog::tree_hash(size, &known).map_err(inconsistent(size))?;
    let mut tiles = Vec::new();
    for tile in Tile::new_tiles(HEIGHT, head.size, size) {
        let bytes = tile.read_data(&known).map_err(inconsistent(size))?;
        tiles.push(NewTile { path: tile_path(&tile), bytes, full: u64::from(tile.width()) == TILE_WIDTH });
    }
    for (number, chunk) in (first / TILE_WIDTH..).zip(entries.chunks(TILE_WIDTH as usize)) {
        let width = chunk.len() as u64;
        let bytes = join_bundle(chunk);
        tiles.push(NewTile { path: bundle_path(number, width), bytes, full: width == TILE_WIDTH });
    }
    Ok(Growth { head: Head { size, root: Digest::from_bytes(root.0) }, tiles })
}

/// Runs `read` over hashes that are checked against the head. The tree must not be empty.
///
/// Not checked by the library: a full tile, when two of the root's subtrees lie in one tile. Whoever reads other hashes
/// than the right edge's checks what comes of them.
pub(crate) fn with_hashes<T>(
    fetch: &Fetch<'_>,
    head: Head,
    read: impl FnOnce(&TileHashReader<'_>) -> Result<T, tlog::Error>,
) -> Result<T, TreeError> {
    let reader = Tiles { fetch, failure: RefCell::new(None) };
    let hashes = TileHashReader::new(head.size, Hash(*head.root.as_bytes()), &reader);
    read(&hashes).map_err(|e| reader.failure.take().unwrap_or_else(|| inconsistent(head.size)(e)))
}

/// The hashes that new entries are combined with: roots of full subtrees, and those in partial tiles.
fn rightmost(fetch: &Fetch<'_>, head: Head) -> Result<HashMap<u64, Hash>, TreeError> {
    if head.size == 0 {
        let why = "the empty tree has another root".to_owned();
        return if head == Head::EMPTY { Ok(HashMap::new()) } else { Err(TreeError::Inconsistent { size: 0, why }) };
    }
    let mut indexes = tlog::sub_tree_index(0, head.size, Vec::new());
    let mut level = 0;
    while head.size >> level > 0 {
        let end = head.size >> level;
        indexes.extend((end - end % TILE_WIDTH..end).map(|n| tlog::stored_hash_index(level, n)));
        level += HEIGHT;
    }
    let hashes = with_hashes(fetch, head, |reader| reader.read_hashes(&indexes))?;
    Ok(indexes.into_iter().zip(hashes).collect())
}

fn inconsistent(size: u64) -> impl Fn(tlog::Error) -> TreeError {
    move |e| TreeError::Inconsistent { size, why: e.to_string() }
}

pub(crate) fn join_bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    bytes
}

/// C2SP drops the height from the path that Go's checksum database uses.
fn tile_path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

fn bundle_path(number: u64, width: u64) -> String {
    // A width is 1 to 256 by construction, and no bundle is empty.
    let tile = Tile::new(HEIGHT, 0, number, width.clamp(1, TILE_WIDTH) as u32, true);
    tile.path().replacen("tile/8/data/", "tile/entries/", 1)
}

/// Where a tile of hashes stands in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) level: u8,
    pub(crate) number: u64,
    pub(crate) width: u64,
}

impl Place {
    pub(crate) fn path(self) -> String {
        // A tree of at most 2^53 entries has levels 0 to 6.
        let width = self.width.clamp(1, TILE_WIDTH) as u32;
        tile_path(&Tile::new(HEIGHT, self.level.min(6), self.number, width, false))
    }

    /// Index of the first entry under its hash `at`.
    pub(crate) const fn entry(self, at: u64) -> u64 {
        (self.number * TILE_WIDTH + at) << (HEIGHT * self.level)
    }

    /// Reads its hashes, whatever they are.
    pub(crate) fn read(self, fetch: &Fetch<'_>) -> Result<Vec<Hash>, TreeError> {
        let path = self.path();
        let bytes = fetch_tile(fetch, &path)?;
        let hashes: Vec<Hash> = bytes.as_chunks::<HASH_SIZE>().0.iter().copied().map(Hash).collect();
        let whole = [self.width, TILE_WIDTH].map(|width| width as usize * HASH_SIZE).contains(&bytes.len());
        if whole { Ok(hashes.into_iter().take(self.width as usize).collect()) } else { Err(TreeError::Damaged(path)) }
    }
}

/// The bytes of a tile of hashes.
pub(crate) fn join_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Hashes in memory.
struct Known(HashMap<u64, Hash>);

impl HashReader for Known {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        indexes.iter().map(|i| self.0.get(i).copied().ok_or(tlog::Error::IndexesNotInTree)).collect()
    }
}

/// Tiles by path. Its trait's error holds no cause, so that is kept aside.
struct Tiles<'a> {
    fetch: &'a Fetch<'a>,
    failure: RefCell<Option<TreeError>>,
}

impl TileReader for Tiles<'_> {
    fn height(&self) -> u8 {
        HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        let read = |tile: &Tile| {
            let mut bytes = fetch_tile(self.fetch, &tile_path(tile)).map_err(|e| {
                self.failure.replace(Some(e));
                tlog::Error::InvalidTile
            })?;
            bytes.truncate(tile.width() as usize * HASH_SIZE);
            Ok(bytes)
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}
