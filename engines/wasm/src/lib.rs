//! The WebAssembly engine: runs one WASI preview 1 command and exits.
//!
//! ```text
//! main: no core dumps → fork the compile process → lock (Landlock, seccomp) → locked memory
//!   read the job and the offer key's seed → open the head → wipe the seed
//!   program key ──▶ compile process (locked: opens nothing, runs nothing) ──▶ compiled code
//!     or: the code that an earlier job of the consumer's kept, where it is this program's
//!   open the input into memory and scratch → wipe the keys → run the guest under its limits
//!   seal output and logs to the consumer's key → remove the scratch → say how it ended
//! ```
//!
//! Plaintext leaves this process only sealed. What fails by the program's or the payload's fault ends
//! as [`decores_sandbox::protocol::EngineEvent::Finished`] with a reason; what fails by ours ends the
//! process, and the node says `engine-lost`.

mod compile;
mod job;
mod kept;
pub mod limits;
mod run;
mod scratch;
mod sleep;
mod streams;

pub use job::serve;
