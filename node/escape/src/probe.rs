//! What a probe is, what it is told, and what may come of it.

use decores_jail::Profile;
use decores_sandbox::Hole;
use decores_sandbox::Hole::{
    Descriptors, IpcNamespace, Landlock, MemoryLimit, NetNamespace, PidNamespace, ReadOnly, ResourceLimits, Root,
    ScratchLimit, Seccomp, TaskLimit, User, UtsNamespace,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// One attempt to get out, or to use up what is not the job's.
pub(crate) struct Probe {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// What it tries, for people.
    pub(crate) tries: &'static str,
    /// What stops it in each engine; none where an engine allows it on purpose.
    pub(crate) stops: Stops,
    /// How it is run.
    pub(crate) kind: Kind,
    pub(crate) run: fn(&World) -> Tried,
}

/// The mechanisms that each stop a probe, the first to meet first: with all of them left out it gets through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stops {
    pub(crate) wasm: &'static [Hole],
    pub(crate) container: &'static [Hole],
}

/// What is special about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// It may take the process that watches it along: it has a jail for itself.
    Alone,
    /// It is ended by this signal where a limit holds.
    Signalled(i32),
    /// It looks whether its own end leaves a core dump.
    Dumped,
    /// It is locked as the compile process is.
    Compile,
    /// It only plants: what its engine makes of that tells. It has a jail for itself.
    Left,
}

impl Probe {
    pub(crate) const fn profile(&self) -> Profile {
        match self.kind {
            Kind::Compile => Profile::Compile,
            _ => Profile::Run,
        }
    }
}

/// What came of a probe's own steps: how far it got, or why not.
pub(crate) type Tried = Result<String, Stop>;

/// Where a probe was stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The kernel refused.
    Refused(&'static str, io::Error),
    /// It cannot tell, and why.
    Unclear(String),
}

/// Names the step that an error stopped.
pub(crate) fn at(step: &'static str) -> impl Fn(io::Error) -> Stop {
    move |error| Stop::Refused(step, error)
}

/// A probe that got through.
pub(crate) fn through(what: impl Into<String>) -> Tried {
    Ok(what.into())
}

/// For calls that look at their permission before their arguments, which are wrong on purpose: these errors are what a
/// caller gets who may.
pub(crate) fn permitted(step: &'static str, result: io::Result<usize>, told: &[i32]) -> Tried {
    match result {
        Err(error) if error.raw_os_error().is_some_and(|errno| told.contains(&errno)) => {
            through(format!("{step} would be carried out"))
        }
        Err(error) => Err(Stop::Refused(step, error)),
        Ok(_) => Err(Stop::Unclear(format!("{step} was carried out, though its arguments are wrong"))),
    }
}

/// What a probe compares with: only the secret itself shows that it was reached.
pub(crate) fn same(found: &[u8], world: &World, what: &str) -> Tried {
    if found.windows(world.secret.len().max(1)).any(|part| part == world.secret.as_bytes()) {
        return through(format!("{what} was read"));
    }
    Err(Stop::Refused("looking for the secret", io::ErrorKind::NotFound.into()))
}

/// What is planted on the machine for probes to find, and what the jail promises.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct World {
    /// Stands in everything that must not be reached.
    pub(crate) secret: String,
    /// A file that only root may read.
    pub(crate) root_file: PathBuf,
    /// A file that everybody may read and write.
    pub(crate) public_file: PathBuf,
    /// A file in the folder of the node.
    pub(crate) home_file: PathBuf,
    /// A file in shared memory.
    pub(crate) shared_file: PathBuf,
    /// A folder that everybody may write to.
    pub(crate) open_folder: PathBuf,
    /// A program of root's with the set-user-id bit.
    pub(crate) setuid_program: PathBuf,
    /// A file on the file system of the libraries, by handle: type and bytes.
    pub(crate) handle: Option<(i32, Vec<u8>)>,
    /// A library of the host's.
    pub(crate) library: PathBuf,
    /// Ports of loopback.
    pub(crate) tcp_port: u16,
    pub(crate) udp_port: u16,
    /// Unix sockets, abstract and in the file system.
    pub(crate) abstract_name: String,
    pub(crate) socket_file: PathBuf,
    /// System V and POSIX message queues and memory.
    pub(crate) ipc_key: i32,
    pub(crate) queue_name: String,
    /// Interfaces of the host's but loopback.
    pub(crate) interfaces: Vec<String>,
    pub(crate) host_name: String,
    /// A process that stands for the node, with the secret in its environment.
    pub(crate) node: i32,
    pub(crate) launcher: i32,
    /// Another job: its process, and a file of its scratch as it sees it.
    pub(crate) neighbour: i32,
    pub(crate) neighbour_file: PathBuf,
    /// Membership file of the group that jobs' groups lie in.
    pub(crate) group_members: PathBuf,
    pub(crate) release_agent: PathBuf,
    /// Whether the table is root's: root of a namespace is another user otherwise.
    pub(crate) root: bool,
    /// What is promised.
    pub(crate) tasks: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) scratch_bytes: u64,
    pub(crate) open_files: u32,
    /// Where the probe is.
    pub(crate) place: Place,
    /// Where the host's files are, if they are to be seen elsewhere than at their own paths.
    pub(crate) host: PathBuf,
    /// A folder of the probe's own.
    pub(crate) folder: PathBuf,
    /// Its own program.
    pub(crate) program: PathBuf,
    /// Descriptors that it has by right.
    pub(crate) descriptors: Vec<i32>,
    /// That of its log.
    pub(crate) log_descriptor: Option<i32>,
}

