//! The node's HTTP side: TLS 1.3, limits, and one handler per operation.
//!
//! Handlers parse, ask the [`Service`] and answer; they decide nothing. Every handler but the public
//! ones starts with [`auth::Caller`], and every service call takes the permit that came of it.
//!
//! [`server::serve`] is the loop; [`router::router`] the table; [`openapi::document`] what the table
//! promises (committed as `docs/openapi.json`).

pub mod auth;
mod body;
mod extract;
mod failure;
mod handlers;
pub mod limits;
pub mod openapi;
mod pace;
pub mod router;
pub mod server;
pub mod service;
mod turns;

pub use body::PayloadStream;
pub use failure::Failure;
pub use limits::HttpLimits;
pub use service::{LogBytes, SealedFile, Service, Submitted};
