//! A plan is checked again, by the process that will act on it.

use crate::config::LauncherConfig;
use crate::job::Traces;
use decores_sandbox::plan::encrypted_bytes;
use decores_sandbox::{HostCapabilities, IsolationPlan, Namespace, ScratchPlan, UserPlan};
use decores_types::Swap;

/// Room that scratch and cgroup may have beyond the job's own limits.
const OVERHEAD: u64 = 1 << 30;
const MAX_TASKS: u32 = 128;

/// Refuses every plan that this launcher did not promise to carry out.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(
    plan: &IsolationPlan,
    name: &str,
    host: &HostCapabilities,
    config: &LauncherConfig,
    live: &[&Traces],
) -> Result<(), String> {
    if plan.network {
        return Err("no engine has a network".to_owned());
    }
    if config.engine(plan.engine).is_none() {
        return Err("no program is known for this engine".to_owned());
    }
    if live.len() >= config.slots as usize {
        return Err(format!("all {} slots are taken", config.slots));
    }
    if live.iter().any(|j| j.name == name) {
        return Err("this attempt is running already".to_owned());
    }
    check_user(plan, host, config, live)?;
    check_limits(plan, config)?;
    check_isolation(plan, host)
}

fn check_user(
    plan: &IsolationPlan,
    host: &HostCapabilities,
    config: &LauncherConfig,
    live: &[&Traces],
) -> Result<(), String> {
    match plan.user {
        UserPlan::Shared if host.own_users => Err("an engine must not share the launcher's user".to_owned()),
        UserPlan::Shared => Ok(()),
        UserPlan::Own { .. } if !host.own_users => Err("users of their own need a launcher run as root".to_owned()),
        UserPlan::Own { uid } => {
            if !config.is_jobs(uid) {
                return Err(format!("user {uid} is outside the range for jobs"));
            }
            if live.iter().any(|j| j.uid == Some(uid)) {
                return Err(format!("user {uid} belongs to another job"));
            }
            Ok(())
        }
    }
}

fn check_limits(plan: &IsolationPlan, config: &LauncherConfig) -> Result<(), String> {
    let limits = &plan.limits;
    if let Some(name) = limits.exceeds(&config.max_limits) {
        return Err(format!("limit `{name}` is beyond what this node allows"));
    }
    if plan.deadline_ms == 0 || plan.deadline_ms > config.max_deadline_ms {
        return Err("the deadline is not within bounds".to_owned());
    }
    let most = match plan.scratch {
        ScratchPlan::Tmpfs { .. } => limits.scratch_bytes.saturating_add(OVERHEAD),
        ScratchPlan::Encrypted => encrypted_bytes(limits.scratch_bytes),
    };
    if plan.scratch_bytes > most {
        return Err("the scratch is larger than the limits".to_owned());
    }
    let Some(cgroup) = &plan.cgroup else { return Ok(()) };
    let most = [limits.memory_bytes, limits.scratch_bytes, limits.output_bytes, OVERHEAD]
        .iter()
        .fold(0_u64, |sum, n| sum.saturating_add(*n));
    if cgroup.memory_bytes == 0 || cgroup.memory_bytes > most {
        return Err("the memory of the control group is not within bounds".to_owned());
    }
    if cgroup.tasks == 0 || cgroup.tasks > MAX_TASKS {
        return Err("the number of tasks is not within bounds".to_owned());
    }
    Ok(())
}

