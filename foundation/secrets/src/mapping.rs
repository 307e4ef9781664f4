//! The locked mapping itself: made once, never given back.

#![expect(unsafe_code, reason = "maps, locks and reads raw memory")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

/// How the arena is kept from swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArenaKind {
    /// `memfd_secret`: locked, and absent from the kernel's direct map.
    MemfdSecret,
    /// Anonymous memory under `mlock`.
    Mlock,
}

impl std::fmt::Display for ArenaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MemfdSecret => "memfd_secret",
            Self::Mlock => "mlock",
        })
    }
}

/// `len` locked bytes, and a page that reads zero in a forked child.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    kind: ArenaKind,
    alive: NonNull<u8>,
}

// SAFETY: the mapping lives as long as the process; disjointness of the slots that are read and
// written is the arena's free list's business.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps and locks `len` bytes, a multiple of the page size.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let (base, kind) = match map_memfd_secret(len) {
            Ok(base) => (base, ArenaKind::MemfdSecret),
            Err(_) => (map_locked(len)?, ArenaKind::Mlock),
        };
        advise(base, len, libc::MADV_DONTDUMP)?;
        advise(base, len, libc::MADV_DONTFORK)?;
        for offset in (0..len).step_by(4096) {
            // SAFETY: inside the mapping. Touching every page now lets a lack of memory show here
            // and not as a SIGBUS at first use.
            unsafe { base.add(offset).write_volatile(0) };
        }
        let alive = map_anonymous(4096)?;
        advise(alive, 4096, libc::MADV_WIPEONFORK)?;
        // SAFETY: inside the page just mapped.
        unsafe { alive.write_volatile(1) };
        Ok(Self { base, len, kind, alive })
    }

    pub(crate) fn kind(&self) -> ArenaKind {
        self.kind
    }

    /// Whether this process made the mapping, rather than being forked from the one that did.
    pub(crate) fn is_ours(&self) -> bool {
        // SAFETY: the page stays mapped for ever, in children too.
        unsafe { self.alive.read_volatile() == 1 }
    }

    /// A pointer to `at`, with `len` bytes of the mapping after it.
    fn part(&self, at: usize, len: usize) -> NonNull<u8> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "a secret lies outside the arena");
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.add(at) }
    }

    /// Reads part of the mapping.
    ///
    /// # Safety
    /// The caller owns the slots there, and nobody writes to them while the slice lives.
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: mapped, initialised, and unshared by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.part(at, len).as_ptr(), len) }
    }

    /// Writes part of the mapping.
    ///
    /// # Safety
    /// The caller owns the slots there, and nobody else reads or writes them while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "slots are disjoint: exclusiveness is the caller's promise")]
    pub(crate) unsafe fn slice_mut(&self, at: usize, len: usize) -> &mut [u8] {
        // SAFETY: mapped, initialised, and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.part(at, len).as_ptr(), len) }
    }

    /// Zeroes part of the mapping and reads it back: whether every byte is zero.
    ///
    /// # Safety
    /// As for [`Self::slice_mut`].
    pub(crate) unsafe fn wipe(&self, at: usize, len: usize) -> bool {
        let start = self.part(at, len);
        let mut left = 0;
        for i in 0..len {
            // SAFETY: inside the part; volatile, so that the write is not optimised away.
            unsafe { start.add(i).write_volatile(0) };
        }
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        for i in 0..len {
            // SAFETY: as above.
            left |= unsafe { start.add(i).read_volatile() };
        }
        left == 0
    }
}

fn map_memfd_secret(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a system call that takes one integer and returns a descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's; it closes at the end, the mapping stays.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let size = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: a descriptor of ours.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    map(len, libc::MAP_SHARED, fd.as_raw_fd())
}

fn map_locked(len: usize) -> io::Result<NonNull<u8>> {
    let base = map_anonymous(len)?;
    // SAFETY: the range was just mapped.
    if unsafe { libc::mlock(base.as_ptr().cast(), len) } != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: nobody has a pointer into the range yet.
        unsafe { libc::munmap(base.as_ptr().cast(), len) };
        return Err(error);
    }
    Ok(base)
}

fn map_anonymous(len: usize) -> io::Result<NonNull<u8>> {
    map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

fn map(len: usize, flags: i32, fd: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))
}

fn advise(base: NonNull<u8>, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: a range that was mapped whole.
    match unsafe { libc::madvise(base.as_ptr().cast(), len, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn both_kinds_of_memory_are_locked() {
        // A kernel without memfd_secret takes the other.
        let kinds = [map_memfd_secret(8192).ok(), Some(map_locked(8192).unwrap())];
        for base in kinds.into_iter().flatten() {
            advise(base, 8192, libc::MADV_DONTDUMP).unwrap();
            advise(base, 8192, libc::MADV_DONTFORK).unwrap();
            // SAFETY: inside the mapping just made, which nobody else knows.
            unsafe { base.add(8191).write_volatile(7) };
            // SAFETY: as above.
            assert_eq!(unsafe { base.add(8191).read_volatile() }, 7);
        }
    }

    #[test]
    fn wiping_reaches_its_part_and_no_more() {
        let mapping = Mapping::new(4096).unwrap();
        // SAFETY: this test alone has the mapping, and the slices end before the next use.
        unsafe {
            mapping.slice_mut(0, 192).fill(0xff);
            assert!(mapping.wipe(64, 64));
            assert!(mapping.slice(64, 64).iter().all(|b| *b == 0));
            assert!(mapping.slice(0, 64).iter().chain(mapping.slice(128, 64)).all(|b| *b == 0xff));
        }
    }
}
