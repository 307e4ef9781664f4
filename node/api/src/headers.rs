//! Headers and limits of the transport.

/// Makes a submission safe to repeat: 16 to 64 characters of `[A-Za-z0-9_-]`.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Media type of a submission: length (4 bytes, big-endian), JSON [`crate::jobs::Submission`], sealed payload.
pub const SUBMISSION: &str = "application/vnd.decores.submission";
/// Media type of sealed outputs and logs.
pub const SEALED: &str = "application/vnd.decores.sealed";
/// Media type of errors (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
/// Largest JSON body, in bytes.
pub const MAX_JSON: usize = 64 * 1024;
/// Longest a `wait` may last, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 30;
/// Largest page of a listing.
pub const MAX_PAGE: usize = 100;
