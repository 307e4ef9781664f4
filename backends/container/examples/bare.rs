//! `bare BUNDLE STATE`: libcontainer by itself, to be measured beside: makes, starts, awaits and deletes one container.
#![expect(unsafe_code, reason = "the library leaves waiting for its process to its caller")]

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bundle), Some(state)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bare BUNDLE STATE");
        return Ok(ExitCode::from(2));
    };
    let mut container = ContainerBuilder::new(format!("bare-{}", std::process::id()), SyscallType::default())
        .with_root_path(state)?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(false)
        .build()?;
    let pid = container.pid().ok_or("the container has no process")?;
    container.start()?;
    let mut status = 0;
    // SAFETY: the status has a valid place.
    unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
    container.delete(true)?;
    Ok(if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
