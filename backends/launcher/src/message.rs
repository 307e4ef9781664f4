//! What the node and the launcher say to each other: one JSON document a packet.

use decores_sandbox::protocol::{Exit, Given};
use decores_sandbox::{HostCapabilities, IsolationPlan};
use decores_types::{Attempt, JobId};
use serde::{Deserialize, Serialize};

/// Largest packet, in bytes.
pub(crate) const MAX_PACKET: usize = 64 * 1024;

/// A request and its number.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
}

/// Everything that can be asked; anything else is refused.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Ask {
    Probe,
    Launch(Box<IsolationPlan>),
    Kill { job: JobId, attempt: Attempt },
    Inspect { job: JobId, attempt: Attempt },
    Remove(Box<IsolationPlan>),
}

/// What the launcher sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Message {
    Reply { id: u64, answer: Answer },
    Exited { job: JobId, attempt: Attempt, exit: Exit, left: Leftovers },
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Answer {
    Probed(HostCapabilities),
    Launched { pid: i32, given: Given },
    Killed,
    Inspected(Leftovers),
    Refused(String),
    Failed(String),
}

/// What is left of an attempt on the machine; all false after a complete wipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leftovers {
    /// A process of the job's lives.
    pub processes: bool,
    /// A control group of the job's exists.
    pub cgroup: bool,
    /// A mount of the job's exists in some process's view.
    pub mounts: bool,
    /// The folder its jail was mounted on exists.
    pub scratch: bool,
}

/// The name all of an attempt's traces on the machine carry.
pub(crate) fn trace_name(job: JobId, attempt: Attempt) -> String {
    format!("{job}-{attempt}")
}

/// The name of the control group of an attempt's container.
pub(crate) fn container_name(name: &str) -> String {
    format!("{name}.container")
}

/// The name of the attempt that a control group of this name belongs to.
pub(crate) fn whose(group: &str) -> &str {
    group.split_once('.').map_or(group, |(name, _)| name)
}

/// The name of the traces of a trial, which this process makes.
pub(crate) fn probe_name() -> String {
    format!("probe-{}", std::process::id())
}

/// Whether [`trace_name`] or [`probe_name`] makes such names.
pub(crate) fn is_trace_name(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(whose, number)| {
        let known = whose == "probe" || JobId::parse(whose).is_ok();
        known && number.parse().is_ok_and(|n: u32| n.to_string() == number)
    })
}
