//! Ways in for `fuzz/`: what each side does with a packet of the other's.

use crate::check;
use crate::config::LauncherConfig;
use crate::job::Traces;
use crate::message::{self, Ask, Message, Request};
use decores_sandbox::{HostCapabilities, IsolationPlan};

/// Reads a request as the launcher does; what would be sent again, and the plan to act on, where there is one.
pub fn request(packet: &[u8]) -> Option<(Vec<u8>, Option<IsolationPlan>)> {
    let request: Request = serde_json::from_slice(packet).ok()?;
    let again = serde_json::to_vec(&request).ok()?;
    match request.ask {
        Ask::Launch(plan) | Ask::Remove(plan) => Some((again, Some(*plan))),
        _ => Some((again, None)),
    }
}

/// Reads an answer or a notice as the node does; what would be sent again.
pub fn message(packet: &[u8]) -> Option<Vec<u8>> {
    let message: Message = serde_json::from_slice(packet).ok()?;
    serde_json::to_vec(&message).ok()
}

/// Whether a plan would be carried out, with no other job alive.
pub fn admits(plan: &IsolationPlan, host: &HostCapabilities, config: &LauncherConfig) -> bool {
    check::check(plan, &trace_name(plan), host, config, &[]).is_ok()
}

/// The name of what an attempt leaves.
pub fn trace_name(plan: &IsolationPlan) -> String {
    Traces::of(plan).name
}

/// Whether the launcher takes something of this name for an attempt's, and removes it.
pub fn is_trace_name(name: &str) -> bool {
    message::is_trace_name(name)
}
