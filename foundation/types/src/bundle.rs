//! Bundles: the input and output of a job as one stream (docs/formats/sealed-payload.md).
//!
//! A bundle is a prelude (magic, version, manifest) and the contents in the manifest's order. This
//! module reads and writes the prelude; contents are streamed by the caller.

use crate::canonical::{self, CanonicalError};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Largest manifest, in bytes.
pub const MAX_MANIFEST: usize = 1 << 20;
/// Most files in a bundle.
pub const MAX_FILES: usize = 4096;
/// Most arguments, and most variables.
pub const MAX_WORDS: usize = 1024;
/// Bytes before the manifest.
pub const PRELUDE: usize = 12;
const MAGIC: &[u8; 8] = b"DCBN\x01\0\0\0";

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle, or of another version.
    #[error("not a bundle of version 1")]
    Magic,
    /// The manifest is longer than [`MAX_MANIFEST`].
    #[error("manifest has {0} bytes, at most {MAX_MANIFEST} are read")]
    ManifestSize(usize),
    /// The manifest is not canonical JSON of its shape.
    #[error("failed to read the manifest")]
    Manifest(#[source] CanonicalError),
    /// A path that could leave its folder or confuse.
    #[error("path `{0}` is not allowed: relative, `/`-separated, no `.` or `..`, at most 512 bytes and 16 parts")]
    Path(String),
    /// Files out of order, twice, or one below another.
    #[error("files are not sorted, or `{0}` stands twice or below another file")]
    Order(String),
    /// Too many files, arguments or variables.
    #[error("more than {max} {what}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The most that are read.
        max: usize,
    },
    /// An argument or variable with a NUL, or an empty name, or a name with `=`.
    #[error("argument or variable `{0}` is not allowed")]
    Word(String),
}

/// A size and a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// SHA-256 of the content.
    pub sha256: HexDigest,
    /// Bytes.
    pub size: u64,
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where it goes, relative.
    pub path: RelPath,
    /// SHA-256 of the content.
    pub sha256: HexDigest,
    /// Bytes.
    pub size: u64,
}

/// What goes in: arguments, environment, standard input, files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputManifest {
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Input files.
    pub files: Vec<File>,
    /// Standard input.
    pub stdin: Item,
}

/// What comes out: exit code, standard output, files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputManifest {
    /// The program's exit code.
    pub exit: i32,
    /// Output files.
    pub files: Vec<File>,
    /// Standard output.
    pub stdout: Item,
}

/// A manifest that can head a bundle.
pub trait Manifest: Serialize + serde::de::DeserializeOwned {
    /// Checks everything the JSON shape does not.
    fn check(&self) -> Result<(), BundleError>;

    /// The sizes of the contents, in order.
    fn sizes(&self) -> Vec<u64>;

    /// The canonical bytes.
    fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let bytes = canonical::to_vec(self).map_err(BundleError::Manifest)?;
        if bytes.len() > MAX_MANIFEST { Err(BundleError::ManifestSize(bytes.len())) } else { Ok(bytes) }
    }

    /// The digest that commitments are made to.
    fn digest(&self) -> Result<Digest, BundleError> {
        Ok(Digest::of(&self.to_bytes()?))
    }

    /// Magic, length and manifest: what stands before the contents.
    fn prelude(&self) -> Result<Vec<u8>, BundleError> {
        self.check()?;
        let manifest = self.to_bytes()?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&(manifest.len() as u32).to_be_bytes());
        out.extend_from_slice(&manifest);
        Ok(out)
    }

    /// Parses a manifest.
    fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let manifest: Self = canonical::from_slice(bytes, MAX_MANIFEST).map_err(BundleError::Manifest)?;
        manifest.check()?;
        Ok(manifest)
    }
}

/// The manifest's length, from a bundle's first bytes.
pub fn manifest_len(prelude: &[u8; PRELUDE]) -> Result<usize, BundleError> {
    let (magic, length) = prelude.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(BundleError::Magic);
    }
    let length = length.iter().fold(0_usize, |sum, b| sum << 8 | usize::from(*b));
    if length > MAX_MANIFEST { Err(BundleError::ManifestSize(length)) } else { Ok(length) }
}

impl Manifest for InputManifest {
    fn check(&self) -> Result<(), BundleError> {
        check_words("arguments", self.args.len())?;
        check_words("variables", self.env.len())?;
        if let Some(bad) = self.args.iter().find(|a| a.contains('\0')) {
            return Err(BundleError::Word(bad.clone()));
        }
        let bad_name = |n: &str| n.is_empty() || n.contains(['=', '\0']);
        if let Some((name, _)) = self.env.iter().find(|(n, v)| bad_name(n) || v.contains('\0')) {
            return Err(BundleError::Word(name.clone()));
        }
        check_files(&self.files)
    }

    fn sizes(&self) -> Vec<u64> {
        std::iter::once(self.stdin.size).chain(self.files.iter().map(|f| f.size)).collect()
    }
}

impl Manifest for OutputManifest {
    fn check(&self) -> Result<(), BundleError> {
        check_files(&self.files)
    }

    fn sizes(&self) -> Vec<u64> {
        std::iter::once(self.stdout.size).chain(self.files.iter().map(|f| f.size)).collect()
    }
}

fn check_words(what: &'static str, n: usize) -> Result<(), BundleError> {
    if n > MAX_WORDS { Err(BundleError::TooMany { what, max: MAX_WORDS }) } else { Ok(()) }
}

fn check_files(files: &[File]) -> Result<(), BundleError> {
    if files.len() > MAX_FILES {
        return Err(BundleError::TooMany { what: "files", max: MAX_FILES });
    }
    for pair in files.windows(2) {
        if let [a, b] = pair
            && a.path >= b.path
        {
            return Err(BundleError::Order(b.path.to_string()));
        }
    }
    let names: std::collections::BTreeSet<&str> = files.iter().map(|f| f.path.as_str()).collect();
    for file in files {
        let path = file.path.as_str();
        let mut folders = path.match_indices('/').map(|(at, _)| path.split_at(at).0);
        if folders.any(|folder| names.contains(folder)) {
            return Err(BundleError::Order(path.to_owned()));
        }
    }
    Ok(())
}

/// A path inside a bundle: relative, plain, without tricks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

impl RelPath {
    /// Parses; see [`BundleError::Path`] for what is refused.
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let bad_part = |p: &str| p.is_empty() || p == "." || p == "..";
        let bad = text.len() > 512
            || text.split('/').count() > 16
            || text.split('/').any(bad_part)
            || text.chars().any(char::is_control)
            || text.contains('\\');
        if bad { Err(BundleError::Path(text.escape_debug().to_string())) } else { Ok(Self(text.to_owned())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RelPath {
    type Error = BundleError;
    fn try_from(text: String) -> Result<Self, BundleError> {
        Self::parse(&text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest as bare hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexDigest(pub Digest);

impl TryFrom<String> for HexDigest {
    type Error = crate::encoding::ParseError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        crate::encoding::parse_hex(&text, "SHA-256 digest").map(|b| Self(Digest::from_bytes(b)))
    }
}

impl From<HexDigest> for String {
    fn from(digest: HexDigest) -> Self {
        hex::encode(digest.0.as_bytes())
    }
}

impl From<Digest> for HexDigest {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}
