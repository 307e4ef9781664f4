//! Many jobs at a time: what a node does under load, looked at from outside.
//!
//! A [`crowd`] of clients, each with an API key and so a consumer of its own, lives in this one process and uses the
//! client library as the command line does. [`run`] has them submit a mix of [`kind`]s of jobs and then audits
//! everything that is left: the log, the receipts, the disk, the node's memory. [`fairness`] measures what one
//! consumer's flood costs another; [`memory`] what a node weighs when it is idle, when jobs wait, and afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails the run"
)]

pub mod audit;
pub mod crowd;
pub mod fairness;
pub mod kind;
pub mod memory;
pub mod run;
pub mod weight;
