//! The helper that runs a container, beside the engine that asks it to.
//!
//! It keeps the launcher's rights, in namespaces and a control group of its own: the first process of its process
//! namespace, so that its end is the container's. Without root it is root of a user namespace in which nobody else is.

use crate::config::LauncherConfig;
use crate::group::JobCgroup;
use crate::holes::namespace;
use crate::socket::Socket;
use crate::spawn::{
    Ready, Spawned, Start, Step, give_up, go_first, has_namespace, map_user_as, place_descriptors, stand_ready, wait,
};
use crate::syscall;
use decores_sandbox::container::{MAX_TASK, RunFailure, RunReport, RunTask};
use decores_sandbox::protocol::Given;
use decores_sandbox::{ContainerHost, Hole, Namespace};
use decores_types::canonical;
use serde::Deserialize;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ENVIRONMENT: [&CStr; 1] = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
const ARGUMENTS: [&CStr; 2] = [c"decores-helper", c"container"];
/// Its own, whoever starts it; the user's is made where there is no root.
const NAMESPACES: [Namespace; 5] = [Namespace::Ipc, Namespace::Mount, Namespace::Net, Namespace::Pid, Namespace::Uts];

/// Milliseconds that a trial may take; a runtime that has to start a virtual machine needs some.
const TRIAL_MS: u64 = 15_000;

/// What a helper prints of its trial.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Trial {
    Report(RunReport),
    Why(String),
}

/// Has the helper run a container of its own, as no job's users.
///
/// # Errors
/// Why no container can be run here, for people.
pub(crate) fn probe(config: &LauncherConfig) -> Result<ContainerHost, String> {
    let containers = config.containers.as_ref().map_err(String::clone)?;
    let (runtime, uid) = (containers.runtime, config.trial_uid());
    let range = containers.range(config.slots).ok_or("the user ids of containers do not fit below 2^32")?;
    let mut helper = Command::new(&containers.helper)
        .args(["probe-container", &runtime.to_string(), &uid.to_string(), &range.first.to_string()])
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("starting `{}`: {e}", containers.helper.display()))?;
    let said = helper.stdout.take().map_or_else(Vec::new, |pipe| read_for(pipe, TRIAL_MS));
    // It has said all it has to say; that it has ended already is the usual case.
    let _ = helper.kill();
    let _ = helper.wait();
    match serde_json::from_slice(&said) {
        Ok(Trial::Report(report)) => Ok(ContainerHost { runtime: report.runtime, version: report.version }),
        Ok(Trial::Why(why)) => Err(format!("a trial with `{runtime}` failed: {why}")),
        Err(_) => Err(format!("a trial with `{runtime}` gave no answer in {} s", TRIAL_MS / 1000)),
    }
}

/// What a helper is started as.
#[derive(Clone, Copy)]
pub(crate) struct Helper<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [&'a CStr],
    pub(crate) cgroup: Option<&'a JobCgroup>,
    /// Its descriptors, from 0 on.
    pub(crate) fds: &'a [BorrowedFd<'a>],
    /// Whether it is root of a user namespace only.
    pub(crate) rootless: bool,
    /// Mechanisms left out.
    pub(crate) holes: &'a [Hole],
}

