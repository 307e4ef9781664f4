//! One secret: bytes in the arena.

#![expect(unsafe_code, reason = "reads and writes its own slots of the arena")]

use crate::arena::{Arena, SecretError};
use std::fmt;
use zeroize::Zeroize;

/// Bytes in the locked arena; zeroed when dropped, printed as stars, never copied by itself.
pub struct Secret {
    arena: &'static Arena,
    at: usize,
    len: usize,
}

impl Secret {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Result<Self, SecretError> {
        let arena = Arena::global()?;
        Ok(Self { arena, at: arena.take(len)?, len })
    }

    /// A copy of `bytes`; the original stays the caller's to wipe.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, SecretError> {
        Self::filled(bytes.len(), |out| out.copy_from_slice(bytes))
    }

    /// Moves `bytes` in: copies them and zeroes the original, also where there is no room.
    pub fn absorb(bytes: &mut [u8]) -> Result<Self, SecretError> {
        let secret = Self::from_slice(bytes);
        bytes.zeroize();
        secret
    }

    /// `len` bytes written in place by `fill`, without a copy elsewhere.
    pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self, SecretError> {
        let mut secret = Self::zeroed(len)?;
        fill(secret.expose_mut());
        Ok(secret)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: the slots are this secret's alone, and `&self` keeps writers away.
        unsafe { self.arena.mapping().slice(self.at, self.len) }
    }

    /// The bytes, to be written in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: the slots are this secret's alone, and `&mut self` makes the access exclusive.
        unsafe { self.arena.mapping().slice_mut(self.at, self.len) }
    }

    /// The bytes as an array, when there are exactly `N`.
    pub fn expose_array<const N: usize>(&self) -> Option<&[u8; N]> {
        self.expose().try_into().ok()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Zeroes the secret and reads it back: evidence for a wipe. False only if memory did not keep the zeroes.
    pub fn destroy(mut self) -> bool {
        self.wipe()
    }

    fn wipe(&mut self) -> bool {
        // SAFETY: the slots are this secret's alone, and `&mut self` makes the access exclusive.
        unsafe { self.arena.mapping().wipe(self.at, self.len) }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // In a forked child the slots are not there, and nothing is to be wiped.
        if self.arena.mapping().is_ours() {
            self.wipe();
            self.arena.give_back(self.at, self.len);
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
