//! How strongly a job is protected, and how strongly a claim is known.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What stands between a job and the rest; ordered, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// A sandboxed process (wasm).
    Process,
    /// A container, also gVisor's.
    Container,
    /// A virtual machine (kata).
    Vm,
    /// Confidential hardware: SGX, TDX, SEV-SNP.
    Enclave,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Container => "container",
            Self::Vm => "vm",
            Self::Enclave => "enclave",
        })
    }
}

/// The strength of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// The node's own signed and logged word.
    Asserted,
    /// Hardware evidence of a measured image.
    Attested,
    /// Mathematics: digests, signatures, Merkle proofs.
    Proved,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asserted => "asserted",
            Self::Attested => "attested",
            Self::Proved => "proved",
        })
    }
}
