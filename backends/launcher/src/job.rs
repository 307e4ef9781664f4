//! An attempt that lives.

use crate::cgroup::Cgroups;
use crate::config::LauncherConfig;
use crate::container::{Container, Over};
use crate::group::JobCgroup;
use crate::jails;
use crate::message::{container_name, trace_name};
use crate::process::Users;
use crate::root::{SCRATCH_ARGUMENT, Scratch};
use crate::scratch;
use crate::spawn::{Spawned, Start, spawn};
use crate::syscall;
use decores_sandbox::container::{CONTAINER_TASKS, RunTask};
use decores_sandbox::protocol::{Exit, Given};
use decores_sandbox::{ContainerPlan, IsolationPlan, Namespace, ScratchPlan, UserPlan};
use decores_types::{Attempt, JobId};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Descriptors of an engine's that come with every launch.
pub(crate) const ENGINE_FDS: usize = 5;
/// Descriptors an engine may have open: its own, and files of its guest.
const OPEN_FILES: u64 = 256;
/// What sealing adds to an output, and the manifest of one, at most.
const SEALING_OVERHEAD: u64 = 16 << 20;

/// What an attempt may have left on the machine: enough to look for it and to remove it.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    pub(crate) name: String,
    /// The users of its own.
    pub(crate) users: Option<Users>,
    /// The process group, once there is one.
    pub(crate) group: Option<i32>,
}

/// An engine that runs, and everything of it that must go when it ends.
pub(crate) struct Job {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    pub(crate) traces: Traces,
    pub(crate) deadline: u64,
    own_pids: bool,
    late: bool,
    spawned: Spawned,
    cgroup: Option<JobCgroup>,
    container: Option<Container>,
    /// The ciphertext of its scratch, and how large that may become.
    ciphertext: Option<(PathBuf, u64)>,
}

impl Job {
    /// Starts the engine of a checked plan.
    ///
    /// # Errors
    /// The step that failed. Nothing runs then; what else was made, the caller removes by its traces.
    pub(crate) fn start(
        plan: &IsolationPlan,
        fds: &[OwnedFd],
        config: &LauncherConfig,
        cgroups: &Cgroups,
    ) -> Result<(Self, Given), String> {
        let traces = Traces::of(plan);
        let engine = config.engine(plan.engine).ok_or("no program is known for this engine")?;
        let folder = jails::make(&config.jails, &traces.name).map_err(|e| format!("making the jail's folder: {e}"))?;
        let cgroup = plan.cgroup.as_ref().map(|c| cgroups.create(&traces.name, c)).transpose();
        let cgroup = cgroup.map_err(|e| format!("making the control group: {e}"))?;
        let [cipher, _] = config.folders(&traces.name);
        let scratch = match plan.scratch {
            ScratchPlan::Tmpfs { noswap } => Scratch::Tmpfs { bytes: plan.scratch_bytes, noswap },
            ScratchPlan::Encrypted => {
                let uid = traces.users.map_or_else(syscall::effective_uid, |users| users.uid);
                scratch::make(&config.scratch, &traces.name, uid).map_err(|e| format!("making the scratch: {e}"))?;
                Scratch::Encrypted
            }
        };
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|e| format!("opening /dev/null: {e}"))?;
        // A Rust program opens /dev/null where 0 to 2 are closed, and finds none.
        let ends = plan.container.as_ref().map(|_| UnixStream::pair()).transpose();
        let ends = ends.map_err(|e| format!("making a socket: {e}"))?;
        let (ours, theirs) = ends.unzip();
        let (own, module) = fds.split_at(fds.len().min(ENGINE_FDS));
        // Between them and the kept program's lies the socket to the helper.
        let between = ours.as_ref().map(AsFd::as_fd).or((!module.is_empty()).then(|| null.as_fd()));
        let all = own.iter().map(AsFd::as_fd).chain(between).chain(module.iter().map(AsFd::as_fd));
        let all: Vec<BorrowedFd<'_>> = [null.as_fd(); 3].into_iter().chain(all).collect();
        let mut start = engine_start(plan, &traces.name, cgroup.as_ref(), [engine, &folder, &cipher], scratch, &all);
        if plan.container.is_none() {
            start.holes = &config.holes;
        }
        let (spawned, given, container) = match (&plan.container, theirs) {
            (Some(container), Some(theirs)) => {
                let helper = &config.containers.as_ref().map_err(String::clone)?.helper;
                let task = run_task(plan, container, &traces.name, config);
                let group = container.cgroup.as_ref().map(|c| cgroups.create(&container_name(&traces.name), c));
                let group = group.transpose().map_err(|e| format!("making the container's control group: {e}"))?;
                let (spawned, given, container) = Container::start(&start, helper, &task, group, theirs)?;
                (spawned, given, Some(container))
            }
            _ => {
                let (spawned, given) = spawn(&start)?;
                (spawned, given, None)
            }
        };
        let ciphertext = matches!(scratch, Scratch::Encrypted).then_some((cipher, plan.scratch_bytes));
        let job = Self {
            job: plan.job,
            attempt: plan.attempt,
            traces: Traces { group: Some(spawned.pid), ..traces },
            deadline: syscall::monotonic_ms().saturating_add(plan.deadline_ms),
            own_pids: plan.namespaces.contains(&Namespace::Pid),
            late: false,
            spawned,
            cgroup,
            container,
            ciphertext,
        };
        Ok((job, given))
    }

    /// The process id of the engine.
    pub(crate) const fn pid(&self) -> i32 {
        self.spawned.pid
    }

    /// Readable when the engine has ended.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.spawned.pidfd.as_fd()
    }

    /// Readable when the server of its scratch has ended; without one, as [`Job::ended`].
    pub(crate) fn server_ended(&self) -> BorrowedFd<'_> {
        self.spawned.server.as_ref().map_or_else(|| self.ended(), |server| server.pidfd.as_fd())
    }

    /// Whether its scratch lies on disk.
    pub(crate) const fn is_on_disk(&self) -> bool {
        self.ciphertext.is_some()
    }

    /// Whether its scratch takes more than its engine would have let it.
    pub(crate) fn is_too_large(&self) -> bool {
        self.ciphertext.as_ref().is_some_and(|(folder, most)| scratch::taken(folder) > most.saturating_mul(2))
    }

    /// Ends the engine for having passed its deadline.
    pub(crate) fn kill_late(&mut self) {
        self.late = true;
        self.deadline = u64::MAX;
        self.kill();
    }

    /// Ends every process of the job.
    pub(crate) fn kill(&self) {
        self.spawned.kill();
        if let Some(container) = &self.container {
            container.kill();
        }
        self.kill_strays();
    }

    /// The end of a pid namespace's first process ends all others; without one, group and cgroup do.
    fn kill_strays(&self) {
        if !self.own_pids {
            let _ = syscall::kill(-self.spawned.pid);
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill_all();
        }
    }

    /// Reaps the engine and ends its container; what was made for it, the caller removes by its traces.
    pub(crate) fn finish(self) -> (Exit, Traces) {
        let ended = self.spawned.reap();
        self.kill_strays();
        let container = self.container.map_or_else(Over::default, Container::end);
        if !self.own_pids {
            // What the engine left is the launcher's now, and stays in the group until it is reaped.
            while syscall::reap(-self.spawned.pid).is_ok() {}
        }
        let cgroup = self.cgroup.as_ref();
        let out_of_memory = cgroup.is_some_and(JobCgroup::out_of_memory);
        let peak = cgroup.and_then(JobCgroup::peak_memory);
        let status = ended.as_ref().map_or(0, |e| e.status);
        let exit = Exit {
            code: (ended.is_ok() && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status)),
            signal: (ended.is_ok() && libc::WIFSIGNALED(status)).then(|| libc::WTERMSIG(status)),
            deadline: self.late,
            out_of_memory: out_of_memory || container.out_of_memory,
            cpu_ms: ended.as_ref().map_or(0, |e| e.cpu_ms).saturating_add(container.cpu_ms),
            memory_bytes: peak
                .unwrap_or_else(|| ended.as_ref().map_or(0, |e| e.memory_bytes))
                .saturating_add(container.memory_bytes),
            container: container.report,
            no_container: container.failure,
        };
        (exit, self.traces)
    }
}

