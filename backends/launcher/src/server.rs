//! The server of an encrypted scratch: gocryptfs, in a sandbox of its own beside its engine's.
//!
//! The engine's jail holds the mount, this process the key, the host's disk the ciphertext; no mount is
//! ever made where the host sees it, so none can be left behind. No key of any kind is on disk: the
//! folder starts empty, and names are encrypted without the files that gocryptfs would else keep.

use crate::root::{SCRATCH_ARGUMENT, Scratch};
use crate::spawn::{Spawned, Start, spawn};
use crate::syscall;
use decores_secrets::Zeroizing;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Where the program lies; never looked for elsewhere, since it may run as root's child.
const PROGRAMS: [&str; 2] = ["/usr/bin/gocryptfs", "/usr/local/bin/gocryptfs"];
/// The mount point is the descriptor that it gets as number 3.
const ARGUMENTS: [&CStr; 8] = [
    c"/engine",
    c"-fg",
    c"-nosyslog",
    c"-quiet",
    c"-masterkey=stdin",
    c"-deterministic-names",
    SCRATCH_ARGUMENT,
    c"/dev/fd/3",
];
/// Its threads must fit the limit on tasks, however many processors there are.
const ENVIRONMENT: [&CStr; 1] = [c"GOMAXPROCS=2"];
/// The guest's files, twice, and folders on the way to them.
const OPEN_FILES: u64 = 1024;
const KEY: usize = 32;

/// The program, where it is installed.
pub(crate) fn program() -> Option<&'static Path> {
    PROGRAMS.iter().map(Path::new).find(|path| path.is_file())
}

/// Starts the server that answers at `fuse`, for the process that `start` starts.
///
/// # Errors
/// The step that failed, and why.
pub(crate) fn server(start: &Start<'_>, fuse: OwnedFd) -> Result<Spawned, String> {
    let program = program().ok_or("gocryptfs is not installed")?;
    let key = key().map_err(|e| format!("making the scratch's key: {e}"))?;
    let null = File::options().write(true).open("/dev/null").map_err(|e| format!("opening /dev/null: {e}"))?;
    let server = Start {
        program,
        scratch: Scratch::Folder(start.cipher),
        shares_scratch: false,
        holes: &[],
        fds: &[key.as_fd(), null.as_fd(), null.as_fd(), fuse.as_fd()],
        arguments: &ARGUMENTS,
        environment: &ENVIRONMENT,
        open_files: OPEN_FILES,
        ..*start
    };
    spawn(&server).map(|(spawned, _)| spawned).map_err(|why| format!("the scratch's server: {why}"))
}

/// A new random key, in a pipe that it is read from once.
fn key() -> io::Result<OwnedFd> {
    let (read, write) = syscall::pipe()?;
    let mut key = Zeroizing::new([0; KEY]);
    syscall::random(key.as_mut())?;
    let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY + 1));
    for byte in key.iter() {
        write!(&mut *text, "{byte:02x}")?;
    }
    text.push(b'\n');
    File::from(write).write_all(&text)?;
    Ok(read)
}
