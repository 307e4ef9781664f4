//! From spec and host to an isolation plan.

use crate::config::SandboxConfig;
use crate::container::{CONTAINER_TASKS, IdRange, RANGE, Runtime};
use crate::host::{HostCapabilities, Namespace};
use decores_types::job::EngineKind;
use decores_types::{Attempt, JobId, JobSpec, Limits, Protection, Reason, Swap};
use serde::{Deserialize, Serialize};

/// Bytes of memory an engine needs beside its program's linear memory and scratch.
const ENGINE_MEMORY: u64 = 192 << 20;
/// Tasks an engine may have: itself, its compile process, a timer thread, and room to spare.
const ENGINE_TASKS: u32 = 16;
/// Bytes of memory the server of an encrypted scratch needs.
const SERVER_MEMORY: u64 = 128 << 20;
/// Tasks that server may have: its threads, some of which wait for the disk.
const SERVER_TASKS: u32 = 48;
/// Tasks they may have: a runtime with a kernel of its own has many threads.
const RUNTIME_TASKS: u32 = 256;
/// Bytes of scratch beyond the job's limit: the last pages of its files, and its folders.
const SCRATCH_ROOM: u64 = 32 << 20;
/// Address space of the compile process, in bytes.
const COMPILE_ADDRESS_SPACE: u64 = 4 << 30;

/// Everything the launcher is told about one attempt. It has no choices left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IsolationPlan {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: Attempt,
    /// Which engine runs.
    pub engine: EngineKind,
    /// What this plan amounts to.
    pub protection: Protection,
    /// As whom the engine runs.
    pub user: UserPlan,
    /// Namespaces of its own, sorted.
    pub namespaces: Vec<Namespace>,
    /// Cgroup limits; `None` where the host has no usable controller.
    pub cgroup: Option<CgroupPlan>,
    /// The container that the engine has run; absent for engines that run the program themselves.
    #[serde(default)]
    pub container: Option<ContainerPlan>,
    /// The job's own limits, enforced by the engine.
    pub limits: Limits,
    /// What the scratch is made of.
    pub scratch: ScratchPlan,
    /// Bytes of the scratch: input and output files together, and what storing them takes.
    pub scratch_bytes: u64,
    /// Whether pages can reach swap under this plan.
    pub swap: Swap,
    /// Address space of the compile process, in bytes.
    pub compile_address_space: u64,
    /// Milliseconds after which the launcher ends the engine whatever it does.
    pub deadline_ms: u64,
    /// Always false: no engine has a network.
    pub network: bool,
}

/// How a container is held, beside its engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerPlan {
    /// What runs it.
    pub runtime: Runtime,
    /// What its users are mapped to, but for the one that is the job's own; absent without root.
    pub ids: Option<IdRange>,
    /// Limits of its own control group; `None` where the host has no usable controller.
    pub cgroup: Option<CgroupPlan>,
}

/// As whom an engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum UserPlan {
    /// A user no other live job has.
    Own {
        /// User and group id.
        uid: u32,
    },
    /// The node's own user, in a user namespace where that is allowed.
    Shared,
}

/// What a scratch is to be made of; where there is no mount namespace there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum ScratchPlan {
    /// Memory, which counts as the job's.
    Tmpfs {
        /// Whether it is kept from swap.
        noswap: bool,
    },
    /// Encrypted files on disk.
    Encrypted,
}

/// Limits set by cgroups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CgroupPlan {
    /// Controllers that will be used, sorted.
    pub controllers: Vec<String>,
    /// Memory of all inside, in bytes; files in memory that it writes included.
    pub memory_bytes: u64,
    /// Tasks.
    pub tasks: u32,
    /// Bytes a second read from, and written to, the disk of the node's home.
    #[serde(default)]
    pub io_bytes: u64,
    /// Processor time, in hundredths of one processor; 0: a fair share, whatever that is.
    #[serde(default)]
    pub cpu_percent: u32,
}

