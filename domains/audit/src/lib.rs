//! The log nobody can rewrite, and the receipts read from it.
//!
//! State and log are one truth: a change and its [`event::Entry`] are committed together
//! ([`ports::Store`]); a [`sequencer::Sequencer`] derives tiles from the entries and signs a
//! [`checkpoint::Checkpoint`] over them. A receipt ([`receipt`]) names one attempt, and its log
//! entry commits to it; [`verify::verify`] judges it offline with a [`trust::Trust`] file.
//! Before a log goes on, [`recent::check_recent`] looks at its last day; [`rebuild::rebuild`] mends tiles.
//!
//! Refused everywhere: another encoding of the same content, unknown members, a second root for
//! a size that has been signed. Nothing here opens a file or reads a clock.

pub mod check;
pub mod checkpoint;
pub mod code;
pub mod contract;
pub mod damage;
pub mod event;
pub mod memory;
pub mod ports;
pub mod proof;
pub mod rebuild;
pub mod receipt;
pub mod recent;
mod rows;
pub mod sequencer;
mod signed;
pub mod tree;
pub mod trust;
pub mod verify;

pub use checkpoint::{Checkpoint, LogKey, LogSigner};
pub use code::Code;
pub use event::{Entry, Event};
pub use sequencer::Sequencer;
pub use trust::Trust;