/// What the helper is told of a plan's container.
fn run_task(plan: &IsolationPlan, container: &ContainerPlan, name: &str, config: &LauncherConfig) -> RunTask {
    let uid = match plan.user {
        UserPlan::Own { uid } => uid,
        UserPlan::Shared => syscall::effective_uid(),
    };
    RunTask {
        name: name.to_owned(),
        runtime: container.runtime,
        uid,
        ids: container.ids,
        wall_ms: plan.limits.wall_ms,
        tasks: CONTAINER_TASKS,
        memory_bytes: plan.limits.memory_bytes,
        cgroup: container.cgroup.as_ref().map_or_else(Vec::new, |cgroup| cgroup.controllers.clone()),
        holes: config.holes.clone(),
    }
}

/// How the engine of a plan starts; the paths are its program, its jail and its ciphertext.
fn engine_start<'a>(
    plan: &'a IsolationPlan,
    name: &'a str,
    cgroup: Option<&'a JobCgroup>,
    [program, folder, cipher]: [&'a Path; 3],
    scratch: Scratch<'a>,
    fds: &'a [BorrowedFd<'a>],
) -> Start<'a> {
    let limits = &plan.limits;
    let largest_file = limits.output_bytes.max(plan.scratch_bytes).max(limits.log_bytes);
    let tasks = match plan.scratch {
        ScratchPlan::Tmpfs { .. } => 16,
        ScratchPlan::Encrypted => 64,
    };
    // Its one argument is the scratch, where it has one.
    let has_scratch = plan.namespaces.contains(&Namespace::Mount);
    Start {
        name,
        user: plan.user,
        namespaces: &plan.namespaces,
        cgroup,
        program,
        folder,
        scratch,
        cipher,
        shares_scratch: plan.container.is_some(),
        holes: &[],
        fds,
        arguments: if has_scratch { &[c"/engine", SCRATCH_ARGUMENT] } else { &[c"/engine"] },
        environment: &[],
        open_files: OPEN_FILES,
        largest_file: largest_file.saturating_add(largest_file / 1024).saturating_add(SEALING_OVERHEAD),
        tasks: plan.cgroup.as_ref().map_or(tasks, |c| c.tasks),
    }
}

impl Traces {
    /// Those that an attempt under this plan makes.
    pub(crate) fn of(plan: &IsolationPlan) -> Self {
        let ids = plan.container.as_ref().and_then(|container| container.ids);
        let users = match plan.user {
            UserPlan::Own { uid } => Some(Users { uid, ids }),
            UserPlan::Shared => None,
        };
        Self { name: trace_name(plan.job, plan.attempt), users, group: None }
    }
}
