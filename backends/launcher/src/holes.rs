//! Mechanisms left out on purpose: what shows that the escape table notices. No node's launcher ever has any.

use decores_sandbox::{Hole, IsolationPlan, Namespace};

/// How many times as large a scratch is whose limit is left out: an engine asks how large it is.
const TIMES: u64 = 16;

/// A plan without what these holes stand for. What is no part of a plan is left out where it is done.
pub(crate) fn leave_out(mut plan: IsolationPlan, holes: &[Hole]) -> IsolationPlan {
    let has = |hole| holes.contains(&hole);
    let is_container = plan.container.is_some();
    // An engine that only has a container run keeps its own jail: the container is what is looked at.
    if !is_container {
        plan.namespaces.retain(|kind| !holes.iter().any(|hole| namespace(*hole) == Some(*kind)));
    }
    let group = match &mut plan.container {
        Some(container) => container.cgroup.as_mut(),
        None => plan.cgroup.as_mut(),
    };
    if let Some(group) = group {
        group.controllers.retain(|name| match name.as_str() {
            "pids" => !has(Hole::TaskLimit),
            "memory" => !has(Hole::MemoryLimit),
            _ => true,
        });
        if has(Hole::TaskLimit) {
            group.tasks = u32::MAX;
        }
    }
    if has(Hole::ScratchLimit) {
        plan.scratch_bytes = plan.scratch_bytes.saturating_mul(TIMES);
    }
    plan
}

/// The namespace that a hole leaves out.
pub(crate) const fn namespace(hole: Hole) -> Option<Namespace> {
    match hole {
        Hole::NetNamespace => Some(Namespace::Net),
        Hole::PidNamespace => Some(Namespace::Pid),
        Hole::IpcNamespace => Some(Namespace::Ipc),
        Hole::UtsNamespace => Some(Namespace::Uts),
        Hole::Root => Some(Namespace::Mount),
        _ => None,
    }
}
