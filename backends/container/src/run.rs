//! One container, from the task at descriptor 3 to the answer at descriptor 4.

use crate::program::{Program, reason};
use crate::request::{self, Standard};
use crate::spec::{self, Folders, has};
use crate::stop::{Stop, at};
use crate::view::{View, Wanted};
use crate::{library, readback, syscall};
use decores_sandbox::container::{
    FD_ENGINE, FD_REPORT, FD_SCRATCH, FD_TASK, MAX_TASK, RunAnswer, RunFailure, RunReport, RunRequest, RunTask, Runtime,
};
use decores_sandbox::{Hole, Namespace};
use decores_types::canonical;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Descriptors that the launcher left for the helper.
struct Given {
    task: File,
    engine: OwnedFd,
    report: File,
    scratch: OwnedFd,
}

impl Given {
    fn take() -> Result<Self, Stop> {
        let one = |number| syscall::inherited(number).map_err(at("taking over the launcher's descriptors"));
        Ok(Self {
            task: one(FD_TASK)?.into(),
            engine: one(FD_ENGINE)?,
            report: one(FD_REPORT)?.into(),
            scratch: one(FD_SCRATCH)?,
        })
    }
}

/// Runs the container that the launcher and the engine ask for, and answers the engine.
///
/// # Errors
/// If this process was not started as the launcher starts it; then nothing was done.
pub fn run() -> Result<(), Stop> {
    if std::process::id() != 1 {
        return Err(Stop::failed("running a container", "not the first process of a process namespace"));
    }
    let mut given = Given::take()?;
    let task = read_task(&mut given.task)?;
    let Given { engine, report, scratch, .. } = given;
    let result = serve(&task, &engine, &report, scratch);
    // The container's processes hold memory and pipes: they end before the engine is told.
    syscall::kill_all_others().map_err(at("ending the container"))?;
    syscall::reap_all();
    let answer = match result {
        Ok(None) => return Ok(()),
        Ok(Some(answer)) => answer,
        Err(stop) => {
            if let Stop::Failed(why) = &stop {
                // Nobody else tells the operator; a launcher that is gone has none.
                let _ = tell(&report, &RunFailure { failed: why.clone() });
            }
            stop.answer()
        }
    };
    // An engine that has closed its side has no use for an answer.
    let _ = say(&engine, &answer);
    Ok(())
}

fn read_task(file: &mut File) -> Result<RunTask, Stop> {
    let mut bytes = Vec::new();
    file.take(MAX_TASK as u64 + 1).read_to_end(&mut bytes).map_err(at("reading the task"))?;
    RunTask::parse(&bytes).map_err(at("reading the task"))
}

fn say(engine: &OwnedFd, answer: &RunAnswer) -> Result<(), Stop> {
    let mut line = canonical::to_vec(answer).map_err(at("writing an answer"))?;
    line.push(b'\n');
    File::from(engine.try_clone().map_err(at("copying a descriptor"))?)
        .write_all(&line)
        .map_err(at("answering the engine"))
}

/// The container's end; `None` if the engine went away before it asked for anything.
fn serve(task: &RunTask, engine: &OwnedFd, report_to: &File, scratch: OwnedFd) -> Result<Option<RunAnswer>, Stop> {
    if task.ids.is_some() {
        syscall::leave_groups().map_err(at("leaving groups"))?;
    }
    let program = Program::find(task.runtime)?;
    let path = program.as_ref().map(Program::path);
    let view = View::enter(Wanted { runtime: task.runtime, program: path, host: has(task, Hole::Root) })?;
    let Some((request, standard)) = request::receive(engine)? else { return Ok(None) };
    request::check(&request, task)?;
    view.mount_scratch(&scratch)?;
    // All of it, and not read-only: nothing that becomes the container may have it.
    drop(scratch);
    let container = Container { task, request: &request, program: program.as_ref(), bundle: view.bundle() };
    let folders = Folders::of(&view);
    let (created, pid, report) = container.create(&folders, standard)?;
    tell(report_to, &report)?;
    view.show_host(pid)?;
    container.start(created)?;
    let started = syscall::monotonic_ms();
    say(engine, &RunAnswer::Started)?;
    container.wait(engine, pid, started).map(Some)
}

/// Writes a line for the launcher.
fn tell(mut file: &File, said: &impl Serialize) -> Result<(), Stop> {
    let mut line = canonical::to_vec(said).map_err(at("writing the report"))?;
    line.push(b'\n');
    file.write_all(&line).map_err(at("writing the report"))
}

/// A container that waits to be started.
enum Created {
    Library(Box<library::Created>),
    Program,
    /// Of a runtime that makes and starts it at once.
    Running,
}

