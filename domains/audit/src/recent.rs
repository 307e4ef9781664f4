//! What is checked before a log goes on: its last day, against the store and what was signed.
//!
//! From the last entry backwards, a bundle at a time: the stored entries have the hashes that the
//! tiles say, the tiles lead to the signed root, the bundles hold those entries, each can be read,
//! and no attempt ends twice. Older entries are checked by [`crate::check::check_log`] only, when
//! somebody asks. The clock that counts is the log's own: where it was set back, more is checked.

use crate::checkpoint::LogKey;
use crate::damage::Damage;
use crate::event::{Entry, Event};
use crate::ports::{Store, TileStore};
use crate::signed::{self, Signed};
use crate::tree::{Head, Place, TILE_WIDTH, bundle_of, join_bundle, join_hashes, misfit};
use decores_types::{Attempt, JobId, Timestamp};
use std::collections::HashMap;
use tlog_tiles::tlog::{self, Hash};

/// How long before its last entry a log is checked, in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Checks every entry younger than a day before the last, at least one full bundle, and all that are not yet signed;
/// gives the index of the first that was checked. In memory are a bundle and what ended on that day.
/// Tiles are read with blocking calls: run it where that hurts nobody.
///
/// # Errors
/// The first fault that is found; nothing is to be signed before it is mended.
pub async fn check_recent(store: &dyn Store, tiles: &dyn TileStore, key: &LogKey) -> Result<u64, Damage> {
    let head = signed::head(tiles, key)?;
    let stored = size(store, head).await?;
    let mut day = Day::default();
    let mut unsigned = head.size;
    while unsigned < stored {
        let entries = entries(store, unsigned, TILE_WIDTH.min(stored - unsigned)).await?;
        day.add(unsigned, &entries).map_err(Damage::unsigned)?;
        unsigned += entries.len() as u64;
    }
    let Some(signed) = Signed::open(tiles, head)? else { return Err(edge_damage(store, tiles, head).await?) };
    let mut from = head.size;
    while let Some((path, first, width)) = from.checked_sub(1).and_then(|last| bundle_of(head.size, last)) {
        let entries = entries(store, first, width).await?;
        compare(tiles, &signed, first, &entries)?;
        let bundle = misfit(&|path| tiles.get(path), &path, &join_bundle(&entries)).map_err(Damage::Read)?;
        if let Some(at) = bundle {
            return Err(Damage::Tile { path, index: first + whole_entries(&entries, at) });
        }
        let newest = day.add(first, &entries)?;
        from = first;
        if width == TILE_WIDTH && day.is_before(newest) {
            break;
        }
    }
    Ok(from)
}

/// The number of stored entries: at least those that were signed.
pub(crate) async fn size(store: &dyn Store, head: Head) -> Result<u64, Damage> {
    let stored = store.size().await.map_err(Damage::Store)?;
    if stored < head.size { Err(Damage::RolledBack { stored, signed: head.size }) } else { Ok(stored) }
}

/// Reads entries that must be there.
pub(crate) async fn entries(store: &dyn Store, from: u64, count: u64) -> Result<Vec<Vec<u8>>, Damage> {
    let entries = store.entries(from, count as usize).await.map_err(Damage::Store)?;
    let found = entries.len() as u64;
    if found == count { Ok(entries) } else { Err(Damage::Missing(from + found)) }
}

/// Compares the stored entries of a bundle with what was signed.
pub(crate) fn compare(
    tiles: &dyn TileStore,
    signed: &Signed<'_>,
    first: u64,
    entries: &[Vec<u8>],
) -> Result<(), Damage> {
    let leaves = leaves(entries);
    let place = Place { level: 0, number: first / TILE_WIDTH, width: entries.len() as u64 };
    let hashes = signed.tile(0, place.number).map_err(|damage| match damage {
        // Which of its entries a damaged tile is wrong of is told by the stored ones.
        Damage::Tile { path, .. } if path == place.path() => {
            let found = misfit(&|path| tiles.get(path), &path, &join_hashes(&leaves));
            let at = found.ok().flatten().map_or(0, |at| at / tlog::HASH_SIZE);
            Damage::Tile { path, index: first + at as u64 }
        }
        damage => damage,
    })?;
    match (first..).zip(leaves.iter().zip(&hashes)).find(|(_, (stored, signed))| stored != signed) {
        Some((index, _)) => Err(Damage::Changed(index)),
        None => Ok(()),
    }
}

/// What is wrong where the tiles at the right edge do not have the signed root: each is compared with what lies below.
async fn edge_damage(store: &dyn Store, tiles: &dyn TileStore, head: Head) -> Result<Damage, Damage> {
    for place in signed::edge(head.size).filter(|place| place.width > 0) {
        let hashes = signed::read(tiles, place)?;
        let at = if place.level == 0 {
            let stored = leaves(&entries(store, place.entry(0), place.width).await?);
            (0..).zip(stored.iter().zip(&hashes)).find(|(_, (stored, hash))| stored != hash).map(|(at, _)| at)
        } else {
            signed::misfit(tiles, place, &hashes)?
        };
        if let Some(at) = at {
            return Ok(Damage::Tile { path: place.path(), index: place.entry(at) });
        }
    }
    Ok(Damage::Root(head.size))
}

fn leaves(entries: &[Vec<u8>]) -> Vec<Hash> {
    entries.iter().map(|entry| tlog::record_hash(entry)).collect()
}

/// How many entries of a bundle lie whole before byte `at`.
fn whole_entries(entries: &[Vec<u8>], at: usize) -> u64 {
    let ends = entries.iter().scan(0, |end, entry| {
        *end += 2 + entry.len();
        Some(*end)
    });
    ends.take_while(|end| *end <= at).count() as u64
}

/// What the entries looked at so far say.
#[derive(Default)]
struct Day {
    /// The last entry, and its time.
    last: Option<(u64, Timestamp)>,
    ends: HashMap<(JobId, Attempt), u64>,
}

impl Day {
    /// Reads entries; gives the newest time among them.
    fn add(&mut self, first: u64, entries: &[Vec<u8>]) -> Result<Timestamp, Damage> {
        let mut newest = Timestamp::from_ms(0);
        for (index, bytes) in (first..).zip(entries) {
            let entry = Entry::parse(bytes).map_err(|source| Damage::Entry { index, source })?;
            newest = newest.max(entry.time);
            if self.last.is_none_or(|(last, _)| last < index) {
                self.last = Some((index, entry.time));
            }
            if let Event::JobEnded { job, attempt, .. } = entry.event
                && let Some(other) = self.ends.insert((job, attempt), index)
            {
                let (first, second) = (other.min(index), other.max(index));
                return Err(Damage::TwoEnds { job, attempt, first, second });
            }
        }
        Ok(newest)
    }

    /// Whether a time lies more than a day before the last entry's.
    fn is_before(&self, time: Timestamp) -> bool {
        self.last.is_some_and(|(_, last)| last.since_ms(time) >= DAY_MS)
    }
}
