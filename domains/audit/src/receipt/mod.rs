//! Receipts: what ran, under what, what went in and out, what was destroyed (docs/formats/receipt.md).
//!
//! In the order of their making: a [`Predicate`] becomes a payload ([`build::payload`]); the
//! identity key signs it ([`build::sign`]); the log entry that ends the attempt commits to it
//! ([`build::ended`]); once the entry stands under a checkpoint, [`ReceiptFile`] joins it all. The
//! consumer may add an [`Opening`].

pub mod build;
pub mod file;
pub mod predicate;

pub use file::{Opening, Receipt, ReceiptError, ReceiptFile, Statement, Subject, SubjectDigest};
pub use predicate::Predicate;

/// Type of the file, and predicate type of the statement in it.
pub const RECEIPT_TYPE: &str = "https://decores.dev/receipt/v1";
/// DSSE payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Type of the statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Largest receipt, in bytes.
pub const MAX_RECEIPT: usize = 1 << 20;
