//! What a runtime is told: the OCI runtime spec of one container, from its task and its request alone.

use crate::seccomp;
use crate::view::View;
use decores_sandbox::container::{RANGE, RunRequest, RunTask, Runtime};
use decores_sandbox::{Hole, Namespace};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where programs are looked for if the image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Descriptors a program may have.
const OPEN_FILES: u64 = 4096;
/// Bytes that a file may have beyond the job's memory: the room that its scratch has.
const FILE_ROOM: u64 = 32 << 20;
/// Memory exhaustion ends jobs before the node; 1,000 is the most.
const OOM_SCORE: i32 = 900;
/// What shows the machine, or other containers' doings, in `/proc`.
const MASKED: [&str; 21] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/buddyinfo",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/schedstat",
    "/proc/scsi",
    "/proc/softirqs",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmstat",
    "/proc/zoneinfo",
];
/// What steers the machine there.
const READ_ONLY: [&str; 6] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/mtd", "/proc/sys", "/proc/sysrq-trigger"];

/// Folders a spec names, in the helper's view.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) root: PathBuf,
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) temporary: PathBuf,
}

impl Folders {
    pub(crate) fn of(view: &View) -> Self {
        Self {
            root: view.scratch("rootfs"),
            input: view.scratch("in"),
            output: view.scratch("out"),
            temporary: view.scratch("tmp"),
        }
    }
}

/// Whether a mechanism is left out.
pub(crate) fn has(task: &RunTask, hole: Hole) -> bool {
    task.holes.contains(&hole)
}

/// A resource limit: its kind, its name in a spec, and its value, to which a higher one is lowered.
pub(crate) struct Limit {
    pub(crate) kind: libc::__rlimit_resource_t,
    name: &'static str,
    value: u64,
}

/// The limits of a task's program.
pub(crate) fn limits(task: &RunTask) -> Vec<Limit> {
    if has(task, Hole::ResourceLimits) {
        return Vec::new();
    }
    let mut limits = vec![
        // Of 0, programs that collect dumps take no notice; of 1, the kernel does.
        Limit { kind: libc::RLIMIT_CORE, name: "RLIMIT_CORE", value: 1 },
        Limit { kind: libc::RLIMIT_NOFILE, name: "RLIMIT_NOFILE", value: OPEN_FILES },
        // No file that is larger could have content: all lie in memory.
        Limit { kind: libc::RLIMIT_FSIZE, name: "RLIMIT_FSIZE", value: task.memory_bytes.saturating_add(FILE_ROOM) },
        Limit { kind: libc::RLIMIT_MEMLOCK, name: "RLIMIT_MEMLOCK", value: 64 << 10 },
        Limit { kind: libc::RLIMIT_MSGQUEUE, name: "RLIMIT_MSGQUEUE", value: 64 << 10 },
    ];
    // Counted per user, which only a container with users of its own does not share.
    if task.ids.is_some() && !has(task, Hole::TaskLimit) {
        limits.push(Limit { kind: libc::RLIMIT_NPROC, name: "RLIMIT_NPROC", value: task.tasks.into() });
    }
    limits
}

/// The namespaces a task's container has of its own, sorted.
pub(crate) fn namespaces(task: &RunTask) -> Vec<Namespace> {
    let all = [
        (Namespace::Cgroup, None),
        (Namespace::Ipc, Some(Hole::IpcNamespace)),
        (Namespace::Mount, None),
        (Namespace::Net, Some(Hole::NetNamespace)),
        (Namespace::Pid, Some(Hole::PidNamespace)),
        (Namespace::User, Some(Hole::User)),
        (Namespace::Uts, Some(Hole::UtsNamespace)),
    ];
    all.into_iter().filter(|(_, hole)| hole.is_none_or(|hole| !has(task, hole))).map(|(kind, _)| kind).collect()
}

/// First id inside, first id outside, how many: the container's user is the job's, the others are of its range. Without
/// a range this is a user namespace already, whose only user is the node's.
pub(crate) fn id_map(task: &RunTask, id: u32) -> Vec<[u32; 3]> {
    let Some(range) = task.ids else { return vec![[0, 0, 1]] };
    let count = range.count.min(RANGE);
    let below = [0, range.first, id.min(count)];
    let after = id.saturating_add(1);
    let above = [after, range.first.saturating_add(after), count.saturating_sub(after)];
    [below, [id, task.uid, 1], above].into_iter().filter(|[_, _, count]| *count > 0).collect()
}

