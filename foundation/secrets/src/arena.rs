//! The arena: slots of the mapping, and who has them.

use crate::mapping::{ArenaKind, Mapping};
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes in the arena; a plain user may often lock no more than 8 MiB.
pub const ARENA_BYTES: usize = 4 << 20;
/// The longest secret, in bytes.
pub const MAX_SECRET: usize = 4096;
const SLOT: usize = 64;
const SLOTS: usize = ARENA_BYTES / SLOT;

static GLOBAL: OnceLock<Result<Arena, i32>> = OnceLock::new();

/// Why there is no room for a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The memory could not be had or locked.
    #[error("failed to lock {ARENA_BYTES} bytes of memory for secrets; raise the limit (ulimit -l, LimitMEMLOCK=)")]
    Lock(#[source] io::Error),
    /// Every slot is taken; try again when some secrets are gone.
    #[error("the memory for secrets is full")]
    Full,
    /// Longer than [`MAX_SECRET`].
    #[error("a secret of {0} bytes is too long, at most {MAX_SECRET} are held")]
    TooLong(usize),
    /// This process was forked from the one that made the arena.
    #[error("secrets do not pass to a forked process: fork before the first secret is made")]
    Forked,
}

/// The one locked place for secrets of this process.
pub struct Arena {
    mapping: Mapping,
    slots: Mutex<Slots>,
}

impl Arena {
    /// The process's arena, made at the first call. Call it at the start, so that a refusal shows early.
    pub fn global() -> Result<&'static Self, SecretError> {
        match GLOBAL.get_or_init(|| Self::new().map_err(|e| e.raw_os_error().unwrap_or(libc::ENOMEM))) {
            Ok(arena) if arena.mapping.is_ours() => Ok(arena),
            Ok(_) => Err(SecretError::Forked),
            Err(errno) => Err(SecretError::Lock(io::Error::from_raw_os_error(*errno))),
        }
    }

    fn new() -> io::Result<Self> {
        Ok(Self { mapping: Mapping::new(ARENA_BYTES)?, slots: Mutex::new(Slots::new(SLOTS)) })
    }

    /// How the arena is kept from swap.
    pub fn kind(&self) -> ArenaKind {
        self.mapping.kind()
    }

    /// Bytes not taken; what is left may be in pieces.
    pub fn free_bytes(&self) -> usize {
        self.lock().free * SLOT
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Takes room for `len` bytes; where it starts.
    pub(crate) fn take(&self, len: usize) -> Result<usize, SecretError> {
        if len > MAX_SECRET {
            return Err(SecretError::TooLong(len));
        }
        let first = self.lock().take(slots_for(len)).ok_or(SecretError::Full)?;
        Ok(first * SLOT)
    }

    /// Gives room back, already zeroed.
    pub(crate) fn give_back(&self, at: usize, len: usize) {
        self.lock().give_back(at / SLOT, slots_for(len));
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Slots that `len` bytes take; an empty secret has one too.
fn slots_for(len: usize) -> usize {
    len.div_ceil(SLOT).max(1)
}

/// Which slots are taken.
struct Slots {
    taken: Vec<bool>,
    free: usize,
    next: usize,
}

impl Slots {
    fn new(count: usize) -> Self {
        Self { taken: vec![false; count], free: count, next: 0 }
    }

    /// The first of `count` neighbouring free slots, sought from where the last search ended.
    fn take(&mut self, count: usize) -> Option<usize> {
        if self.free < count {
            return None;
        }
        let first = self.find(self.next, count).or_else(|| self.find(0, count))?;
        self.mark(first, count, true);
        self.free -= count;
        self.next = first + count;
        Some(first)
    }

    fn give_back(&mut self, first: usize, count: usize) {
        self.mark(first, count, false);
        self.free += count;
    }

    fn find(&self, from: usize, count: usize) -> Option<usize> {
        let mut run = 0;
        for (i, taken) in self.taken.iter().enumerate().skip(from) {
            run = if *taken { 0 } else { run + 1 };
            if run == count {
                return Some(i + 1 - count);
            }
        }
        None
    }

    fn mark(&mut self, first: usize, count: usize, taken: bool) {
        self.taken.iter_mut().skip(first).take(count).for_each(|slot| *slot = taken);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn slots_are_disjoint_and_come_back() {
        let mut slots = Slots::new(8);
        assert_eq!(slots.take(3), Some(0));
        assert_eq!(slots.take(3), Some(3));
        assert_eq!(slots.take(3), None, "only two are left");
        slots.give_back(0, 3);
        assert_eq!(slots.take(2), Some(6), "the search goes on from where it ended");
        assert_eq!(slots.take(3), Some(0));
        assert_eq!((slots.take(1), slots.free), (None, 0));
    }

    #[test]
    fn what_is_left_in_pieces_is_not_given_as_one() {
        let mut slots = Slots::new(4);
        let taken: Vec<_> = (0..4).map(|_| slots.take(1).unwrap()).collect();
        slots.give_back(taken[0], 1);
        slots.give_back(taken[2], 1);
        assert_eq!(slots.take(2), None);
        assert_eq!(slots.free, 2);
    }
}
