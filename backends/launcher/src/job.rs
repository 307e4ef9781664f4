//! An attempt that lives.

use crate::cgroup::Cgroups;
use crate::config::LauncherConfig;
use crate::group::JobCgroup;
use crate::jails;
use crate::message::trace_name;
use crate::spawn::{Spawned, Start, spawn};
use crate::syscall;
use decores_sandbox::protocol::{Exit, Given};
use decores_sandbox::{IsolationPlan, Namespace, UserPlan};
use decores_types::{Attempt, JobId};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What an attempt may have left on the machine: enough to look for it and to remove it.
#[derive(Debug)]
pub(crate) struct Traces {
    pub(crate) name: String,
    pub(crate) uid: Option<u32>,
    /// The process group, once there is one.
    pub(crate) group: Option<i32>,
}

/// An engine that runs, and everything of it that must go when it ends.
pub(crate) struct Job {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    pub(crate) traces: Traces,
    pub(crate) deadline: u64,
    pid: i32,
    own_pids: bool,
    late: bool,
    pidfd: OwnedFd,
    cgroup: Option<JobCgroup>,
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
        let start = Start { plan, name: &traces.name, engine, folder: &folder, cgroup: cgroup.as_ref(), fds };
        let Spawned { pid, pidfd, given } = spawn(&start)?;
        let job = Self {
            job: plan.job,
            attempt: plan.attempt,
            traces: Traces { group: Some(pid), ..traces },
            deadline: syscall::monotonic_ms().saturating_add(plan.deadline_ms),
            pid,
            own_pids: plan.namespaces.contains(&Namespace::Pid),
            late: false,
            pidfd,
            cgroup,
        };
        Ok((job, given))
    }

    /// The process id of the engine.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when the engine has ended.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Ends the engine for having passed its deadline.
    pub(crate) fn kill_late(&mut self) {
        self.late = true;
        self.deadline = u64::MAX;
        self.kill();
    }

    /// Ends every process of the job.
    pub(crate) fn kill(&self) {
        let _ = syscall::kill_by_pidfd(self.pidfd.as_fd());
        self.kill_strays();
    }

    /// The end of a pid namespace's first process ends all others; without one, group and cgroup do.
    fn kill_strays(&self) {
        if !self.own_pids {
            let _ = syscall::kill(-self.pid);
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill_all();
        }
    }

    /// Reaps the engine; what was made for it, the caller removes by its traces.
    pub(crate) fn finish(self) -> (Exit, Traces) {
        let ended = syscall::reap(self.pid);
        self.kill_strays();
        if !self.own_pids {
            // What the engine left is the launcher's now, and stays in the group until it is reaped.
            while syscall::reap(-self.pid).is_ok() {}
        }
        let cgroup = self.cgroup.as_ref();
        let out_of_memory = cgroup.is_some_and(JobCgroup::out_of_memory);
        let peak = cgroup.and_then(JobCgroup::peak_memory);
        let status = ended.as_ref().map_or(0, |e| e.status);
        let exit = Exit {
            code: (ended.is_ok() && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status)),
            signal: (ended.is_ok() && libc::WIFSIGNALED(status)).then(|| libc::WTERMSIG(status)),
            deadline: self.late,
            out_of_memory,
            cpu_ms: ended.as_ref().map_or(0, |e| e.cpu_ms),
            memory_bytes: peak.unwrap_or_else(|| ended.as_ref().map_or(0, |e| e.memory_bytes)),
        };
        (exit, self.traces)
    }
}

impl Traces {
    /// Those that an attempt under this plan makes.
    pub(crate) fn of(plan: &IsolationPlan) -> Self {
        let uid = match plan.user {
            UserPlan::Own { uid } => Some(uid),
            UserPlan::Shared => None,
        };
        Self { name: trace_name(plan.job, plan.attempt), uid, group: None }
    }
}
