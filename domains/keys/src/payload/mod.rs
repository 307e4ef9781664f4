//! Sealed payloads (`docs/formats/sealed-payload.md`): a head with the data keys, then sections.
//!
//! Sealing: [`seal_job`] or [`seal_single`] gives the head's bytes and a [`SectionKey`] per section;
//! write the head, then each section through a [`StreamSealer`]. Opening: [`Head::read`], then
//! [`Head::open_job`] or [`Head::open_single`], then each section through a [`StreamOpener`], and
//! [`expect_end`] after the last.

mod binding;
mod head;
mod header;
mod open;
mod seal;
mod stream;

pub use binding::{JobBinding, ResultBinding};
pub use head::Head;
pub use header::{Header, PayloadError, PayloadKind, Section, SectionKind};
pub use open::{JobKeys, OpenError};
pub use seal::{SealError, SealedJob, SealedSingle, seal_job, seal_single};
pub use stream::{CHUNK_BYTES, SectionKey, StreamError, StreamOpener, StreamSealer, TAG_BYTES, expect_end, sealed_len};
