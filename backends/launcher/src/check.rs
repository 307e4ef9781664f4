//! A plan is checked again, by the process that will act on it.

use crate::config::LauncherConfig;
use crate::job::Traces;
use decores_sandbox::plan::{CgroupPlan, encrypted_bytes};
use decores_sandbox::{ContainerPlan, HostCapabilities, IsolationPlan, Namespace, Runtime, ScratchPlan, UserPlan};
use decores_types::job::EngineKind;
use decores_types::{Protection, Swap};

/// Room that scratch and cgroup may have beyond the job's own limits.
const OVERHEAD: u64 = 1 << 30;
const MAX_TASKS: u32 = 128;
/// Tasks that a container, its runtime and its helper may have.
const MAX_CONTAINER_TASKS: u32 = 4096;

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
    check_isolation(plan, host)?;
    check_engine(plan, host, config)
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
            let users = Traces::of(plan).users;
            if live.iter().any(|j| j.users.zip(users).is_some_and(|(theirs, ours)| theirs.meet(ours))) {
                return Err(format!("user {uid}, or one of its container, belongs to another job"));
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
    check_group(cgroup, &[limits.memory_bytes, limits.scratch_bytes, limits.output_bytes], MAX_TASKS, config)
}

fn check_group(cgroup: &CgroupPlan, memory: &[u64], tasks: u32, config: &LauncherConfig) -> Result<(), String> {
    let most = memory.iter().fold(OVERHEAD, |sum, n| sum.saturating_add(*n));
    if cgroup.memory_bytes == 0 || cgroup.memory_bytes > most {
        return Err("the memory of the control group is not within bounds".to_owned());
    }
    if cgroup.tasks == 0 || cgroup.tasks > tasks {
        return Err("the number of tasks is not within bounds".to_owned());
    }
    if cgroup.io_bytes == 0 || cgroup.io_bytes > config.io_bytes {
        return Err("the speed of the disk is not within bounds".to_owned());
    }
    Ok(())
}

/// What the kind of engine asks for, and no other.
fn check_engine(plan: &IsolationPlan, host: &HostCapabilities, config: &LauncherConfig) -> Result<(), String> {
    let protection = match (plan.engine, &plan.container) {
        (EngineKind::Wasm, None) => Protection::Process,
        (EngineKind::Container, Some(container)) => check_container(plan, container, host, config)?.protection(),
        _ => return Err("a container belongs to an engine of containers, and to no other".to_owned()),
    };
    if plan.protection != protection {
        return Err("the plan claims another protection than it gives".to_owned());
    }
    Ok(())
}