impl Helper<'_> {
    /// Starts it; on failure nothing of it runs any more.
    ///
    /// # Errors
    /// The step that failed, and why.
    pub(crate) fn spawn(&self) -> Result<Spawned, String> {
        let mut ready = Ready::fork(self.namespaces().iter(), |go, report| self.child(go, report))?;
        match self.guide(&mut ready) {
            Ok(()) => Ok(ready.spawned),
            Err(why) => {
                ready.abandon();
                Err(why)
            }
        }
    }

    fn namespaces(&self) -> Vec<Namespace> {
        // Its process namespace is never left out: at its end it ends all that it sees.
        let left_out =
            |kind: &Namespace| *kind != Namespace::Pid && self.holes.iter().any(|hole| namespace(*hole) == Some(*kind));
        let own = NAMESPACES.into_iter().filter(|kind| *kind == Namespace::Mount || !left_out(kind));
        own.chain(self.rootless.then_some(Namespace::User)).collect()
    }

    /// The launcher's side.
    fn guide(&self, ready: &mut Ready) -> Result<(), String> {
        let pid = ready.spawned.pid;
        if let Some(cgroup) = self.cgroup {
            cgroup.add(pid).map_err(|e| format!("entering the control group: {e}"))?;
        }
        if self.rootless {
            map_user_as(pid, 0, 0).map_err(|e| format!("mapping the user: {e}"))?;
        }
        ready.begin()?;
        ready.stands_ready()?;
        if !self.namespaces().iter().all(|kind| has_namespace(pid, *kind)) {
            return Err("a namespace is missing".to_owned());
        }
        if self.cgroup.is_some_and(|cgroup| cgroup.controllers() != cgroup.holding(pid)) {
            return Err("a control group is missing".to_owned());
        }
        ready.let_go()
    }

    fn child(&self, go: File, report: Socket) -> ! {
        let mut ends = (go, report);
        let Err(failed) = self.prepare(&mut ends);
        give_up(&ends.1, failed)
    }

    fn prepare(&self, ends: &mut (File, Socket)) -> Step<std::convert::Infallible> {
        let at = |step| move |e| (step, e);
        wait(&mut ends.0).map_err(at("waiting for the launcher"))?;
        syscall::new_session();
        syscall::signals(false);
        go_first().map_err(at("raising the score for memory exhaustion"))?;
        if self.namespaces().contains(&Namespace::Uts) {
            syscall::set_host_name("job").map_err(at("setting the host name"))?;
        }
        // Nothing mounted here may travel back to the host.
        syscall::mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, "")
            .map_err(at("making mounts private"))?;
        self.seal_program().map_err(at("mounting the program read-only"))?;
        // The container's users must get through the folders that root makes on the way to its own.
        syscall::file_mask(0o022);
        let close = !self.holes.contains(&Hole::Descriptors);
        let placed = place_descriptors(self.fds, ends, close).map_err(at("placing descriptors"))?;
        // The old numbers stand for other files now: they must not be closed.
        std::mem::forget(std::mem::replace(ends, placed));
        if !self.holes.contains(&Hole::ResourceLimits) {
            syscall::limit(libc::RLIMIT_CORE, 1).map_err(at("setting limits"))?;
        }
        stand_ready(ends)?;
        Err(("starting the program", syscall::execute(self.program, self.arguments, &ENVIRONMENT)))
    }
}

impl Helper<'_> {
    /// A container can name the helper's file by `/proc/self/exe`: it must not change it.
    fn seal_program(&self) -> io::Result<()> {
        syscall::mount(Some(self.program), self.program, None, libc::MS_BIND, "")?;
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        syscall::restrict_mount(self.program, attributes, false)
    }
}

/// A helper that runs, and everything of it that must go when it ends.
pub(crate) struct Container {
    spawned: Spawned,
    cgroup: Option<JobCgroup>,
    report: File,
}

/// How a container ended.
#[derive(Default)]
pub(crate) struct Over {
    pub(crate) report: Option<RunReport>,
    pub(crate) failure: Option<String>,
    pub(crate) out_of_memory: bool,
    pub(crate) cpu_ms: u64,
    pub(crate) memory_bytes: u64,
}

impl Container {
    /// Starts an engine and the helper beside it, which is there before the engine can ask for anything.
    ///
    /// # Errors
    /// The step that failed, and why. Nothing runs then.
    pub(crate) fn start(
        start: &Start<'_>,
        program: &Path,
        task: &RunTask,
        cgroup: Option<JobCgroup>,
        engine: UnixStream,
    ) -> Result<(Spawned, Given, Self), String> {
        let (mut ready, given) = Ready::new(start)?;
        let scratch = ready.take_shared().ok_or_else(|| "the scratch did not come along".to_owned());
        let beside = scratch.and_then(|scratch| Self::beside(program, task, cgroup, &engine, &scratch));
        let both = beside.and_then(|container| match ready.let_go() {
            Ok(()) => Ok(container),
            Err(why) => {
                container.end();
                Err(why)
            }
        });
        match both {
            Ok(container) => Ok((ready.spawned, given, container)),
            Err(why) => {
                ready.abandon();
                Err(why)
            }
        }
    }