/// The spec. `user_namespace` is a namespace that has its maps already; without one the runtime makes it. `held` gives
/// the hard limit of a resource, which no limit here exceeds.
#[expect(clippy::indexing_slicing, reason = "the index of a JSON object adds its member")]
pub(crate) fn spec(
    task: &RunTask,
    request: &RunRequest,
    folders: &Folders,
    user_namespace: Option<&Path>,
    held: impl Fn(libc::__rlimit_resource_t) -> u64,
) -> Value {
    let namespaces = namespaces(task);
    let mut linux = json!({
        "namespaces": namespaces.iter().map(|kind| namespace(*kind, user_namespace)).collect::<Vec<_>>(),
        "maskedPaths": if has(task, Hole::MaskedPaths) { &[] } else { MASKED.as_slice() },
        "readonlyPaths": if has(task, Hole::MaskedPaths) { &[] } else { READ_ONLY.as_slice() },
    });
    if namespaces.contains(&Namespace::User) && user_namespace.is_none() {
        linux["uidMappings"] = mappings(&id_map(task, request.uid));
        linux["gidMappings"] = mappings(&id_map(task, request.gid));
    }
    if !has(task, Hole::Seccomp) {
        linux["seccomp"] = seccomp::filter();
    }
    // For gVisor it is read-only before: see `view.rs`.
    let read_only = !has(task, Hole::ReadOnly) && task.runtime != Runtime::Runsc;
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": process(task, request, held),
        "root": {"path": folders.root, "readonly": read_only},
        "mounts": mounts(task, folders),
        "linux": linux,
    });
    if namespaces.contains(&Namespace::Uts) {
        spec["hostname"] = json!("job");
    }
    spec
}

fn process(task: &RunTask, request: &RunRequest, held: impl Fn(libc::__rlimit_resource_t) -> u64) -> Value {
    let powerful = has(task, Hole::User);
    let set = if powerful { CAPABILITIES } else { &[] };
    let mut env = request.env.clone();
    // Where it is missing or empty, libcontainer asks the C library, which asks the image's files and its code.
    env.retain(|variable| variable != "HOME=");
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push("HOME=/".to_owned());
    }
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.push(PATH.to_owned());
    }
    let limits: Vec<Value> = limits(task)
        .iter()
        .map(|limit| {
            let value = limit.value.min(held(limit.kind));
            json!({"type": limit.name, "hard": value, "soft": value})
        })
        .collect();
    let (uid, gid) = if powerful { (0, 0) } else { (request.uid, request.gid) };
    json!({
        "terminal": false,
        "user": {"uid": uid, "gid": gid, "umask": 0o022},
        "args": request.args,
        "env": env,
        "cwd": request.cwd,
        "capabilities":
            {"bounding": set, "effective": set, "permitted": set, "inheritable": set, "ambient": []},
        "rlimits": limits,
        // runc loads the filter before it says that the container is ready only without this, and then needs to be
        // started with it: see `program.rs`.
        "noNewPrivileges": !powerful && task.runtime != Runtime::Runc,
        "oomScoreAdj": OOM_SCORE,
    })
}

fn mounts(task: &RunTask, folders: &Folders) -> Value {
    let from_scratch = |source: &Path, destination: &str, options: &[&str]| {
        let options: Vec<&str> = ["bind", "nosuid", "nodev"].iter().chain(options).copied().collect();
        json!({"destination": destination, "type": "bind", "source": source, "options": options})
    };
    let input = if has(task, Hole::ReadOnly) { ["rw", "noexec"] } else { ["ro", "noexec"] };
    // Of a process namespace that is not its own, it can make no new one.
    let proc = if has(task, Hole::PidNamespace) { ("bind", "/proc", "rbind") } else { ("proc", "proc", "rw") };
    Value::Array(vec![
        json!({"destination": "/proc", "type": proc.0, "source": proc.1,
            "options": ["nosuid", "noexec", "nodev", proc.2]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=64k"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=64m"]}),
        from_scratch(&folders.input, "/in", &input),
        from_scratch(&folders.output, "/out", &["rw", "noexec"]),
        from_scratch(&folders.temporary, "/tmp", &["rw"]),
    ])
}

/// What a planted hole leaves a program.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_OWNER",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_NICE",
    "CAP_SYS_TIME",
    "CAP_MKNOD",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_BOOT",
    "CAP_SYSLOG",
];