fn check_isolation(plan: &IsolationPlan, host: &HostCapabilities) -> Result<(), String> {
    if plan.namespaces != host.namespaces {
        return Err("the namespaces are not those that this machine has".to_owned());
    }
    let controllers = plan.cgroup.as_ref().map_or(&[][..], |c| &c.controllers);
    if controllers != host.cgroup {
        return Err("the control groups are not those that this machine has".to_owned());
    }
    let has_scratch = plan.namespaces.contains(&Namespace::Mount);
    match plan.scratch {
        ScratchPlan::Tmpfs { noswap: true } if !(host.tmpfs_noswap && has_scratch) => {
            return Err("this machine has no scratch that is never swapped".to_owned());
        }
        ScratchPlan::Tmpfs { .. } if has_scratch && plan.limits.scratch_bytes > plan.limits.memory_bytes => {
            return Err("a scratch in memory must not be larger than the job's memory".to_owned());
        }
        ScratchPlan::Encrypted if !(host.encrypted_scratch && has_scratch) => {
            return Err("this machine has no scratch of encrypted files".to_owned());
        }
        ScratchPlan::Tmpfs { .. } | ScratchPlan::Encrypted => {}
    }
    if plan.swap != host.swap && plan.swap != Swap::Possible {
        return Err("the plan claims more about swap than holds".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_sandbox::plan::CgroupPlan;
    use decores_types::job::EngineKind;
    use decores_types::{Attempt, JobId, Limits, Protection};
    use std::path::Path;

    fn host() -> HostCapabilities {
        HostCapabilities {
            own_users: true,
            namespaces: vec![Namespace::Mount, Namespace::Net, Namespace::Pid],
            cgroup: vec!["memory".to_owned()],
            landlock_abi: 7,
            seccomp: true,
            tmpfs_noswap: true,
            encrypted_scratch: true,
            swap: Swap::None,
        }
    }

    fn config() -> LauncherConfig {
        LauncherConfig::in_home(Path::new("/run"))
    }

    fn plan() -> IsolationPlan {
        IsolationPlan {
            job: JobId::from_bytes([1; 16]),
            attempt: Attempt(1),
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            user: UserPlan::Own { uid: 1001 },
            namespaces: host().namespaces,
            cgroup: Some(CgroupPlan { controllers: host().cgroup, memory_bytes: 1 << 30, tasks: 16 }),
            limits: Limits::default(),
            scratch_bytes: 1 << 20,
            scratch: ScratchPlan::Tmpfs { noswap: true },
            swap: Swap::None,
            compile_address_space: 1 << 30,
            deadline_ms: 1000,
            network: false,
        }
    }

    fn live(name: &str, uid: u32) -> Traces {
        Traces { name: name.to_owned(), uid: Some(uid), group: Some(17) }
    }

    fn refused(change: impl FnOnce(&mut IsolationPlan)) -> String {
        let mut plan = plan();
        change(&mut plan);
        check(&plan, "job-1", &host(), &config(), &[&live("other", 1000)]).unwrap_err()
    }

    #[test]
    fn the_planned_plan_passes() {
        check(&plan(), "job-1", &host(), &config(), &[]).unwrap();
    }

    #[test]
    fn a_network_is_refused() {
        assert!(refused(|p| p.network = true).contains("network"));
    }

    #[test]
    fn users_outside_the_range_and_taken_ones_are_refused() {
        assert!(refused(|p| p.user = UserPlan::Own { uid: 0 }).contains("range"));
        assert!(refused(|p| p.user = UserPlan::Own { uid: 999 }).contains("range"));
        assert!(refused(|p| p.user = UserPlan::Own { uid: 1002 }).contains("range"));
        assert!(refused(|p| p.user = UserPlan::Own { uid: 1000 }).contains("another job"));
        assert!(refused(|p| p.user = UserPlan::Shared).contains("share"));
    }

    #[test]
    fn limits_beyond_the_providers_are_refused() {
        assert!(refused(|p| p.limits.memory_bytes = u64::MAX).contains("memoryBytes"));
        assert!(refused(|p| p.deadline_ms = 0).contains("deadline"));
        assert!(refused(|p| p.deadline_ms = u64::MAX).contains("deadline"));
        assert!(refused(|p| p.scratch_bytes = u64::MAX).contains("scratch"));
        assert!(refused(|p| p.cgroup.as_mut().unwrap().tasks = 0).contains("tasks"));
        assert!(refused(|p| p.cgroup.as_mut().unwrap().memory_bytes = u64::MAX).contains("memory"));
    }

    #[test]
    fn less_isolation_than_the_machine_has_is_refused() {
        assert!(refused(|p| p.namespaces.clear()).contains("namespaces"));
        assert!(refused(|p| p.cgroup = None).contains("control groups"));
    }

    #[test]
    fn a_scratch_that_is_not_what_it_should_be_is_refused() {
        let with = |scratch, change: fn(&mut HostCapabilities)| {
            let (mut plan, mut host) = (plan(), host());
            (plan.scratch, plan.limits.memory_bytes) = (scratch, plan.limits.scratch_bytes - 1);
            change(&mut host);
            check(&plan, "job-1", &host, &config(), &[])
        };
        with(ScratchPlan::Encrypted, |_| {}).unwrap();
        assert!(with(ScratchPlan::Encrypted, |h| h.encrypted_scratch = false).unwrap_err().contains("encrypted"));
        assert!(with(ScratchPlan::Tmpfs { noswap: true }, |_| {}).unwrap_err().contains("memory"));
        assert!(with(ScratchPlan::Tmpfs { noswap: true }, |h| h.tmpfs_noswap = false).unwrap_err().contains("swapped"));
    }

    #[test]
    fn more_jobs_than_slots_and_the_same_attempt_twice_are_refused() {
        let (one, other, same) = (live("a", 1), live("b", 2), live("job-1", 1));
        assert!(check(&plan(), "job-1", &host(), &config(), &[&one, &other]).unwrap_err().contains("slots"));
        assert!(check(&plan(), "job-1", &host(), &config(), &[&same]).unwrap_err().contains("already"));
    }
}
