//! Words of the log: short names from our own code, never text from people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A name such as `wipe-incomplete`: a small letter, then small letters, digits, `-` and `_`; at most 48.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(String);

/// A word that does not fit the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a log word: a small letter, then small letters, digits, `-` and `_`, at most 48 in all")]
pub struct CodeError;

impl Code {
    /// Parses a word.
    ///
    /// # Errors
    /// If it is anything but a short name.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let named = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if named && text.len() <= 48 && text.bytes().all(fits) { Ok(Self(text.to_owned())) } else { Err(CodeError) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Code {
    type Error = CodeError;
    fn try_from(text: String) -> Result<Self, CodeError> {
        Self::parse(&text)
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.0
    }
}

impl std::str::FromStr for Code {
    type Err = CodeError;
    fn from_str(text: &str) -> Result<Self, CodeError> {
        Self::parse(text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version of ours, such as `0.1.0`: digits, letters, `.`, `-` and `+`; at most 32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// Parses a version.
    ///
    /// # Errors
    /// If it does not start with a digit, or holds anything else than a version does.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+');
        let numbered = text.bytes().next().is_some_and(|b| b.is_ascii_digit());
        if numbered && text.len() <= 32 && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(VersionError)
        }
    }
}

/// A version that does not read as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version: digits, letters, `.`, `-` and `+`, at most 32 in all")]
pub struct VersionError;

impl TryFrom<String> for Version {
    type Error = VersionError;
    fn try_from(text: String) -> Result<Self, VersionError> {
        Self::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