impl World {
    /// A file of the host's, as it would be seen from here.
    pub(crate) fn on_host(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.host.join(if self.host.as_os_str().is_empty() { path } else { path.strip_prefix("/").unwrap_or(path) })
    }
}

/// Where probes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    /// Beside all jails, as whoever started the table.
    #[default]
    Outside,
    /// In the jail of the wasm engine.
    Wasm,
    /// In a container.
    Container,
    /// In a container of another program's, which is only looked at.
    Other,
}

impl Place {
    /// Whether it sees the files of a container.
    pub(crate) const fn is_container(self) -> bool {
        matches!(self, Self::Container | Self::Other)
    }
}

/// What a prober is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mission {
    pub(crate) probes: Vec<String>,
    pub(crate) holes: Vec<Hole>,
    pub(crate) world: World,
}

/// What became of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
pub(crate) enum End {
    /// It got through.
    Through { what: String },
    /// The kernel refused a step.
    Refused { step: String, errno: i32 },
    /// A signal ended it, with or without a core dump.
    Killed { signal: i32, dumped: bool },
    /// It cannot be told.
    Unclear { why: String },
}

/// One line of a prober's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) probe: String,
    pub(crate) end: End,
}

/// Calls that only the filter keeps from anybody.
pub(crate) const FILTER: Stops = Stops { wasm: &[Seccomp], container: &[Seccomp] };
/// Calls that need a capability of the machine's.
pub(crate) const PRIVILEGE: Stops = Stops { wasm: &[Seccomp, User], container: &[Seccomp, User] };
/// Changes of the file tree.
pub(crate) const MOUNTS: Stops = Stops { wasm: &[Seccomp, Landlock, User], container: &[Seccomp, User] };
/// Calls that name a process of another user.
pub(crate) const PROCESSES: Stops =
    Stops { wasm: &[Seccomp, User, PidNamespace], container: &[Seccomp, User, PidNamespace] };
/// Calls that look into a process of another user.
pub(crate) const TRACING: Stops =
    Stops { wasm: &[Seccomp, Landlock, User, PidNamespace], container: &[Seccomp, User, PidNamespace] };
/// Signals to a process of another user.
pub(crate) const SIGNALS: Stops =
    Stops { wasm: &[Seccomp, Landlock, User, PidNamespace], container: &[User, PidNamespace] };
/// Files in `/proc` of processes of another user.
pub(crate) const PROCESS_FILES: Stops = Stops { wasm: &[Landlock, Root, User], container: &[User, PidNamespace] };
/// Files of the host that anybody may read.
pub(crate) const FILES: Stops = Stops { wasm: &[Landlock, Root], container: &[Root] };
/// Files of the host that only root may open.
pub(crate) const ROOTS_FILES: Stops = Stops { wasm: &[Landlock, Root, User], container: &[Root, User] };
/// Files of `/proc` and `/sys` that only root may open.
pub(crate) const KERNEL_FILES: Stops = Stops { wasm: &[Landlock, Root, User], container: &[Hole::MaskedPaths, User] };
/// Objects of System V and POSIX.
pub(crate) const IPC: Stops = Stops { wasm: &[Seccomp, IpcNamespace], container: &[IpcNamespace] };
/// What the host's network reaches.
pub(crate) const NETWORK: Stops = Stops { wasm: &[Seccomp, NetNamespace], container: &[NetNamespace] };
/// The same, where Landlock looks too.
pub(crate) const CLOSED_NETWORK: Stops = Stops { wasm: &[Seccomp, Landlock, NetNamespace], container: &[NetNamespace] };
/// Sockets that see or forge what others send.
pub(crate) const RAW_NETWORK: Stops = Stops { wasm: &[Seccomp, User], container: &[Seccomp, User] };
/// The host's name.
pub(crate) const NAME: Stops =
    Stops { wasm: &[Seccomp, User, UtsNamespace], container: &[Seccomp, User, UtsNamespace] };
/// The root of the tree.
pub(crate) const WRITABLE: Stops = Stops { wasm: &[Landlock, ReadOnly, User], container: &[ReadOnly] };
pub(crate) const TASKS: Stops = Stops { wasm: &[Seccomp, TaskLimit], container: &[TaskLimit] };
pub(crate) const MEMORY: Stops = Stops { wasm: &[MemoryLimit], container: &[MemoryLimit] };
/// A container's files are part of its memory.
pub(crate) const SCRATCH: Stops = Stops { wasm: &[ScratchLimit], container: &[ScratchLimit, MemoryLimit] };
pub(crate) const LIMITS: Stops = Stops { wasm: &[ResourceLimits], container: &[ResourceLimits] };
pub(crate) const LEFT_OPEN: Stops = Stops { wasm: &[Descriptors], container: &[Descriptors] };
