//! The words everyone uses: ids, digests, times, canonical JSON, the job spec and its states.
//!
//! Nothing here does I/O, reads a clock or draws randomness; [`ambient`] names those as ports.
//! Outside text becomes one of these types at the door (`parse`, `TryFrom`), and only the type
//! travels on.

pub mod ambient;
pub mod bundle;
pub mod canonical;
pub mod digest;
pub mod encoding;
pub mod error;
pub mod id;
pub mod isolation;
pub mod job;
pub mod protection;
pub mod time;

pub use ambient::{Clock, Random};
pub use digest::{Commitment, CommitmentKey, Digest};
pub use encoding::Base64;
pub use error::chain;
pub use id::{AlertId, ApiKeyId, ConsumerId, JobId, KeyId, OfferId};
pub use isolation::{Scratch, Swap, WipeCategory};
pub use job::{Attempt, JobSpec, JobState, Limits, Reason};
pub use protection::{Protection, Strength};
pub use time::Timestamp;
