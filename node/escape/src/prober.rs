//! Runs probes where it is, each in a process of its own, and tells what became of them.
//!
//! In the jail of the wasm engine each of those processes locks itself first, as the engine does before it reads a byte
//! of its guest's: what a probe meets is what native code in the engine would meet.

use crate::probe::{End, Kind, Mission, Place, Probe, Stop, Told, World};
use crate::probes;
use crate::syscall::{self, Side};
use decores_jail::{JailError, LockReport, close_files, insecure_leave_files_open, lock};
use decores_sandbox::Hole;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Milliseconds that one probe may take.
const PATIENCE_MS: i32 = 30_000;

/// Runs all probes of the mission and writes one line for each.
///
/// # Errors
/// If a probe cannot be started, or nobody reads what is told.
pub(crate) fn run(mission: &Mission, scratch: Option<&Path>, report: &mut impl Write) -> io::Result<()> {
    for name in &mission.probes {
        let end = match probes::named(name) {
            Some(probe) => watch(probe, mission, scratch)?,
            None => End::Unclear { why: "there is no such probe".to_owned() },
        };
        let line = serde_json::to_string(&Told { probe: name.clone(), end })?;
        // One call for each line: what was told stays told if the next probe takes this process along.
        report.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

/// Runs one probe in a child of its own.
fn watch(probe: &Probe, mission: &Mission, scratch: Option<&Path>) -> io::Result<End> {
    let (mut told, tell) = io::pipe()?;
    let pid = match syscall::fork()? {
        Side::Child => {
            drop(told);
            let mut world = mission.world.clone();
            world.descriptors.push(tell.as_raw_fd());
            child(probe, &world, &mission.holes, scratch, tell)
        }
        Side::Parent(pid) => pid,
    };
    drop(tell);
    syscall::lead_group(pid);
    let late = !syscall::readable(told.as_raw_fd(), PATIENCE_MS)?;
    if late {
        syscall::kill(pid, libc::SIGKILL)?;
    }
    let status = syscall::wait(pid)?;
    // What it has left running: the pipe ends with the last of them.
    let _ = syscall::kill(-pid, libc::SIGKILL);
    while syscall::wait(-pid).is_ok() {}
    let mut line = Vec::new();
    told.read_to_end(&mut line)?;
    if late {
        return Ok(End::Unclear { why: "it took too long".to_owned() });
    }
    Ok(ended(probe, &line, status))
}

fn ended(probe: &Probe, line: &[u8], status: i32) -> End {
    if let Ok(end) = serde_json::from_slice(line) {
        return end;
    }
    let (signalled, dumped) = (libc::WIFSIGNALED(status), libc::WCOREDUMP(status));
    match (signalled, probe.kind) {
        (true, Kind::Dumped) if dumped => End::Through { what: "a core dump was left".to_owned() },
        (true, _) => End::Killed { signal: libc::WTERMSIG(status), dumped },
        (false, _) => End::Unclear { why: format!("it ended with status {status:#x} and told nothing") },
    }
}

fn child(probe: &Probe, world: &World, holes: &[Hole], scratch: Option<&Path>, mut tell: io::PipeWriter) -> ! {
    syscall::lead_group(0);
    // A program that it runs in its place tells on its standard output.
    let placed = syscall::call(libc::SYS_dup3, [syscall::signed(tell.as_raw_fd()), 1, 0]);
    if placed.is_err() {
        syscall::exit_now(1);
    }
    let end = match prepare(probe, world, holes, scratch) {
        Err(why) => End::Unclear { why: format!("it could not be locked in: {why}") },
        Ok(()) => match (probe.run)(world) {
            Ok(what) => End::Through { what },
            Err(Stop::Unclear(why)) => End::Unclear { why },
            Err(Stop::Refused(step, error)) => refused(step, &error),
        },
    };
    let told = serde_json::to_vec(&end).map_err(io::Error::from).and_then(|line| tell.write_all(&line));
    syscall::exit_now(i32::from(told.is_err()))
}

/// Errors of the library's own stand for what the kernel would have said.
fn refused(step: &str, error: &io::Error) -> End {
    let errno = error.raw_os_error().or(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => Some(libc::ENOENT),
        io::ErrorKind::TimedOut => Some(libc::ETIMEDOUT),
        io::ErrorKind::Unsupported => Some(libc::EOPNOTSUPP),
        _ => None,
    });
    match errno {
        Some(errno) => End::Refused { step: step.to_owned(), errno },
        None => End::Unclear { why: format!("{step}: {error}") },
    }
}

/// What comes before the probe's own steps; a broken engine has all of it behind it.
fn prepare(probe: &Probe, world: &World, holes: &[Hole], scratch: Option<&Path>) -> Result<(), String> {
    std::env::set_current_dir(&world.folder).map_err(|e| format!("entering its folder: {e}"))?;
    for resource in [libc::RLIMIT_CORE, libc::RLIMIT_NOFILE, libc::RLIMIT_FSIZE] {
        syscall::raise(resource).map_err(|e| format!("raising a limit: {e}"))?;
    }
    if world.place == Place::Wasm {
        lock_in(probe, holes, scratch).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn lock_in(probe: &Probe, holes: &[Hole], scratch: Option<&Path>) -> Result<(), JailError> {
    let scratch = if probe.kind == Kind::Compile { None } else { scratch };
    match (holes.contains(&Hole::Landlock), holes.contains(&Hole::Seccomp)) {
        (false, false) => lock(probe.profile(), scratch).map(|_: LockReport| ()),
        (false, true) => close_files(scratch).map(drop),
        (true, false) => insecure_leave_files_open()?.close_calls(probe.profile()).map(drop),
        (true, true) => Ok(()),
    }
}

/// Reads a mission: its length in four bytes, then the document. What it came through may stay open.
///
/// # Errors
/// If it is none.
pub(crate) fn mission(source: &mut impl Read) -> io::Result<Mission> {
    let mut length = [0; 4];
    source.read_exact(&mut length)?;
    let mut document = vec![0; u32::from_be_bytes(length) as usize];
    source.read_exact(&mut document)?;
    Ok(serde_json::from_slice(&document)?)
}

/// The same, to be read.
///
/// # Errors
/// If it does not serialise.
pub(crate) fn mission_bytes(mission: &Mission) -> io::Result<Vec<u8>> {
    let document = serde_json::to_vec(mission)?;
    let length = u32::try_from(document.len()).map_err(io::Error::other)?;
    Ok([length.to_be_bytes().as_slice(), &document].concat())
}

/// Opens what shows outside of all jails that an open descriptor is found.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn leave_open(world: &World) -> io::Result<File> {
    fs::File::open(&world.public_file)
}
