//! Attacks on a running node, one module for each family; the story of each stands in its head.

mod http;
mod idempotency;
mod keys;
mod offers;
mod receipts;
mod sealed_input;
mod unauthorized;
mod wasm;
