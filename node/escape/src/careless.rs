//! An engine without any care, which stands in the container engine's place where that care is left out: it writes
//! inputs wherever their names lead, follows links, reads everything to its end, and locks itself nowhere.

use crate::syscall;
use anyhow::{Context as _, Result, bail};
use decores_sandbox::container::{FD_RUNNER, MOUNT_POINTS, RunAnswer, RunRequest};
use decores_sandbox::protocol::{FD_OUTPUT, FD_PAYLOAD};
use decores_types::canonical;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead as _, BufReader, IoSlice, PipeReader, Read, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

/// As deep as links are followed: they may lead in a circle.
const MAX_DEPTH: usize = 3;

/// What it is to run, in plain.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plain {
    /// Paths in the image, and how long each file is: they follow.
    pub(crate) files: Vec<(String, usize)>,
    /// The name of an input.
    pub(crate) input: Option<String>,
    pub(crate) stdin: Vec<u8>,
}

/// What a program has left behind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Left {
    /// Outputs, and how large each is.
    pub(crate) files: BTreeMap<String, u64>,
    /// Bytes of its log.
    pub(crate) log: u64,
    /// Whether an input was written above its folder.
    pub(crate) dots: bool,
}

/// The same and its standard output.
#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) stdout: Vec<u8>,
    pub(crate) left: Left,
    pub(crate) end: String,
}

/// Writes an input where its name leads.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_input(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    fs::write(folder.join(name), content)
}

/// Everything that is found below a folder, wherever its links lead.
pub(crate) fn gather(folder: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    below(folder, "", MAX_DEPTH, &mut found);
    found
}

fn below(folder: &Path, name: &str, depth: usize, found: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{name}{}", entry.file_name().to_string_lossy());
        match fs::metadata(entry.path()) {
            Ok(kind) if kind.is_dir() && depth > 0 => below(&entry.path(), &format!("{name}/"), depth - 1, found),
            Ok(kind) if kind.is_file() => _ = found.insert(name, kind.len()),
            _ => {}
        }
    }
}

/// Runs one container.
///
/// # Errors
/// If it cannot be run.
pub(crate) fn run(scratch: &Path) -> Result<ExitCode> {
    let (mut payload, output) = (File::from(syscall::adopt(FD_PAYLOAD)), File::from(syscall::adopt(FD_OUTPUT)));
    let helper = syscall::adopt(FD_RUNNER);
    for name in ["rootfs", "in", "out", "tmp"] {
        fs::create_dir(scratch.join(name))?;
        fs::set_permissions(scratch.join(name), Permissions::from_mode(0o755))?;
    }
    let stdin = unpack(&mut payload, scratch)?;
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    ask(&helper, [stdin.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()])?;
    drop((stdout_end, stderr_end));
    let (stdout, stderr) = (read_whole(stdout), read_whole(stderr));
    let end = last_answer(helper)?;
    let (Ok(stdout), Ok(stderr)) = (stdout.join(), stderr.join()) else { bail!("a thread ended") };
    let left =
        Left { files: gather(&scratch.join("out")), log: stderr?.len() as u64, dots: scratch.join("dots").exists() };
    serde_json::to_writer(&output, &Told { stdout: stdout?, left, end })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the image's root and the input; gives the program's standard input.
fn unpack(payload: &mut File, scratch: &Path) -> Result<File> {
    let mut length = [0; 4];
    payload.read_exact(&mut length)?;
    let mut document = vec![0; u32::from_be_bytes(length) as usize];
    payload.read_exact(&mut document)?;
    let plain: Plain = serde_json::from_slice(&document)?;
    let root = scratch.join("rootfs");
    for name in MOUNT_POINTS {
        folders(&root, Path::new(name))?;
    }
    for (path, length) in plain.files {
        let path = Path::new(path.trim_start_matches('/'));
        folders(&root, path.parent().unwrap_or(path))?;
        let mut content = vec![0; length];
        payload.read_exact(&mut content)?;
        fs::write(root.join(path), content)?;
        fs::set_permissions(root.join(path), Permissions::from_mode(0o755))?;
    }
    if let Some(name) = plain.input {
        write_input(&scratch.join("in"), &name, b"input")?;
    }
    fs::write(scratch.join("stdin"), plain.stdin)?;
    Ok(File::open(scratch.join("stdin"))?)
}

/// Folders that every user may enter.
fn folders(root: &Path, path: &Path) -> io::Result<()> {
    let mut folder = root.to_owned();
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    for part in path.components() {
        folder.push(part);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Sends length and request; the program's streams go with the first byte.
fn ask(helper: &OwnedFd, streams: [BorrowedFd<'_>; 3]) -> Result<()> {
    let args = vec![crate::image::PROGRAM.to_owned(), "inside".to_owned()];
    let request = canonical::to_vec(&RunRequest { args, env: Vec::new(), cwd: "/".to_owned(), uid: 0, gid: 0 })?;
    let message = [u32::try_from(request.len())?.to_be_bytes().as_slice(), &request].concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&streams));
    let sent = sendmsg(helper, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
    File::from(helper.try_clone()?).write_all(message.get(sent..).unwrap_or_default())?;
    Ok(())
}

fn read_whole(mut stream: PipeReader) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut read = Vec::new();
        stream.read_to_end(&mut read)?;
        Ok(read)
    })
}

/// The answer that ends it.
fn last_answer(helper: OwnedFd) -> Result<String> {
    for line in BufReader::new(File::from(helper)).lines() {
        match serde_json::from_str(&line?)? {
            RunAnswer::Started => {}
            end => return Ok(format!("{end:?}")),
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context("the helper gave no answer")
}
