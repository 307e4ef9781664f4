//! What outsiders' bytes meet, one function per parser: the targets of `cargo fuzz` and of `tests/replay.rs`.
//!
//! A target takes any bytes. Where a signature or a seal stands before the parser, a first byte of the input
//! says whether the bytes are taken as they are or are signed and sealed here first, with keys that are
//! known, so that what lies behind is reached too. A target fails (panics) on a panic of the parser and
//! on a broken promise: another encoding of the same content was accepted, something was accepted that
//! nobody signed, what was written does not read back, more was allocated than [`meter`] allows.
//!
//! How to run them: `docs/testing.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here is a finding"
)]

mod api;
mod client;
mod documents;
mod engine;
mod fixtures;
mod images;
mod keystore;
mod launcher;
mod log;
pub mod meter;
mod offers;
mod receipts;
mod sealed;
pub mod seeds;
mod words;

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident in $module:ident;)*) => {
        $($(#[$doc])* pub fn $name(data: &[u8]) {
            meter::within(data.len(), || $module::$name(data));
        })*

        /// Every target by its name.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name),)*];
    };
}

targets! {
    /// Canonical JSON of any shape, and JSON in any encoding.
    canonical_json in documents;
    /// Ids, digests, times, base64 and the other texts with one form.
    texts in words;
    /// A job's spec, and the plan that follows from it.
    spec in documents;
    /// The trust file.
    trust_file in documents;
    /// Input and output manifests, and what stands before them.
    bundles in documents;
    /// Sealed payloads, whole.
    sealed_payload in sealed;
    /// Offers, as a consumer reads them.
    offer in offers;
    /// Receipts, read and judged.
    receipt in receipts;
    /// Checkpoints and log keys.
    checkpoint in log;
    /// Proofs of inclusion and consistency.
    proof in log;
    /// Log entries, and bundles of them.
    log_entries in log;
    /// A whole log served by somebody else.
    log_tiles in log;
    /// The job, as an engine reads it.
    engine_job in engine;
    /// Events, as the node reads them.
    engine_events in engine;
    /// Packets between the node and its launcher.
    launcher_messages in launcher;
    /// The keystore file.
    keystore_document in keystore;
    /// Requests to the API.
    api_bodies in api;
    /// The body of a submission.
    submission in api;
    /// A node's JSON answers and its statement, as a client reads them.
    client_answers in client;
    /// A sealed output, as a client opens it.
    client_output in client;
    /// An image, as a container engine unpacks it.
    image in images;
}
