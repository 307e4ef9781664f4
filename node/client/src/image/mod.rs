//! Container images as programs (docs/formats/images.md): found, checked, and packed as one tar that is read in place.
//!
//! A [`Reference`] names an image. [`Fetch`] finds its manifest, configuration and layers, in a folder, in an archive
//! or in a registry; every blob is compared with its digest, and every layer's content with the configuration, before
//! an [`Image`] comes out. Nothing is copied for it but what a registry sends.

mod archive;
mod auth;
mod blob;
mod choose;
mod docker;
mod document;
mod error;
mod fetch;
mod layer;
mod layout;
mod pack;
mod reference;
mod registry;
#[cfg(test)]
mod tests;

pub use document::Platform;
pub use error::ImageError;
pub use fetch::Fetch;
pub use pack::Packed;
pub use reference::{Pick, Reference, RegistryReference};
pub use registry::RegistryAccess;

use decores_types::Digest;

/// An image that was checked.
#[derive(Clone, Debug)]
pub struct Image {
    /// How it was named.
    pub name: String,
    /// The digest that pins it: of its manifest, or of its configuration where it has none.
    pub digest: Digest,
    /// What it was built for.
    pub platform: Platform,
    /// How many layers it has.
    pub layers: usize,
    /// Bytes that its layers take unpacked, about.
    pub unpacked_bytes: u64,
    /// Bytes of the program it becomes.
    pub program_bytes: u64,
    /// That program.
    pub program: Packed,
}