/// Why a spec is not run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The spec asks for more protection than this machine has.
    #[error("the spec asks for protection `{asked}`, this node gives at most `{given}`")]
    Protection {
        /// What the spec asks for.
        asked: Protection,
        /// What the node can give.
        given: Protection,
    },
    /// A limit beyond the provider's.
    #[error("limit `{name}` is beyond what this node allows")]
    Limit {
        /// The limit's name.
        name: &'static str,
    },
    /// More scratch than memory, without encrypted files to keep it in.
    #[error(
        "more scratch than memory needs encrypted files, which this node does not have: ask for at most \
         `memoryBytes` of scratch, or have its provider install gocryptfs and fuse3"
    )]
    Scratch,
    /// A container's files lie in memory only.
    #[error("the files of a container lie in memory: ask for at most `memoryBytes` of scratch")]
    ContainerScratch,
    /// No container can be run.
    #[error("this node runs no containers: {why}")]
    NoContainers {
        /// Why not.
        why: String,
    },
    /// A compiled program is kept for less, or not at all.
    #[error(
        "this node keeps a compiled program for at most {most} seconds; the spec asks for {asked} (`cacheSeconds`)"
    )]
    Cache {
        /// What the spec asks for.
        asked: u32,
        /// What the node gives.
        most: u32,
    },
    /// The machine lacks what no job runs without.
    #[error("this machine cannot isolate jobs: {missing} is not available")]
    Host {
        /// What is missing.
        missing: &'static str,
    },
    /// The node does not do this (yet).
    #[error("{what} is not supported by this node")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
}

impl Refusal {
    /// The reason code that stands in log and receipt.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Protection { .. } => Reason::Protection,
            Self::Limit { .. } | Self::Scratch | Self::ContainerScratch | Self::Cache { .. } => Reason::Limits,
            Self::NoContainers { .. } | Self::Host { .. } | Self::Unsupported { .. } => Reason::Policy,
        }
    }
}

/// The strongest protection this machine gives any job.
pub fn strongest(host: &HostCapabilities) -> Protection {
    runtime(host).map_or(Protection::Process, Runtime::protection)
}

/// What runs containers here.
fn runtime(host: &HostCapabilities) -> Result<Runtime, Refusal> {
    host.container.as_ref().map(|container| container.runtime).ok_or_else(|| {
        let why = host.no_container.clone().unwrap_or_else(|| "nothing that runs them was found".to_owned());
        Refusal::NoContainers { why }
    })
}

/// A compiled program is kept only under a name that the consumer gives it, and only as long as the provider allows.
fn check_cache(spec: &JobSpec, config: &SandboxConfig) -> Result<(), Refusal> {
    let (asked, most) = (spec.cache_seconds, config.cache_seconds);
    if (asked == 0) != spec.cache_id.is_none() {
        return Err(Refusal::Unsupported { what: "`cacheSeconds` without `cacheId`, or `cacheId` without it," });
    }
    if asked > most {
        return Err(Refusal::Cache { asked, most });
    }
    if asked != 0 && spec.engine != EngineKind::Wasm {
        return Err(Refusal::Unsupported { what: "keeping an unpacked image (`cacheSeconds`)" });
    }
    Ok(())
}

/// Bytes that a scratch of encrypted files may take on disk: files, what encrypting adds, and their places.
pub const fn encrypted_bytes(scratch_bytes: u64) -> u64 {
    scratch_bytes.saturating_add(scratch_bytes / 64).saturating_add(SCRATCH_ROOM)
}

/// Memory up to as much as the program may have, encrypted files beyond.
fn scratch(limits: &Limits, host: &HostCapabilities) -> Result<(ScratchPlan, u64), Refusal> {
    // Without a mount namespace nothing is written anywhere.
    if limits.scratch_bytes <= limits.memory_bytes || !host.namespaces.contains(&Namespace::Mount) {
        let bytes = limits.scratch_bytes.saturating_add(SCRATCH_ROOM);
        return Ok((ScratchPlan::Tmpfs { noswap: host.tmpfs_noswap }, bytes));
    }
    if !host.encrypted_scratch {
        return Err(Refusal::Scratch);
    }
    Ok((ScratchPlan::Encrypted, encrypted_bytes(limits.scratch_bytes)))
}

/// `program` is the memory of a program that runs inside the engine.
fn cgroup(
    limits: &Limits,
    program: u64,
    scratch: ScratchPlan,
    host: &HostCapabilities,
    config: &SandboxConfig,
) -> Option<CgroupPlan> {
    let (memory, tasks) = match scratch {
        // Standard input and output lie in memory too: the one counts as scratch, the other as output.
        ScratchPlan::Tmpfs { .. } => (
            limits
                .scratch_bytes
                .saturating_add(SCRATCH_ROOM)
                .saturating_add(limits.output_bytes.min(limits.scratch_bytes)),
            ENGINE_TASKS,
        ),
        ScratchPlan::Encrypted => (SERVER_MEMORY, ENGINE_TASKS + SERVER_TASKS),
    };
    let memory_bytes = program.saturating_add(memory).saturating_add(ENGINE_MEMORY);
    let (controllers, io_bytes) = (host.cgroup.clone(), config.io_bytes);
    (!host.cgroup.is_empty()).then_some(CgroupPlan { controllers, memory_bytes, tasks, io_bytes, cpu_percent: 0 })
}

