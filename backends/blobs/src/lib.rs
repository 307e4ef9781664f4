//! Folders of files: sealed payloads ([`BlobStore`]) and the log's tiles ([`FolderTiles`]).
//!
//! A file is written under a temporary name, synced, renamed, and its folder synced: it is there
//! whole, or not at all. Only the owner can read anything (0600 in folders of 0700).

mod blob;
mod durable;
mod tiles;

pub use blob::{BlobError, BlobName, BlobStore, BlobWriter};
pub use tiles::FolderTiles;
