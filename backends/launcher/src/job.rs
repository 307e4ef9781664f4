//! An attempt that lives.

use crate::cgroup::{Cgroups, JobCgroup};
use crate::config::LauncherConfig;
use crate::message::trace_name;
use crate::spawn::{Spawned, Start, spawn};
use crate::syscall;
use decores_sandbox::protocol::{Exit, Given};
use decores_sandbox::{IsolationPlan, Namespace, UserPlan};
use decores_types::{Attempt, JobId};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// An engine that runs, and everything of it that must go when it ends.
pub(crate) struct Job {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    pub(crate) name: String,
    pub(crate) uid: Option<u32>,
    pub(crate) pid: i32,
    pub(crate) deadline: u64,
    own_pids: bool,
    late: bool,
    pidfd: OwnedFd,
    cgroup: Option<JobCgroup>,
    folder: Option<PathBuf>,
}

impl Job {
    /// Starts the engine of a checked plan.
    ///
    /// # Errors
    /// The step that failed; nothing is left then.
    pub(crate) fn start(
        plan: &IsolationPlan,
        fds: &[OwnedFd],
        config: &LauncherConfig,
        cgroups: &Cgroups,
    ) -> Result<(Self, Given), String> {
        let name = trace_name(plan.job, plan.attempt);
        let engine = config.engine(plan.engine).ok_or("no program is known for this engine")?;
        let cgroup = plan.cgroup.as_ref().map(|c| cgroups.create(&name, c)).transpose();
        let cgroup = cgroup.map_err(|e| format!("making the control group: {e}"))?;
        let mounts = plan.namespaces.contains(&Namespace::Mount);
        let folder = mounts.then(|| config.jails.join(&name));
        let made =
            folder.as_ref().map_or(Ok(()), |f| make_folder(f)).map_err(|e| format!("making the jail's folder: {e}"));
        let place = folder.clone().unwrap_or_default();
        let start = Start { plan, name: &name, engine, folder: &place, cgroup: cgroup.as_ref(), fds };
        let spawned = made.and_then(|()| spawn(&start));
        match spawned {
            Ok(Spawned { pid, pidfd, given }) => {
                let uid = match plan.user {
                    UserPlan::Own { uid } => Some(uid),
                    UserPlan::Shared => None,
                };
                let job = Self {
                    job: plan.job,
                    attempt: plan.attempt,
                    name,
                    uid,
                    pid,
                    deadline: syscall::monotonic_ms().saturating_add(plan.deadline_ms),
                    own_pids: plan.namespaces.contains(&Namespace::Pid),
                    late: false,
                    pidfd,
                    cgroup,
                    folder,
                };
                Ok((job, given))
            }
            Err(why) => {
                remove(cgroup.as_ref(), folder.as_ref());
                Err(why)
            }
        }
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

    /// Reaps the engine and removes everything that was made for it.
    pub(crate) fn finish(self) -> (JobId, Attempt, Exit) {
        let ended = syscall::reap(self.pid);
        self.kill_strays();
        if !self.own_pids {
            // What the engine left is the launcher's now, and stays in the group until it is reaped.
            while syscall::reap(-self.pid).is_ok() {}
        }
        let cgroup = self.cgroup.as_ref();
        let out_of_memory = cgroup.is_some_and(JobCgroup::out_of_memory);
        let peak = cgroup.and_then(JobCgroup::peak_memory);
        remove(cgroup, self.folder.as_ref());
        let status = ended.as_ref().map_or(0, |e| e.status);
        let exit = Exit {
            code: (ended.is_ok() && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status)),
            signal: (ended.is_ok() && libc::WIFSIGNALED(status)).then(|| libc::WTERMSIG(status)),
            deadline: self.late,
            out_of_memory,
            cpu_ms: ended.as_ref().map_or(0, |e| e.cpu_ms),
            memory_bytes: peak.unwrap_or_else(|| ended.as_ref().map_or(0, |e| e.memory_bytes)),
        };
        (self.job, self.attempt, exit)
    }
}

fn make_folder(folder: &PathBuf) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What cannot be removed is found by the inspection that every wipe ends with.
fn remove(cgroup: Option<&JobCgroup>, folder: Option<&PathBuf>) {
    if let Some(cgroup) = cgroup {
        let _ = cgroup.remove();
    }
    if let Some(folder) = folder {
        let _ = fs::remove_dir(folder);
    }
}
