//! The container engine: unpacks one image, has the helper run it, and exits.
//!
//! ```text
//! main: no core dumps → fork the unpacking process → lock (Landlock, seccomp)
//!   read the job and the offer key's seed → open the head → wipe the seed
//!   program key ──▶ unpacking process (locked: two folders) ──▶ digests, and what the image says
//!   open the input into memory and scratch → wipe the keys → ask the helper → listen to the container
//!   seal output and logs to the consumer's key → say how it ended
//! ```
//!
//! The engine has no privilege at all. The helper trusts nothing of what it says; it does not trust what the
//! unpacking process says, which has read a stranger's image.

mod archive;
mod child;
mod documents;
mod image;
mod job;
mod layer;
mod output;
mod program;
mod refusal;
mod request;
mod root;
mod runner;
mod tar;
mod unpack;
mod zstd;

pub use job::serve;
pub use program::{Image, User};
pub use refusal::Refusal;
pub use unpack::{Bounds, Places, unpack};
