//! Attacks on a running node, one module for each family; the story of each stands in its head.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod departures;
mod http;
mod idempotency;
mod keys;
mod offers;
mod receipts;
mod sealed_input;
mod unauthorized;
mod wasm;
