//! The other parts that this program plays.

use crate::careless;
use crate::probe::{End, Place};
use crate::prober::{self, mission};
use crate::stage::{NEIGHBOUR_MEMORY, log_in};
use crate::syscall;
use anyhow::{Context as _, Result};
use decores_sandbox::container::FD_RUNNER;
use decores_sandbox::protocol::{FD_EVENTS, FD_JOB};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::ExitCode;

/// In the wasm engine's place: runs the probes of the mission, or with none is another job. In the container engine's,
/// which alone has a helper, is one without care.
///
/// # Errors
/// If the mission cannot be read, or nobody hears what came of it.
pub(crate) fn jailed(scratch: &str) -> Result<ExitCode> {
    let scratch = (!scratch.is_empty()).then_some(Path::new(scratch));
    if let Some(scratch) = scratch.filter(|_| syscall::is_open(FD_RUNNER)) {
        return careless::run(scratch);
    }
    let mut job = File::from(syscall::adopt(FD_JOB));
    let mut events = File::from(syscall::adopt(FD_EVENTS));
    let mission = mission(&mut job).context("failed to read the mission")?;
    if mission.probes.is_empty() {
        if let Some(scratch) = scratch {
            fs::write(scratch.join("secret"), &mission.world.secret)?;
        }
        syscall::place_memory(NEIGHBOUR_MEMORY, mission.world.secret.as_bytes())?;
        // Until it is ended, or nobody is there any more.
        job.read_to_end(&mut Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    prober::run(&mission, scratch, &mut events)?;
    Ok(ExitCode::SUCCESS)
}

/// Beside all jails: the same probes, to show that they work.
///
/// # Errors
/// If the mission cannot be read, or nobody hears what came of it.
pub(crate) fn outside() -> Result<ExitCode> {
    let mut mission = mission(&mut io::stdin()).context("failed to read the mission")?;
    let by_right = vec![0, 1, 2];
    // A descriptor too many, which the probe for them must find.
    let left_open = prober::leave_open(&mission.world)?;
    let log = log_in(&mission.world.folder)?;
    let world = &mut mission.world;
    (world.place, world.log_descriptor, world.descriptors) = (Place::Outside, Some(log.as_raw_fd()), by_right);
    let mut report = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    prober::run(&mission, None, &mut report)?;
    drop((left_open, log));
    Ok(ExitCode::SUCCESS)
}

/// In a container, or another program's jail: the probes, as its program.
///
/// # Errors
/// If the mission cannot be read, or nobody hears what came of it.
pub(crate) fn inside() -> Result<ExitCode> {
    let mission = mission(&mut io::stdin()).context("failed to read the mission")?;
    let mut report = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut mission = mission;
    mission.world.descriptors.push(report.as_raw_fd());
    prober::run(&mission, None, &mut report)?;
    Ok(ExitCode::SUCCESS)
}

/// Stands for the node until its standard input ends.
///
/// # Errors
/// If that cannot be read.
pub(crate) fn stand() -> Result<ExitCode> {
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(ExitCode::SUCCESS)
}

/// Was run by a probe, and tells in its place what it is.
///
/// # Errors
/// If nobody hears it.
pub(crate) fn executed(part: &str) -> Result<ExitCode> {
    let user = syscall::call(libc::SYS_geteuid, [])?;
    let end = match (part, user) {
        ("as-root", 0) => End::Through { what: "it became root".to_owned() },
        ("as-root", _) => End::Refused { step: "becoming root".to_owned(), errno: libc::EPERM },
        _ => End::Through { what: "it ran".to_owned() },
    };
    io::stdout().write_all(&serde_json::to_vec(&end)?)?;
    Ok(ExitCode::SUCCESS)
}
