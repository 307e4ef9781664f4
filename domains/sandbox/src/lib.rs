//! Running a stranger's program: what is admitted, how it is isolated, how it is wiped.
//!
//! This crate decides and refuses; `backends/launcher` and the engines act. Start at
//! [`plan::plan`]: spec and host in, [`plan::IsolationPlan`] or a [`plan::Refusal`] out. The plan is
//! a value: it prints, it is what `--dry-run` shows, and it is all the launcher is given.
//!
//! ```text
//! queued → attesting → starting → running → sealing → wiping → done | failed | refused | cancelled
//! ```

pub mod config;
pub mod container;
pub mod hole;
pub mod host;
pub mod plan;
pub mod protocol;
pub mod queue;
pub mod record;
pub mod share;
pub mod wipe;

pub use config::SandboxConfig;
pub use container::{IdRange, Runtime};
pub use hole::Hole;
pub use host::{ContainerHost, HostCapabilities, Namespace};
pub use plan::{ContainerPlan, IsolationPlan, Refusal, ScratchPlan, UserPlan};
pub use queue::{FairQueue, Turns};
pub use record::{JobRecord, Step, TransitionError};
pub use share::{NoRoom, ShareLimits, Shares, Stage};
pub use wipe::{WipeCheck, WipeRecord};