/// Bytes of memory that the helper and a runtime need beside what they run.
const fn runtime_memory(runtime: Runtime) -> u64 {
    match runtime {
        Runtime::Libcontainer => 16 << 20,
        Runtime::Runc => 48 << 20,
        Runtime::Runsc | Runtime::Kata => 192 << 20,
    }
}

/// What the engine unpacks counts as the engine's memory, and what the container writes as its own.
fn container(
    runtime: Runtime,
    limits: &Limits,
    scratch: ScratchPlan,
    host: &HostCapabilities,
    config: &SandboxConfig,
    slot: u32,
) -> Result<ContainerPlan, Refusal> {
    if !host.namespaces.contains(&Namespace::Mount) {
        return Err(Refusal::Host { missing: "a mount namespace" });
    }
    if scratch == ScratchPlan::Encrypted {
        return Err(Refusal::ContainerScratch);
    }
    let first = config.first_range.saturating_add(slot.saturating_mul(RANGE));
    Ok(ContainerPlan {
        runtime,
        ids: host.own_users.then_some(IdRange { first, count: RANGE }),
        cgroup: (!host.cgroup.is_empty()).then(|| CgroupPlan {
            controllers: host.cgroup.clone(),
            memory_bytes: limits.memory_bytes.saturating_add(runtime_memory(runtime)),
            tasks: CONTAINER_TASKS + RUNTIME_TASKS,
            io_bytes: config.io_bytes,
            cpu_percent: config.cpu_percent,
        }),
    })
}