/// What one container is made from.
struct Container<'a> {
    task: &'a RunTask,
    request: &'a RunRequest,
    program: Option<&'a Program>,
    bundle: PathBuf,
}

impl Container<'_> {
    /// Makes it, and looks at what holds it. Gives its process: its init, or the runtime's that ends as it does.
    fn create(&self, folders: &Folders, standard: Standard) -> Result<(Created, i32, RunReport), Stop> {
        let Self { task, request, program, bundle } = self;
        match program {
            None => {
                let users = self.users()?;
                let path = users.as_ref().map(|fd| PathBuf::from(format!("/proc/self/fd/{}", number(fd))));
                self.write_spec(folders, path.as_deref())?;
                let descriptors = has(task, Hole::Descriptors);
                let (created, pid) = library::create(bundle, standard, descriptors)?;
                let report = readback::read(task, request, library::VERSION.to_owned(), pid)?;
                Ok((Created::Library(Box::new(created)), pid, report))
            }
            Some(program) if task.runtime == Runtime::Runc => {
                self.write_spec(folders, None)?;
                let version = program.version()?;
                // Inherited by the container: runc loads the filter early only if it is not to set this itself.
                if !has(task, Hole::User) {
                    syscall::no_new_privileges().map_err(at("forbidding new privileges"))?;
                }
                let pid = program.create(bundle, standard)?;
                let report = readback::read(task, request, version, pid)?;
                Ok((Created::Program, pid, report))
            }
            Some(program) => {
                self.write_spec(folders, None)?;
                let version = program.version()?;
                let pid = program.run(bundle, standard)?;
                Ok((Created::Running, pid, readback::of_other_kernel(task, version, pid)?))
            }
        }
    }

    fn start(&self, created: Created) -> Result<(), Stop> {
        match (created, self.program) {
            (Created::Library(created), _) => created.start(),
            (Created::Program, Some(program)) => program.start(&self.bundle),
            (Created::Program | Created::Running, _) => Ok(()),
        }
    }

    /// The user namespace with its maps.
    fn users(&self) -> Result<Option<OwnedFd>, Stop> {
        if !spec::namespaces(self.task).contains(&Namespace::User) {
            return Ok(None);
        }
        let map = |id| {
            let lines = spec::id_map(self.task, id).into_iter();
            lines.map(|[inside, outside, count]| format!("{inside} {outside} {count}\n")).collect::<String>()
        };
        syscall::user_namespace(&map(self.request.uid), &map(self.request.gid))
            .map(Some)
            .map_err(at("making a user namespace"))
    }

    fn write_spec(&self, folders: &Folders, users: Option<&Path>) -> Result<(), Stop> {
        let held = |kind| syscall::hard_limit(kind).unwrap_or(0);
        let spec = spec::spec(self.task, self.request, folders, users, held);
        fs::write(self.bundle.join("config.json"), spec.to_string()).map_err(at("writing the runtime spec"))
    }

    /// Waits for the end: the program's own, the time limit's, or the engine's wish.
    fn wait(&self, engine: &OwnedFd, pid: i32, started: u64) -> Result<RunAnswer, Stop> {
        let ended = syscall::pidfd(pid).map_err(at("watching the container"))?;
        let mut late = false;
        loop {
            let spent = syscall::monotonic_ms().saturating_sub(started);
            let left = i32::try_from(self.task.wall_ms.saturating_sub(spent)).unwrap_or(i32::MAX);
            let ready = syscall::poll(&[ended.as_fd(), engine.as_fd()], left).map_err(at("watching the container"))?;
            match ready.as_slice() {
                [true, _] => break,
                // It has closed its side, or says what it has no business saying.
                [_, true] => syscall::kill_all_others().map_err(at("ending the container"))?,
                _ if left == 0 => {
                    late = true;
                    syscall::kill_all_others().map_err(at("ending the container"))?;
                }
                _ => continue,
            }
            break;
        }
        let status = syscall::reap(pid).map_err(at("waiting for the container"))?;
        let wall_ms = syscall::monotonic_ms().saturating_sub(started);
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        if self.program.is_some() && code.is_some_and(|code| code != 0) && self.never_ran() {
            return Err(reason(&self.bundle));
        }
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        Ok(RunAnswer::Ended { code, signal, late, wall_ms })
    }

    /// Whether a runtime that makes and starts a container at once says that it could not.
    fn never_ran(&self) -> bool {
        let log = fs::read_to_string(self.bundle.join("log")).unwrap_or_default();
        self.task.runtime != Runtime::Runc && log.lines().any(|line| line.contains("\"level\":\"error\""))
    }
}

fn number(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
}
