//! Canonical JSON (RFC 8785), read strictly: parsed, re-serialised, compared.

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;

/// Why a document was refused.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Longer than its kind allows.
    #[error("document has {actual} bytes, at most {max} are read")]
    TooLarge {
        /// Bytes given.
        actual: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not JSON at all.
    #[error("not JSON")]
    NotJson(#[source] serde_json::Error),
    /// Nested too deeply.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// JSON, but not of this shape: a member is missing, unknown or of the wrong type.
    #[error("not the expected document")]
    Shape(#[source] serde_json::Error),
    /// The same content in another encoding.
    #[error("not in canonical form (RFC 8785)")]
    NotCanonical,
}

/// The canonical bytes of a value.
///
/// # Errors
/// If the value does not serialise; types of this workspace do.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(value).map_err(CanonicalError::Shape)
}

/// Reads canonical JSON of at most `max` bytes; every other encoding of the same value is refused.
pub fn from_slice<T: Serialize + DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CanonicalError> {
    let value: T = from_json(bytes, max)?;
    if to_vec(&value)? == bytes { Ok(value) } else { Err(CanonicalError::NotCanonical) }
}

/// Reads JSON of at most `max` bytes and [`MAX_DEPTH`] levels in any encoding.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CanonicalError> {
    if bytes.len() > max {
        return Err(CanonicalError::TooLarge { actual: bytes.len(), max });
    }
    // Skipped strings are not looked into, so what is no UTF-8 has to be found here.
    let text = std::str::from_utf8(bytes).map_err(|e| CanonicalError::NotJson(serde_json::Error::custom(e)))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(CanonicalError::NotJson)?;
    check_depth(bytes)?;
    serde_json::from_slice(bytes).map_err(CanonicalError::Shape)
}

/// Counts brackets outside strings; `bytes` is known to be JSON.
fn check_depth(bytes: &[u8]) -> Result<(), CanonicalError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &b in bytes {
        match b {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(CanonicalError::TooDeep);
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}