/// Decides how one attempt is isolated; `slot` picks the user no other live job has.
///
/// # Errors
/// A [`Refusal`], whose reason code goes to log and consumer.
pub fn plan(
    job: JobId,
    attempt: Attempt,
    spec: &JobSpec,
    host: &HostCapabilities,
    config: &SandboxConfig,
    slot: u32,
) -> Result<IsolationPlan, Refusal> {
    if spec.version != 1 {
        return Err(Refusal::Unsupported { what: "this spec version" });
    }
    check_cache(spec, config)?;
    let runtime = match spec.engine {
        EngineKind::Wasm => None,
        EngineKind::Container => Some(runtime(host)?),
    };
    let given = runtime.map_or(Protection::Process, Runtime::protection);
    if spec.protection > given {
        return Err(Refusal::Protection { asked: spec.protection, given });
    }
    if let Some(name) = spec.limits.exceeds(&config.max_limits) {
        return Err(Refusal::Limit { name });
    }
    // Without these two a guest that broke out of wasm would meet nothing at all.
    if !host.seccomp {
        return Err(Refusal::Host { missing: "seccomp" });
    }
    if host.landlock_abi == 0 && !host.namespaces.contains(&Namespace::Mount) {
        return Err(Refusal::Host { missing: "Landlock or a mount namespace" });
    }
    let limits = spec.limits;
    let (scratch, scratch_bytes) = match scratch(&limits, host) {
        Err(Refusal::Scratch) if runtime.is_some() => return Err(Refusal::ContainerScratch),
        scratch => scratch?,
    };
    let container = runtime.map(|runtime| container(runtime, &limits, scratch, host, config, slot)).transpose()?;
    let program = if container.is_some() { 0 } else { limits.memory_bytes };
    Ok(IsolationPlan {
        job,
        attempt,
        engine: spec.engine,
        protection: given,
        user: if host.own_users {
            UserPlan::Own { uid: config.first_uid.saturating_add(slot) }
        } else {
            UserPlan::Shared
        },
        namespaces: host.namespaces.clone(),
        cgroup: cgroup(&limits, program, scratch, host, config),
        container,
        limits,
        scratch,
        scratch_bytes,
        swap: host.swap,
        compile_address_space: COMPILE_ADDRESS_SPACE,
        deadline_ms: limits.wall_ms.saturating_add(limits.compile_ms).saturating_add(config.overhead_ms),
        network: false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::host::ContainerHost;
    use decores_types::job::OutputKey;
    use decores_types::{Base64, Commitment, Digest, KeyId, canonical};

    fn host() -> HostCapabilities {
        HostCapabilities {
            own_users: true,
            namespaces: vec![Namespace::Mount, Namespace::Net, Namespace::Pid],
            cgroup: vec!["memory".to_owned(), "pids".to_owned()],
            landlock_abi: 7,
            seccomp: true,
            tmpfs_noswap: true,
            encrypted_scratch: true,
            swap: decores_types::Swap::None,
            container: Some(ContainerHost { runtime: Runtime::Libcontainer, version: "1".to_owned() }),
            no_container: None,
            slots: 2,
        }
    }

    fn spec() -> JobSpec {
        let zero = Commitment::parse(&"0".repeat(64)).unwrap();
        JobSpec {
            version: 1,
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            limits: Limits::default(),
            program: zero,
            input: zero,
            key_check: Digest::of(b""),
            output_key: OutputKey { id: KeyId::from_bytes([0; 16]), public: Base64(Vec::new()) },
            cache_seconds: 0,
            cache_id: None,
        }
    }

    fn planned(spec: &JobSpec, host: &HostCapabilities) -> Result<IsolationPlan, Refusal> {
        plan(JobId::from_bytes([1; 16]), Attempt(1), spec, host, &SandboxConfig::default(), 1)
    }

    fn refused(spec: impl FnOnce(&mut JobSpec), host: impl FnOnce(&mut HostCapabilities)) -> Refusal {
        let (mut s, mut h) = (self::spec(), self::host());
        spec(&mut s);
        host(&mut h);
        planned(&s, &h).unwrap_err()
    }

    #[test]
    fn a_plan_uses_all_the_machine_has() {
        let plan = planned(&spec(), &host()).unwrap();
        assert_eq!(plan.user, UserPlan::Own { uid: SandboxConfig::default().first_uid + 1 });
        assert_eq!(plan.namespaces, host().namespaces);
        let cgroup = plan.cgroup.as_ref().unwrap();
        assert_eq!(cgroup.controllers, host().cgroup);
        assert!(cgroup.memory_bytes > plan.limits.memory_bytes + plan.scratch_bytes);
        assert!(plan.deadline_ms > plan.limits.wall_ms + plan.limits.compile_ms);
        assert!(!plan.network);
    }

    #[test]
    fn a_plan_is_a_document() {
        let plan = planned(&spec(), &host()).unwrap();
        let bytes = canonical::to_vec(&plan).unwrap();
        assert_eq!(canonical::from_slice::<IsolationPlan>(&bytes, 4096).unwrap(), plan);
        let text = String::from_utf8(bytes).unwrap();
        let older = text.replace("\"container\":null,", "");
        assert_eq!(canonical::from_json::<IsolationPlan>(older.as_bytes(), 4096).unwrap(), plan);
        let text = text.replacen('{', "{\"extra\":1,", 1);
        assert!(canonical::from_json::<IsolationPlan>(text.as_bytes(), 4096).is_err());
    }

    #[test]
    fn without_root_the_user_is_shared_and_said_to_be() {
        let mut host = host();
        host.own_users = false;
        host.cgroup.clear();
        let plan = planned(&spec(), &host).unwrap();
        assert_eq!((plan.user, plan.cgroup), (UserPlan::Shared, None));
    }

    #[test]
    fn more_protection_than_there_is_is_refused() {
        for asked in [Protection::Container, Protection::Vm, Protection::Enclave] {
            let refusal = refused(|s| s.protection = asked, |_| {});
            assert_eq!(refusal, Refusal::Protection { asked, given: Protection::Process });
            assert_eq!(refusal.reason(), Reason::Protection);
        }
    }

    #[test]
    fn limits_beyond_the_providers_are_refused() {
        let refusal = refused(|s| s.limits.memory_bytes = u64::MAX, |_| {});
        assert_eq!((refusal.reason(), refusal), (Reason::Limits, Refusal::Limit { name: "memoryBytes" }));
    }

    #[test]
    fn a_machine_without_the_least_isolation_is_refused() {
        assert_eq!(refused(|_| {}, |h| h.seccomp = false).reason(), Reason::Policy);
        let bare = |h: &mut HostCapabilities| {
            h.landlock_abi = 0;
            h.namespaces.clear();
        };
        assert_eq!(refused(|_| {}, bare), Refusal::Host { missing: "Landlock or a mount namespace" });
        // One of the two is enough.
        let mut host = host();
        host.landlock_abi = 0;
        assert!(planned(&spec(), &host).is_ok());
    }

    #[test]
    fn scratch_beyond_the_memory_is_encrypted_or_refused() {
        let with = |scratch, host: &HostCapabilities| {
            let mut spec = spec();
            (spec.limits.memory_bytes, spec.limits.scratch_bytes) = (64 << 20, scratch);
            planned(&spec, host)
        };
        let within = with(64 << 20, &host()).unwrap();
        assert_eq!(within.scratch, ScratchPlan::Tmpfs { noswap: true });
        let beyond = with((64 << 20) + 1, &host()).unwrap();
        assert_eq!(beyond.scratch, ScratchPlan::Encrypted);
        let large = with(4 << 30, &host()).unwrap();
        assert_eq!(large.cgroup, beyond.cgroup, "what lies on disk is no memory");
        assert!(large.scratch_bytes > 4 << 30);
        let mut without = host();
        without.encrypted_scratch = false;
        assert_eq!(with((64 << 20) + 1, &without).unwrap_err().reason(), Reason::Limits);
        assert!(with(64 << 20, &without).is_ok());
        without.namespaces.clear();
        assert!(with(4 << 30, &without).is_ok(), "without a scratch there is nothing to encrypt");
    }

    #[test]
    fn a_container_has_a_range_of_its_own_and_a_group_beside_its_engines() {
        let mut spec = spec();
        (spec.engine, spec.protection) = (EngineKind::Container, Protection::Container);
        let plan = planned(&spec, &host()).unwrap();
        assert_eq!(plan.protection, Protection::Container);
        let container = plan.container.unwrap();
        let first = SandboxConfig::default().first_range + RANGE;
        assert_eq!(container.ids, Some(IdRange { first, count: RANGE }));
        let (inside, beside) = (container.cgroup.unwrap(), plan.cgroup.unwrap());
        assert_eq!((inside.cpu_percent, beside.cpu_percent), (100, 0), "a module has one thread");
        assert!(inside.memory_bytes > plan.limits.memory_bytes && inside.tasks > beside.tasks);
        assert!(beside.memory_bytes > plan.scratch_bytes);
        let mut rootless = host();
        rootless.own_users = false;
        assert_eq!(planned(&spec, &rootless).unwrap().container.unwrap().ids, None);
        spec.protection = Protection::Vm;
        let refusal = planned(&spec, &host()).unwrap_err();
        assert_eq!(refusal, Refusal::Protection { asked: Protection::Vm, given: Protection::Container });
    }

    #[test]
    fn a_container_without_a_runtime_or_beyond_memory_is_refused() {
        let container = |s: &mut JobSpec| s.engine = EngineKind::Container;
        let refusal =
            refused(container, |h| (h.container, h.no_container) = (None, Some("`runc` is not there".to_owned())));
        assert!(refusal.to_string().contains("`runc` is not there"));
        assert_eq!(refusal.reason(), Reason::Policy);
        for encrypted in [true, false] {
            let large = |s: &mut JobSpec| {
                container(s);
                s.limits.scratch_bytes = s.limits.memory_bytes + 1;
            };
            assert_eq!(refused(large, |h| h.encrypted_scratch = encrypted), Refusal::ContainerScratch);
        }
        assert_eq!(refused(container, |h| h.namespaces.clear()), Refusal::Host { missing: "a mount namespace" });
    }

    #[test]
    fn what_is_not_built_is_refused() {
        assert!(matches!(refused(|s| s.version = 2, |_| {}), Refusal::Unsupported { .. }));
    }

    #[test]
    fn keeping_a_compiled_program_without_a_name_or_for_too_long_is_refused() {
        let id = Some(spec().program);
        let with = |seconds, id| {
            let mut spec = spec();
            (spec.cache_seconds, spec.cache_id) = (seconds, id);
            planned(&spec, &host())
        };
        assert!(with(86_400, id).is_ok());
        let refusal = with(86_401, id).unwrap_err();
        assert_eq!(refusal, Refusal::Cache { asked: 86_401, most: 86_400 });
        assert_eq!(refusal.reason(), Reason::Limits);
        assert!(matches!(with(1, None).unwrap_err(), Refusal::Unsupported { .. }));
        assert!(matches!(with(0, id).unwrap_err(), Refusal::Unsupported { .. }));
    }
}
