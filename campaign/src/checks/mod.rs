//! What is looked at from outside, each look a function that returns what it found.

pub mod acknowledged;
pub mod leftovers;
pub mod log;
pub mod plaintext;
