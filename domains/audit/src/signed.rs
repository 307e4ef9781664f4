//! What was signed, read from the top: every hash given here leads to the signed root.

use crate::checkpoint::{Checkpoint, LogKey};
use crate::damage::Damage;
use crate::ports::TileStore;
use crate::rows::{fold, join};
use crate::tree::{Head, Place, TILE_WIDTH, TreeError};
use tlog_tiles::tlog::Hash;

/// The head under the stored checkpoint.
pub(crate) fn head(tiles: &dyn TileStore, key: &LogKey) -> Result<Head, Damage> {
    let read = |path: &str, source| Damage::Read(TreeError::Read { path: path.to_owned(), source });
    if let Some(note) = tiles.checkpoint().map_err(|e| read("checkpoint", e))? {
        return Ok(Checkpoint::open_strict(&note, key).map_err(Damage::Checkpoint)?.head());
    }
    // The first checkpoint of all is written while the first tile is partial. A crash may fall before it.
    let path = Place { level: 0, number: 0, width: TILE_WIDTH }.path();
    if tiles.get(&path).map_err(|e| read(&path, e))?.is_some() {
        return Err(Damage::NoCheckpoint(path));
    }
    Ok(Head::EMPTY)
}

/// The tiles under a signed head.
pub(crate) struct Signed<'a> {
    tiles: &'a dyn TileStore,
    size: u64,
    /// The tiles at the right edge by level, whose hashes give the root; empty where the last tile is full.
    edge: Vec<Vec<Hash>>,
}

impl<'a> Signed<'a> {
    /// Reads the right edge; `None` where it does not have the signed root.
    pub(crate) fn open(tiles: &'a dyn TileStore, head: Head) -> Result<Option<Self>, Damage> {
        let row = |place: Place| if place.width == 0 { Ok(Vec::new()) } else { read(tiles, place) };
        let edge: Vec<Vec<Hash>> = edge(head.size).map(row).collect::<Result<_, _>>()?;
        let fits = join(edge.iter().map(Vec::as_slice)) == head.root;
        Ok(fits.then_some(Self { tiles, size: head.size, edge }))
    }

    /// The hashes of a tile, full or at the right edge.
    pub(crate) fn tile(&self, level: u8, number: u64) -> Result<Vec<Hash>, Damage> {
        if number == place_at_edge(self.size, level).number {
            return Ok(self.edge.get(usize::from(level)).cloned().unwrap_or_default());
        }
        let above = self.tile(level + 1, number / TILE_WIDTH)?;
        let signed = above.get((number % TILE_WIDTH) as usize);
        let place = Place { level, number, width: TILE_WIDTH };
        let hashes = read(self.tiles, place)?;
        if fold(&hashes).as_ref() == signed {
            return Ok(hashes);
        }
        let at = if level == 0 { None } else { misfit(self.tiles, place, &hashes)? };
        Err(Damage::Tile { path: place.path(), index: place.entry(at.unwrap_or(0)) })
    }
}

/// Reads a tile of hashes, whatever they are.
pub(crate) fn read(tiles: &dyn TileStore, place: Place) -> Result<Vec<Hash>, Damage> {
    place.read(&|path| tiles.get(path)).map_err(|error| match error {
        TreeError::Missing(path) | TreeError::Damaged(path) => Damage::Tile { path, index: place.entry(0) },
        error => Damage::Read(error),
    })
}

/// Which hash of a tile above level 0 is the first that is not the one over the tile below it.
pub(crate) fn misfit(tiles: &dyn TileStore, place: Place, hashes: &[Hash]) -> Result<Option<u64>, Damage> {
    let (level, first) = (place.level.saturating_sub(1), place.number * TILE_WIDTH);
    for (at, hash) in (0..).zip(hashes) {
        let below = read(tiles, Place { level, number: first + at, width: TILE_WIDTH })?;
        if fold(&below).as_ref() != Some(hash) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The tiles at the right edge of a tree, from the lowest level up; of width 0 where the last tile is full.
pub(crate) fn edge(size: u64) -> impl Iterator<Item = Place> {
    (0..=6).map(move |level| place_at_edge(size, level)).take_while(|place| place.number > 0 || place.width > 0)
}

const fn place_at_edge(size: u64, level: u8) -> Place {
    let hashes = size >> (8 * level);
    Place { level, number: hashes / TILE_WIDTH, width: hashes % TILE_WIDTH }
}
