//! The launcher: a small process that starts engines in their sandbox.
//!
//! `decoresd` forks it before any thread and before any secret exists ([`Launcher::fork`]). It keeps
//! root where the node was started as root, opens nothing, and serves five typed requests over a
//! socket: probe the machine, launch an engine under a plan, kill it, look for leftovers, remove them. A plan is
//! checked again here, since the node's process speaks to the network and this one does not.
//!
//! ```text
//! decoresd ──socketpair──▶ decores-launch ──clone3──▶ child: cgroup → root → descriptors → limits
//!    ▲                          │  ▲                          → user → no-new-privs → exec /engine
//!    └────── exited ◀───────────┘  └── "ready", read back, "go"
//! ```
//!
//! Engines do not outlive the launcher (a parent-death signal ends them), and the launcher does not
//! outlive the node: a closed socket ends every job and removes what was made for it. What could not be
//! removed blocks the job's user id until it is gone; what a killed launcher left is removed at the next start.

mod cgroup;
mod check;
mod config;
mod container;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod handle;
mod holes;
mod inspect;
mod io_limit;
mod jails;
mod job;
mod message;
mod mounts;
mod probe;
mod process;
mod root;
mod scratch;
mod serve;
mod server;
mod service;
mod socket;
mod spawn;
mod swap;
mod syscall;

pub use config::{Containers, LauncherConfig};
pub use error::LaunchError;
pub use handle::{EngineDescriptors, Launched, Launcher, LauncherHandle};
pub use message::Leftovers;
pub use service::serve_at;
