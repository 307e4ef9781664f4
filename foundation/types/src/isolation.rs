//! Words for what holds a job, and for how it is wiped: the same in plans, log entries and receipts.

use serde::{Deserialize, Serialize};

/// Whether pages can reach a swap device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Swap {
    /// The machine has none.
    None,
    /// There is swap, and what this is said of may not use it.
    Prevented,
    /// There is swap, and nothing keeps pages from it.
    Possible,
}

/// What a job's scratch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scratch {
    /// A tmpfs that is never swapped.
    TmpfsNoswap,
    /// A tmpfs.
    Tmpfs,
    /// Encrypted files on disk, under a random key that only the memory of one process holds.
    EncryptedFile,
    /// There is none: no files go in or out.
    None,
}

/// A category of NIST SP 800-88 Rev. 2; weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WipeCategory {
    /// Overwritten or freed by ordinary means.
    Clear,
    /// The only key of a ciphertext was destroyed.
    PurgeCryptographicErase,
}
