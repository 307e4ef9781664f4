//! From spec and host to an isolation plan.

use crate::config::SandboxConfig;
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
    /// Memory of the whole engine, in bytes; a scratch in memory included.
    pub memory_bytes: u64,
    /// Tasks.
    pub tasks: u32,
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
            Self::Limit { .. } | Self::Scratch => Reason::Limits,
            Self::Host { .. } | Self::Unsupported { .. } => Reason::Policy,
        }
    }
}

/// The strongest protection this machine gives wasm jobs.
pub const fn strongest(_host: &HostCapabilities) -> Protection {
    Protection::Process
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

fn cgroup(limits: &Limits, scratch: ScratchPlan, host: &HostCapabilities) -> Option<CgroupPlan> {
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
    let memory_bytes = limits.memory_bytes.saturating_add(memory).saturating_add(ENGINE_MEMORY);
    (!host.cgroup.is_empty()).then(|| CgroupPlan { controllers: host.cgroup.clone(), memory_bytes, tasks })
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
    if spec.cache_seconds != 0 {
        return Err(Refusal::Unsupported { what: "keeping a compiled program (cacheSeconds)" });
    }
    let given = strongest(host);
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
    let (scratch, scratch_bytes) = scratch(&limits, host)?;
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
        cgroup: cgroup(&limits, scratch, host),
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
        let text = String::from_utf8(bytes).unwrap().replacen('{', "{\"extra\":1,", 1);
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
    fn what_is_not_built_is_refused() {
        assert!(matches!(refused(|s| s.version = 2, |_| {}), Refusal::Unsupported { .. }));
        assert!(matches!(refused(|s| s.cache_seconds = 1, |_| {}), Refusal::Unsupported { .. }));
    }
}
