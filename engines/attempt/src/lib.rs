//! What engines share: one attempt, from its descriptors to its last event.
//!
//! ```text
//! descriptors → (fork a child, lock) → events: locked → job and seed → head opened, seed wiped
//!   → the engine's own work: program, input, run → output sealed
//!   → logs sealed, with the engine's note → events: finished
//! ```
//!
//! Plaintext leaves an engine only sealed. What fails by the program's or the payload's fault ends
//! as [`decores_sandbox::protocol::EngineEvent::Finished`] with a reason; what fails by ours ends the
//! process, and the node says `engine-lost`.

mod attempt;
mod child;
mod descriptors;
mod error;
mod events;
mod input;
mod moment;
mod output;

pub use attempt::{Attempt, Opened, read_job, read_module_key, read_seed};
pub use child::{Child, Inside};
pub use descriptors::{
    Descriptors, Pump, end_with, ended_by_signal, ignore_file_size_signal, is_in_memory, memory_file, pump,
    readable_within, stream_pair, unnamed_bytes,
};
pub use error::{EngineError, Stop, doing};
pub use events::Events;
pub use input::{IN, OUT, Place, open as open_input};
pub use moment::{now, since};
pub use output::Output;