    fn beside(
        program: &Path,
        task: &RunTask,
        cgroup: Option<JobCgroup>,
        engine: &UnixStream,
        scratch: &OwnedFd,
    ) -> Result<Self, String> {
        let failed = |e: io::Error| format!("telling the helper: {e}");
        let bytes = task.to_bytes().map_err(|e| format!("telling the helper: {e}"))?;
        let (task_read, task_write) = syscall::pipe().map_err(failed)?;
        let (report, report_write) = syscall::pipe().map_err(failed)?;
        // It fits what a pipe holds.
        File::from(task_write).write_all(&bytes).map_err(failed)?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
        let [null, task_fd, report_fd] = [null.as_fd(), task_read.as_fd(), report_write.as_fd()];
        let fds = [null, null, null, task_fd, engine.as_fd(), report_fd, scratch.as_fd()];
        let rootless = task.ids.is_none();
        let holes = task.holes.as_slice();
        let helper = Helper { program, arguments: &ARGUMENTS, cgroup: cgroup.as_ref(), fds: &fds, rootless, holes };
        let spawned = helper.spawn().map_err(|why| format!("the helper: {why}"))?;
        Ok(Self { spawned, cgroup, report: File::from(report) })
    }

    /// Ends the helper, and with it all that is in its namespace.
    pub(crate) fn kill(&self) {
        self.spawned.kill();
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill_all();
        }
    }

    /// Ends and reaps it.
    pub(crate) fn end(self) -> Over {
        self.kill();
        let ended = self.spawned.reap();
        let cgroup = self.cgroup.as_ref();
        let (report, failure) = reported(self.report);
        Over {
            report,
            failure,
            out_of_memory: cgroup.is_some_and(JobCgroup::out_of_memory),
            cpu_ms: ended.as_ref().map_or(0, |ended| ended.cpu_ms),
            memory_bytes: cgroup
                .and_then(JobCgroup::peak_memory)
                .unwrap_or_else(|| ended.as_ref().map_or(0, |ended| ended.memory_bytes)),
        }
    }
}

/// What is said in so many milliseconds, up to its end or a little more than a report's size.
fn read_for(mut pipe: impl Read + AsFd, patience_ms: u64) -> Vec<u8> {
    let (mut said, end) = (Vec::new(), syscall::monotonic_ms().saturating_add(patience_ms));
    while said.len() <= MAX_TASK {
        let left = end.saturating_sub(syscall::monotonic_ms());
        let mut piece = [0; 4096];
        match syscall::poll(&[pipe.as_fd()], i32::try_from(left).unwrap_or(i32::MAX)).as_deref() {
            Ok([true]) => match pipe.read(&mut piece) {
                Ok(length) if length > 0 => said.extend_from_slice(piece.get(..length).unwrap_or_default()),
                _ => break,
            },
            Ok(_) if left > 0 => {}
            _ => break,
        }
    }
    said
}

/// What a helper that has ended said of what held its container, if it said it whole, and of why there was none.
/// Something that outlived it, if that were possible, could keep the pipe open.
fn reported(pipe: File) -> (Option<RunReport>, Option<String>) {
    let said = read_for(pipe, 0);
    let mut lines = said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).peekable();
    let report = lines.peek().and_then(|line| RunReport::parse(line).ok());
    let rest = lines.nth(usize::from(report.is_some()));
    let failure = rest.and_then(|line| canonical::from_json::<RunFailure>(line, MAX_TASK).ok());
    (report, failure.map(|failure| failure.failed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const REPORT: &str = r#"{"runtime":"runc","version":"1","namespaces":["net"],"seccomp":true,"powerless":true,
        "ownIds":true,"cgroup":["pids"]}"#;

    fn said(bytes: &[u8]) -> ((Option<RunReport>, Option<String>), File) {
        let (read, write) = syscall::pipe().unwrap();
        let mut write = File::from(write);
        write.write_all(bytes).unwrap();
        (reported(File::from(read)), write)
    }

    #[test]
    fn a_report_is_read_though_its_pipe_stays_open() {
        let report = format!("{}\n", REPORT.replace("\n", ""));
        let ((read, failure), _open) = said(report.as_bytes());
        assert_eq!((read.unwrap().version.as_str(), failure), ("1", None));
    }

    #[test]
    fn why_there_was_no_container_is_read_with_or_without_a_report() {
        let (report, failure) = (format!("{}\n", REPORT.replace("\n", "")), "{\"failed\":\"no memory\"}\n");
        assert_eq!(said(failure.as_bytes()).0, (None, Some("no memory".to_owned())));
        let (both, why) = said(format!("{report}{failure}").as_bytes()).0;
        assert_eq!((both.unwrap().version.as_str(), why.as_deref()), ("1", Some("no memory")));
    }

    #[test]
    fn what_is_no_whole_report_is_none() {
        let report = REPORT.replace("\n", "");
        for bytes in ["", report.get(..40).unwrap(), &format!("{report}{report}"), "{\"failed\":1}"] {
            assert_eq!(said(bytes.as_bytes()).0, (None, None), "{bytes}");
        }
    }
}
