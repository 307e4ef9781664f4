//! What the whole-node tests share: a real `decoresd` on a home of its own, a real `decores`, and a
//! consumer and a transport that can be told to misbehave.
//!
//! [`node::Node`] starts and ends a node. [`transport`] speaks TLS and raw HTTP/1.1 to it, byte by
//! byte where a test wants that. [`consumer::Consumer`] asks for offers, submits and waits;
//! [`job::Job`] is what it submits, sealed here and not by the client library, so that a test can
//! alter any part. [`wasm`] has the programs, [`machine`] looks at processes and their memory; [`guest`] is another machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails the test"
)]

pub mod cli;
pub mod consumer;
pub mod guest;
pub mod image;
pub mod job;
pub mod machine;
pub mod node;
pub mod oci;
pub mod programs;
pub mod transport;
pub mod wait;
pub mod wasm;
