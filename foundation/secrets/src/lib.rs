//! Secrets in one locked place, never in a core dump, zeroed when dropped, printed as stars.
//!
//! [`Arena`] is one mapping of 4 MiB per process: `memfd_secret` where the kernel has it (the pages
//! then leave the kernel's own view of memory too), else anonymous memory under `mlock`. It is cut
//! in slots of 64 bytes; a [`Secret`] owns one to 64 of them. The mapping does not pass to forked
//! children: there, asking for a secret is refused, and reading one that was made before the fork
//! ends the child. Fork first, then make secrets.
//!
//! What libraries copy out of a secret while they use it (expanded key schedules, signing keys) is
//! theirs to wipe; `docs/known-gaps.md` names those copies.

mod arena;
mod mapping;
mod process;
mod secret;

pub use arena::{ARENA_BYTES, Arena, MAX_SECRET, SecretError};
pub use mapping::ArenaKind;
pub use process::{forbid_core_dumps, raise_open_files, return_heap, share_heap};
pub use secret::Secret;
/// A buffer on the heap that is zeroed when dropped, for what is too large or too short-lived for the arena.
pub use zeroize::Zeroizing;
