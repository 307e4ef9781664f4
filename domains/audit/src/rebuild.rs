//! Making damaged tiles anew from the stored entries.

use crate::checkpoint::LogKey;
use crate::damage::Damage;
use crate::ports::{Store, TileStore};
use crate::recent::{compare, entries, size};
use crate::rows::Rows;
use crate::signed::{self, Signed};
use crate::tree::{Head, bundle_of, join_bundle, join_hashes, misfit};
use tlog_tiles::tlog;

/// Compares every tile and bundle under the checkpoint with the stored entries and writes those anew that are missing
/// or differ; `mended` is told each path. Nothing is written unless the entries have the signed root, and the
/// checkpoint is never touched. Nothing else may write the log meanwhile, and the calls block.
///
/// # Errors
/// If the entries are not those that were signed, or something cannot be read or written.
pub async fn rebuild(
    store: &dyn Store,
    tiles: &dyn TileStore,
    key: &LogKey,
    mended: &mut (dyn FnMut(&str) + Send),
) -> Result<(), Damage> {
    let head = signed::head(tiles, key)?;
    size(store, head).await?;
    let mut rows = Rows::default();
    walk(store, head, &mut |_, _, bundle| {
        for entry in bundle {
            rows.push(tlog::record_hash(entry));
        }
        Ok(())
    })
    .await?;
    if rows.root() != head.root {
        return Err(changed_entry(store, tiles, head).await?);
    }
    let mut mend = |path: &str, bytes: &[u8]| {
        if misfit(&|path| tiles.get(path), path, bytes).map_err(Damage::Read)?.is_some() {
            tiles.replace(path, bytes).map_err(|source| Damage::Write { path: path.to_owned(), source })?;
            mended(path);
        }
        Ok(())
    };
    let mut rows = Rows::default();
    walk(store, head, &mut |path, _, bundle| {
        mend(path, &join_bundle(bundle))?;
        let full = bundle.iter().flat_map(|entry| rows.push(tlog::record_hash(entry)));
        full.collect::<Vec<_>>().into_iter().try_for_each(|(place, hashes)| mend(&place.path(), &join_hashes(&hashes)))
    })
    .await?;
    rows.partial().try_for_each(|(place, hashes)| mend(&place.path(), &join_hashes(hashes)))
}

/// What is to be said where the stored entries do not have the signed root: the first that differs from a tile which
/// still leads there.
async fn changed_entry(store: &dyn Store, tiles: &dyn TileStore, head: Head) -> Result<Damage, Damage> {
    let Ok(Some(signed)) = Signed::open(tiles, head) else { return Ok(Damage::Root(head.size)) };
    let mut differs = |_: &str, first, bundle: &[Vec<u8>]| match compare(tiles, &signed, first, bundle) {
        Err(changed @ Damage::Changed(_)) => Err(changed),
        _ => Ok(()),
    };
    let found = walk(store, head, &mut differs).await;
    Ok(found.err().unwrap_or(Damage::Root(head.size)))
}

/// A bundle's path, the index of its first entry, and its entries.
type Visit<'a> = dyn FnMut(&str, u64, &[Vec<u8>]) -> Result<(), Damage> + Send + 'a;

async fn walk(store: &dyn Store, head: Head, visit: &mut Visit<'_>) -> Result<(), Damage> {
    let mut index = 0;
    while let Some((path, first, width)) = bundle_of(head.size, index) {
        visit(&path, first, &entries(store, first, width).await?)?;
        index = first + width;
    }
    Ok(())
}