fn check_container(
    plan: &IsolationPlan,
    container: &ContainerPlan,
    host: &HostCapabilities,
    config: &LauncherConfig,
) -> Result<Runtime, String> {
    let configured = config.containers.as_ref().map_err(|why| format!("no containers are run: {why}"))?.runtime;
    if host.container.as_ref().map(|known| known.runtime) != Some(configured) || container.runtime != configured {
        return Err(format!("`{}` is not what runs containers here", container.runtime));
    }
    let ids = match plan.user {
        UserPlan::Own { uid } => config.ids_of(uid),
        UserPlan::Shared => None,
    };
    if container.ids != ids || host.own_users && ids.is_none() {
        return Err("the user ids of the container are not those of the job's place".to_owned());
    }
    if !matches!(plan.scratch, ScratchPlan::Tmpfs { .. }) || !plan.namespaces.contains(&Namespace::Mount) {
        return Err("the scratch of a container lies in memory".to_owned());
    }
    if container.cgroup.as_ref().map_or(&[][..], |cgroup| &cgroup.controllers) != host.cgroup {
        return Err("the container's control groups are not those that this machine has".to_owned());
    }
    if let Some(cgroup) = &container.cgroup {
        check_group(cgroup, &[plan.limits.memory_bytes, plan.limits.scratch_bytes], MAX_CONTAINER_TASKS, config)?;
    }
    Ok(configured)
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
    use crate::config::Containers;
    use crate::process::Users;
    use decores_sandbox::{ContainerHost, IdRange};
    use decores_types::{Attempt, JobId, Limits};
    use std::path::{Path, PathBuf};

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
            container: Some(ContainerHost { runtime: Runtime::Runc, version: "1".to_owned() }),
            no_container: None,
            slots: 2,
        }
    }

    fn config() -> LauncherConfig {
        let helper = PathBuf::from("/bin/helper");
        let mut config = LauncherConfig::in_home(Path::new("/run"));
        config.containers = Ok(Containers { runtime: Runtime::Runc, helper, first_range: 1 << 20 });
        config.engines.push((EngineKind::Container, PathBuf::from("/bin/engine")));
        config
    }

    fn plan() -> IsolationPlan {
        IsolationPlan {
            job: JobId::from_bytes([1; 16]),
            attempt: Attempt(1),
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            user: UserPlan::Own { uid: 1001 },
            namespaces: host().namespaces,
            cgroup: Some(CgroupPlan {
                controllers: host().cgroup,
                memory_bytes: 1 << 30,
                tasks: 16,
                io_bytes: 1,
                cpu_percent: 0,
            }),
            container: None,
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
        Traces { name: name.to_owned(), users: Some(Users::only(uid)), group: Some(17) }
    }

    /// A plan for the second place.
    fn container_plan() -> IsolationPlan {
        let cgroup = plan().cgroup;
        let ids = Some(IdRange { first: (1 << 20) + (1 << 16), count: 1 << 16 });
        IsolationPlan {
            engine: EngineKind::Container,
            protection: Protection::Container,
            container: Some(ContainerPlan { runtime: Runtime::Runc, ids, cgroup }),
            ..plan()
        }
    }

    fn refused_container(change: impl FnOnce(&mut IsolationPlan, &mut ContainerPlan)) -> String {
        let mut plan = container_plan();
        let mut container = plan.container.take().unwrap();
        change(&mut plan, &mut container);
        plan.container = Some(container);
        check(&plan, "job-1", &host(), &config(), &[&live("other", 1000)]).unwrap_err()
    }

    fn refused(change: impl FnOnce(&mut IsolationPlan)) -> String {
        let mut plan = plan();
        change(&mut plan);
        check(&plan, "job-1", &host(), &config(), &[&live("other", 1000)]).unwrap_err()
    }

    #[test]
    fn the_planned_plan_passes() {
        check(&plan(), "job-1", &host(), &config(), &[]).unwrap();
        check(&container_plan(), "job-1", &host(), &config(), &[&live("other", 1000)]).unwrap();
    }

    #[test]
    fn a_container_that_is_not_of_its_place_is_refused() {
        for ids in [
            None,
            Some(IdRange { first: 1 << 19, count: 1 << 16 }),
            Some(IdRange { first: 1 << 20, count: 1 << 16 }),
            Some(IdRange { first: (1 << 20) + (1 << 16), count: 1 << 17 }),
        ] {
            assert!(refused_container(|_, c| c.ids = ids).contains("place"), "{ids:?}");
        }
        let first = IdRange { first: (1 << 20) + (1 << 16) + 9, count: 1 };
        let other = Traces { users: Some(Users { uid: 1000, ids: Some(first) }), ..live("other", 1000) };
        let refused = check(&container_plan(), "job-1", &host(), &config(), &[&other]).unwrap_err();
        assert!(refused.contains("another job"), "{refused}");
    }

    #[test]
    fn a_container_of_another_kind_than_configured_is_refused() {
        assert!(refused_container(|_, c| c.runtime = Runtime::Kata).contains("kata"));
        assert!(refused_container(|p, _| p.protection = Protection::Vm).contains("protection"));
        assert!(refused_container(|p, _| p.protection = Protection::Process).contains("protection"));
        assert!(refused_container(|p, _| p.engine = EngineKind::Wasm).contains("no other"));
        assert!(refused(|p| p.protection = Protection::Container).contains("protection"));
        assert!(refused(|p| p.engine = EngineKind::Container).contains("no other"));
        let (mut without, mut unknown) = (config(), host());
        without.containers = Err("it was switched off".to_owned());
        let refused = check(&container_plan(), "job-1", &host(), &without, &[]).unwrap_err();
        assert!(refused.contains("switched off"));
        unknown.container = None;
        assert!(check(&container_plan(), "job-1", &unknown, &config(), &[]).is_err());
    }

    #[test]
    fn a_container_without_its_limits_is_refused() {
        assert!(refused_container(|_, c| c.cgroup = None).contains("control groups"));
        assert!(refused_container(|p, _| p.scratch = ScratchPlan::Encrypted).contains("memory"));
        let group = |change: fn(&mut CgroupPlan)| refused_container(|_, c| change(c.cgroup.as_mut().unwrap()));
        assert!(group(|c| c.controllers.clear()).contains("control groups"));
        assert!(group(|c| c.memory_bytes = u64::MAX).contains("memory"));
        assert!(group(|c| c.tasks = 5000).contains("tasks"));
        assert!(group(|c| c.io_bytes = u64::MAX).contains("disk"));
        assert!(refused(|p| p.cgroup.as_mut().unwrap().io_bytes = 0).contains("disk"));
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
