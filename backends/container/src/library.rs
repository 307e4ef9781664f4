//! libcontainer, inside this process.
//!
//! Version 0.7 writes user maps of more than one line only through `newuidmap`; so the user namespace is made before
//! and handed over by its path, a descriptor that the library's own processes inherit.

use crate::stop::Stop;
use crate::syscall;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use std::error::Error;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// The version that is built in.
pub(crate) const VERSION: &str = "0.7.0";
const ID: &str = "job";
/// More descriptors than a process has.
const ALL: i32 = 1 << 20;

/// A container that has everything but its program.
pub(crate) struct Created {
    container: Container,
    /// Closed by the program's start, or says why there was none.
    outcome: File,
}

/// Makes a container of the bundle; its init's id.
pub(crate) fn create(bundle: &Path, standard: [OwnedFd; 3], open_descriptors: bool) -> Result<(Created, i32), Stop> {
    let failed = |e: &dyn Error| Stop::failed("making the container", chain(e));
    let (outcome, theirs) = syscall::pipe().map_err(|e| failed(&e))?;
    let state = bundle.join("state");
    fs::create_dir(&state).map_err(|e| failed(&e))?;
    let [input, output, error] = standard;
    let container = ContainerBuilder::new(ID.to_owned(), SyscallType::default())
        .with_executor(Program { outcome: theirs.as_raw_fd() })
        .with_preserved_fds(if open_descriptors { ALL } else { 0 })
        .with_stdin(input)
        .with_stdout(output)
        .with_stderr(error)
        .with_root_path(state)
        .map_err(|e| failed(&e))?
        .as_init(bundle)
        .with_systemd(false)
        .build()
        .map_err(|e| failed(&e))?;
    drop(theirs);
    let pid = container.pid().ok_or_else(|| Stop::failed("making the container", "it has no process"))?;
    Ok((Created { container, outcome: outcome.into() }, pid.as_raw()))
}

impl Created {
    /// Lets the program start; returns when it has.
    pub(crate) fn start(mut self) -> Result<(), Stop> {
        self.container.start().map_err(|e| Stop::failed("starting the container", chain(&e)))?;
        let mut why = Vec::new();
        self.outcome.read_to_end(&mut why).map_err(|e| Stop::failed("waiting for the program", e))?;
        match <[u8; 4]>::try_from(why) {
            Ok(code) => Err(Stop::refused(format!(
                "the image's program did not start: {}",
                io::Error::from_raw_os_error(i32::from_ne_bytes(code))
            ))),
            Err(_) => Ok(()),
        }
    }
}

/// Starts the program as the last thing that the library's init does.
#[derive(Clone)]
struct Program {
    outcome: RawFd,
}

impl Executor for Program {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args =
            spec.process().as_ref().and_then(|process| process.args().as_ref()).ok_or(ExecutorError::InvalidArg)?;
        let args = args.iter().map(|arg| CString::new(arg.as_bytes())).collect::<Result<Vec<_>, _>>();
        let error = syscall::execute(&args.map_err(|_| ExecutorError::InvalidArg)?);
        syscall::tell(self.outcome, &error.raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes());
        Err(ExecutorError::Other(error.to_string()))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        // Whether it can be started is found by starting it.
        Ok(())
    }
}

/// An error and what caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_built_in() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock = fs::read_to_string(lock).unwrap_or_default();
        assert!(lock.contains(&format!("name = \"libcontainer\"\nversion = \"{VERSION}\"")));
    }
}
