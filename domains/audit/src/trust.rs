//! The trust file: which nodes a verifier knows, and what it demands (docs/formats/receipt.md).

use crate::checkpoint::LogKey;
use crate::receipt::file::Unbuilt;
use crate::verify::Require;
use decores_types::canonical::{self, CanonicalError};
use decores_types::{Base64, KeyId};
use serde::{Deserialize, Serialize};

/// Largest trust file, in bytes.
pub const MAX_TRUST: usize = 256 * 1024;
/// Most nodes in it.
const MAX_NODES: usize = 256;

/// Whom a verifier trusts for what. How it is checked stands in [`Trust::parse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Pinned nodes.
    pub nodes: Vec<TrustedNode>,
    /// What is demanded of every receipt.
    pub policy: Policy,
    /// Format version: 1.
    pub version: u32,
}

/// A pinned node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedNode {
    /// Its chain: none exist yet.
    #[serde(default)]
    pub chain: Option<Unbuilt>,
    /// Its identity key.
    pub identity: PinnedKey,
    /// Its log.
    pub log: PinnedLog,
    /// What the verifier calls it.
    pub name: String,
}

/// A pinned identity key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedKey {
    /// `ed25519`.
    pub algorithm: String,
    /// Its id; must fit the key.
    pub id: KeyId,
    /// The raw public key.
    pub public: Base64,
}

/// A pinned log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedLog {
    /// Its key, as a `vkey`.
    pub key: String,
    /// Its origin; must be the key's name.
    pub origin: String,
}

/// What a verifier demands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whether anchors in a simulated chain count.
    pub insecure_accept_simulated_anchor: bool,
    /// Whether simulated hardware evidence counts.
    pub insecure_accept_simulated_evidence: bool,
    /// Claims that must hold.
    pub require: Vec<Require>,
    /// How many distinct witnesses must have signed the checkpoint.
    pub witnesses: u32,
}

/// Why a trust file was refused.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not the file.
    #[error("failed to read the trust file")]
    Json(#[source] CanonicalError),
    /// Of another version.
    #[error("trust file of version {0}, only 1 is read")]
    Version(u32),
    /// Too many nodes.
    #[error("the trust file has {0} nodes, at most {MAX_NODES} are read")]
    TooMany(usize),
    /// A node whose parts do not fit.
    #[error("node `{name}` in the trust file is not usable: {why}")]
    Node {
        /// Which.
        name: String,
        /// Why.
        why: &'static str,
    },
}

impl Default for Trust {
    fn default() -> Self {
        Self { nodes: Vec::new(), policy: Policy::default(), version: 1 }
    }
}

impl Trust {
    /// Reads a trust file, in any encoding of its JSON: people edit it.
    ///
    /// # Errors
    /// If a member is unknown, or a node's keys, ids and names do not fit each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let this: Self = canonical::from_json(bytes, MAX_TRUST).map_err(TrustError::Json)?;
        if this.version != 1 {
            return Err(TrustError::Version(this.version));
        }
        if this.nodes.len() > MAX_NODES {
            return Err(TrustError::TooMany(this.nodes.len()));
        }
        for (at, node) in this.nodes.iter().enumerate() {
            let others = this.nodes.iter().take(at);
            let twice = others.into_iter().any(|n| n.identity.id == node.identity.id || n.name == node.name);
            let why = if twice { Some("its name or identity stands twice") } else { node.problem() };
            if let Some(why) = why {
                let name = node.name.chars().take(64).collect::<String>().escape_debug().to_string();
                return Err(TrustError::Node { name, why });
            }
        }
        Ok(this)
    }

    /// The canonical bytes.
    ///
    /// # Errors
    /// If it does not serialise; it does.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustError> {
        canonical::to_vec(self).map_err(TrustError::Json)
    }

    /// The node with this identity.
    pub fn node(&self, identity: &KeyId) -> Option<&TrustedNode> {
        self.nodes.iter().find(|n| n.identity.id == *identity)
    }
}

impl TrustedNode {
    /// A node, pinned.
    pub fn new(name: &str, identity: [u8; 32], log: &LogKey) -> Self {
        Self {
            chain: None,
            identity: PinnedKey {
                algorithm: "ed25519".to_owned(),
                id: KeyId::of_public("ed25519", &identity),
                public: identity.as_slice().into(),
            },
            log: PinnedLog { key: log.to_string(), origin: log.name().to_owned() },
            name: name.to_owned(),
        }
    }

    /// The log's key, if it reads as one and fits the origin.
    pub fn log_key(&self) -> Option<LogKey> {
        LogKey::parse(&self.log.key).ok().filter(|key| key.name() == self.log.origin)
    }

    fn problem(&self) -> Option<&'static str> {
        let name_fits = !self.name.is_empty() && self.name.len() <= 128 && !self.name.chars().any(char::is_control);
        if !name_fits {
            Some("its name is empty, too long or holds control characters")
        } else if self.identity.algorithm != "ed25519" || self.identity.public.0.len() != 32 {
            Some("its identity is not an Ed25519 key")
        } else if self.identity.id != KeyId::of_public("ed25519", &self.identity.public.0) {
            Some("its identity's id does not fit the key")
        } else if self.log_key().is_none() {
            Some("its log key does not read, or is not of the origin")
        } else {
            None
        }
    }
}
