//! A tree that grows leaf by leaf, in constant memory: of each level the tile that is being filled.

use crate::tree::{Place, TILE_WIDTH};
use decores_types::Digest;
use tlog_tiles::tlog::{EMPTY_HASH, Hash, node_hash};

/// The tree's hashes at levels 0, 8, 16 …
#[derive(Default)]
pub(crate) struct Rows(Vec<Row>);

#[derive(Default)]
struct Row {
    /// Tiles that are full.
    full: u64,
    hashes: Vec<Hash>,
}

impl Rows {
    /// Adds a leaf; gives the tiles that are full with it, from the lowest level up.
    pub(crate) fn push(&mut self, leaf: Hash) -> Vec<(Place, Vec<Hash>)> {
        let mut filled = Vec::new();
        let mut next = Some(leaf);
        for level in 0_u8.. {
            let Some(hash) = next else { break };
            let at = usize::from(level);
            if self.0.len() <= at {
                self.0.resize_with(at + 1, Row::default);
            }
            let Some(row) = self.0.get_mut(at) else { break };
            row.hashes.push(hash);
            if (row.hashes.len() as u64) < TILE_WIDTH {
                break;
            }
            let hashes = std::mem::take(&mut row.hashes);
            next = fold(&hashes);
            filled.push((Place { level, number: row.full, width: TILE_WIDTH }, hashes));
            row.full += 1;
        }
        filled
    }

    /// The tiles that are not full: the tree's right edge.
    pub(crate) fn partial(&self) -> impl Iterator<Item = (Place, &[Hash])> {
        let place = |(level, row): (u8, &Row)| Place { level, number: row.full, width: row.hashes.len() as u64 };
        let rows = (0_u8..).zip(&self.0).filter(|(_, row)| !row.hashes.is_empty());
        rows.map(move |(level, row)| (place((level, row)), row.hashes.as_slice()))
    }

    /// The root over all that was pushed.
    pub(crate) fn root(&self) -> Digest {
        join(self.0.iter().map(|row| row.hashes.as_slice()))
    }
}

/// The root over the tiles at a tree's right edge, lowest level first: full subtrees joined from the right.
pub(crate) fn join<'a>(edge: impl Iterator<Item = &'a [Hash]>) -> Digest {
    let mut root = None;
    for hashes in edge {
        let mut rest = hashes;
        while !rest.is_empty() {
            let (left, subtree) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
            root = match (fold(subtree), root) {
                (Some(left), Some(right)) => Some(node_hash(left, right)),
                (one, other) => one.or(other),
            };
            rest = left;
        }
    }
    Digest::from_bytes(root.unwrap_or(EMPTY_HASH).0)
}

/// The hash over as many hashes as a power of two.
pub(crate) fn fold(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            Some(node_hash(fold(left)?, fold(right)?))
        }
    }
}
