//! A consumer's side of a node: log in, submit sealed jobs, open what comes back.
//!
//! Start with [`bootstrap`], which learns who a node says it is, and [`Home`], which remembers whom we
//! trust. A [`Client`] then asks for offers and verifies them, seals and submits ([`Client::run`]),
//! and opens outputs, logs and receipts. Whatever a node sends is verified before it is used; what
//! does not fit what was pinned at login is refused, and nothing is sent then.

mod bootstrap;
mod client;
mod connection;
mod dangerous;
mod error;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
mod home;
pub mod image;
pub mod input;
mod log;
mod offer;
pub mod output;
mod receipt;
mod record;
mod sealed;
mod submit;
mod tls;
mod url;
mod watch;

pub use bootstrap::{NodeCard, bootstrap};
pub use client::Client;
pub use connection::{ApiKey, Connection, PageRequest};
pub use error::{ClientError, ErrorKind};
pub use home::{Home, Login};
pub use input::{JobInput, Prepared, Source};
pub use log::Checked;
pub use receipt::JobReceipt;
pub use record::{JobImage, JobRecord, Terms};
pub use sealed::{Output, Part, Take};
pub use url::NodeUrl;

use decores_api::jobs::JobStep;
use std::time::Duration;

/// What happens while a job is submitted and runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// An offer is asked for.
    Offer,
    /// Sealing and sending.
    Upload {
        /// Bytes that left.
        sent: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The job entered a state.
    Step(&'a JobStep),
    /// Something got lost or has no room; it is tried again.
    Again {
        /// Why.
        why: &'a ClientError,
        /// How long we wait first.
        wait: Duration,
    },
}
