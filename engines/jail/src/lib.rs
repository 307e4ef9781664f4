//! An engine locks itself in, before it reads the first byte of its guest's.
//!
//! First files ([`close_files`]: Landlock leaves the scratch and nothing else), then system calls
//! ([`FilesClosed::close_calls`]: a list of those allowed, with the reason for each in [`calls`];
//! every other call ends the process). Both are read back; what is not in force is an error, and the
//! engine does not go on. Between the two steps the engine may start the threads it needs: they
//! inherit the first and are held by the second.

pub mod calls;
mod error;
mod files;
mod filter;

pub use error::JailError;
pub use files::{FilesClosed, Links, close_files, close_files_but, insecure_leave_files_open};
pub use filter::{LockReport, Profile, lock};
