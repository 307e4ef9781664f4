//! Errors as problem details (RFC 9457).

use serde::{Deserialize, Serialize};
use std::fmt;

/// What went wrong, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `https://decores.dev/problems/` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong, in general.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The code to branch on.
    pub code: Code,
    /// What went wrong this time.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("https://decores.dev/problems/{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.detail)
    }
}

impl std::error::Error for Problem {}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// Codes of problems; each has one HTTP status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Code {
            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The problem in general.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    /// The body or a parameter is not what it should be.
    Malformed = "malformed", 400, "The request is malformed";
    /// No key, or one the node does not accept.
    Unauthenticated = "unauthenticated", 401, "Not authenticated";
    /// The key's time is over.
    KeyExpired = "key-expired", 401, "The API key has expired";
    /// The key's role does not allow it.
    Forbidden = "forbidden", 403, "Not allowed";
    /// Nothing here that the caller may know of.
    NotFound = "not-found", 404, "Not found";
    /// Wrong method.
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed";
    /// Too slow.
    RequestTimeout = "request-timeout", 408, "The request took too long";
    /// The idempotency key stands for another spec.
    IdempotencyConflict = "idempotency-conflict", 409, "The idempotency key was used for another spec";
    /// The job's state does not allow it.
    StateConflict = "state-conflict", 409, "The job's state does not allow this";
    /// Used, expired, foreign or unknown.
    OfferInvalid = "offer-invalid", 409, "The offer is not valid";
    /// Was there, and is not kept any longer.
    Gone = "gone", 410, "No longer kept";
    /// Too many bytes.
    TooLarge = "too-large", 413, "The request is too large";
    /// Wrong content type.
    UnsupportedMediaType = "unsupported-media-type", 415, "Unsupported media type";
    /// Well-formed, and refused by policy or limits.
    Refused = "refused", 422, "The node refuses this";
    /// Too many open offers, or too many requests.
    TooManyRequests = "too-many-requests", 429, "Too many requests";
    /// Our own fault.
    Internal = "internal", 500, "The node failed";
    /// Full, stopping, or without locked memory to spare.
    Unavailable = "unavailable", 503, "The node cannot take this now";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