fn namespace(kind: Namespace, user: Option<&Path>) -> Value {
    let name = match kind {
        Namespace::Net => "network".to_owned(),
        other => other.to_string(),
    };
    match user.filter(|_| kind == Namespace::User) {
        Some(path) => json!({"type": name, "path": path}),
        None => json!({"type": name}),
    }
}

fn mappings(map: &[[u32; 3]]) -> Value {
    let one = |[inside, outside, size]: &[u32; 3]| json!({"containerID": inside, "hostID": outside, "size": size});
    map.iter().map(one).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use decores_sandbox::container::IdRange;

    pub(crate) fn task() -> RunTask {
        RunTask {
            name: "a-1".to_owned(),
            runtime: Runtime::Libcontainer,
            uid: 70_001,
            ids: Some(IdRange { first: 0x7100_0000, count: RANGE }),
            wall_ms: 10_000,
            tasks: 64,
            memory_bytes: 64 << 20,
            cgroup: Vec::new(),
            holes: Vec::new(),
        }
    }

    pub(crate) fn request() -> RunRequest {
        RunRequest {
            args: vec!["true".to_owned()],
            env: vec!["A=b".to_owned()],
            cwd: "/tmp".to_owned(),
            uid: 1000,
            gid: 0,
        }
    }

    fn made(change: impl FnOnce(&mut RunTask)) -> Value {
        let mut task = task();
        change(&mut task);
        let at = |name| Path::new("/scratch").join(name);
        let folders = Folders { root: at("rootfs"), input: at("in"), output: at("out"), temporary: at("tmp") };
        spec(&task, &request(), &folders, None, |kind| if kind == libc::RLIMIT_NOFILE { 99 } else { u64::MAX })
    }

    #[test]
    fn a_program_has_nothing_but_what_it_needs() {
        let spec = made(|_| ());
        let process = &spec["process"];
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            assert_eq!(process["capabilities"][set], json!([]), "{set}");
        }
        assert_eq!(process["noNewPrivileges"], true);
        assert_eq!(spec["root"]["readonly"], true);
        assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(spec["linux"]["namespaces"].as_array().unwrap().len(), 7);
        assert!(spec["linux"].get("resources").is_none(), "limits are of the group it is started in");
        for mount in spec["mounts"].as_array().unwrap() {
            let has = |option: &str| mount["options"].as_array().unwrap().iter().any(|o| o == option);
            let name = mount["destination"].as_str().unwrap();
            assert!(has("nosuid") && (has("nodev") || name == "/dev"), "{name}");
            assert_eq!(has("ro"), name == "/in", "{name}");
        }
    }

    #[test]
    fn limits_are_only_lowered() {
        let spec = made(|_| ());
        let limits = spec["process"]["rlimits"].as_array().unwrap();
        let of = |name: &str| limits.iter().find(|limit| limit["type"] == name).unwrap()["hard"].as_u64().unwrap();
        assert_eq!(of("RLIMIT_NOFILE"), 99);
        assert_eq!(of("RLIMIT_NPROC"), 64);
    }

    #[test]
    fn the_containers_user_is_the_jobs_and_no_id_is_mapped_twice() {
        assert_eq!(id_map(&task(), 0), [[0, 70_001, 1], [1, 0x7100_0001, 65_535]]);
        assert_eq!(id_map(&task(), 5), [[0, 0x7100_0000, 5], [5, 70_001, 1], [6, 0x7100_0006, 65_530]]);
        assert_eq!(id_map(&task(), 65_535), [[0, 0x7100_0000, 65_535], [65_535, 70_001, 1]]);
        assert_eq!(id_map(&RunTask { ids: None, ..task() }, 0), [[0, 0, 1]]);
    }

    #[test]
    fn a_hole_leaves_out_its_mechanism() {
        let with = |hole| made(|task| task.holes = vec![hole]);
        assert!(with(Hole::Seccomp)["linux"].get("seccomp").is_none());
        assert_eq!(with(Hole::ReadOnly)["root"]["readonly"], false);
        assert_eq!(with(Hole::MaskedPaths)["linux"]["readonlyPaths"], json!([]));
        assert_ne!(with(Hole::User)["process"]["capabilities"]["bounding"], json!([]));
        assert_eq!(with(Hole::ResourceLimits)["process"]["rlimits"], json!([]));
        for hole in [Hole::NetNamespace, Hole::PidNamespace, Hole::IpcNamespace, Hole::UtsNamespace, Hole::User] {
            assert_eq!(with(hole)["linux"]["namespaces"].as_array().unwrap().len(), 6, "{}", hole.as_str());
        }
    }
}
