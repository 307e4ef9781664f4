//! Whether this machine can run containers: one is run, of this very program.
//!
//! This process plays launcher and engine, and starts itself again as the helper. The image is this program and the libraries it is running with, copied to
//! memory; inside, [`look`] prints what the kernel says of it.

use crate::request;
use crate::stop::{Stop, at};
use crate::syscall::{self, Side};
use decores_sandbox::container::{
    FD_TASK, IdRange, MAX_ANSWER, MAX_TASK, MOUNT_POINTS, RANGE, RunAnswer, RunReport, RunRequest, RunTask, Runtime,
};
use decores_types::canonical;
use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The mode in which this program runs a container.
pub const CONTAINER: &str = "container";
/// The mode in which this program is run inside the container.
pub const LOOK: &str = "look";
/// Milliseconds a probe takes at most.
const PATIENCE_MS: u64 = 15_000;
const NAMESPACES: libc::c_int =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
/// Where the image is made, in a mount namespace of its own.
const PLACE: &str = "/tmp";
const MOST_OUTPUT: u64 = 64 << 10;

/// Runs a container as the job's user `uid` with the ids from `first` on, or as root's stand-in where this is not root.
///
/// # Errors
/// Why it cannot be done.
pub fn probe(runtime: Runtime, uid: u32, first: u32) -> Result<RunReport, Stop> {
    let root = syscall::effective_uid() == 0;
    let ids = root.then_some(IdRange { first, count: RANGE });
    let task = RunTask {
        name: "probe".to_owned(),
        runtime,
        uid,
        ids,
        wall_ms: PATIENCE_MS,
        tasks: 64,
        memory_bytes: 256 << 20,
        cgroup: Vec::new(),
        holes: Vec::new(),
    };
    let image = Image::of_this_program()?;
    let ends = Ends::new(&task)?;
    let flags = NAMESPACES | if root { 0 } else { libc::CLONE_NEWUSER };
    match syscall::fork_into(flags).map_err(at("making namespaces"))? {
        Side::Child => {
            let Ends { ours, theirs } = ends;
            drop(ours);
            let Err(_) = stand_in(theirs, &image);
            syscall::exit_now(1)
        }
        Side::Parent(pid, ended) => {
            let Ends { ours, theirs } = ends;
            drop(theirs);
            let result = if root { Ok(()) } else { map_user(pid) };
            let result = result.and_then(|()| ours.play(&image, &ended));
            let _ = syscall::kill(pid);
            let _ = syscall::reap(pid);
            result
        }
    }
}

/// Prints what the kernel says of this process, for [`probe`]'s other side.
///
/// # Errors
/// If it cannot be read or printed.
pub fn look() -> io::Result<()> {
    io::stdout().write_all(fs::read_to_string("/proc/self/status")?.as_bytes())
}

/// Maps the only user: this process's own, to 0.
fn map_user(pid: i32) -> Result<(), Stop> {
    let uid = syscall::effective_uid();
    let gid = syscall::effective_gid();
    fs::write(format!("/proc/{pid}/setgroups"), "deny")
        .and_then(|()| fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1")))
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1")))
        .map_err(at("mapping the user"))
}

/// The image: files and where they lie inside, and how the program is started.
struct Image {
    files: Vec<(File, PathBuf)>,
    args: Vec<String>,
}

impl Image {
    fn of_this_program() -> Result<Self, Stop> {
        const PROGRAM: &str = "/decores-helper";
        let open = |path: &Path| File::open(path).map_err(at("opening this program's own files"));
        let mut files = vec![(open(Path::new("/proc/self/exe"))?, PathBuf::from(PROGRAM))];
        let maps = fs::read_to_string("/proc/self/maps").map_err(at("reading this program's own maps"))?;
        let mut libraries: Vec<&str> = maps
            .lines()
            .filter_map(|line| line.find('/').and_then(|at| line.get(at..)))
            .filter(|p| is_library(p))
            .collect();
        libraries.sort_unstable();
        libraries.dedup();
        let mut args = Vec::new();
        if let Some(loader) = libraries.iter().find(|path| name(path).starts_with("ld-")) {
            let mut folders: Vec<&str> =
                libraries.iter().filter_map(|path| path.rsplit_once('/')).map(|(f, _)| f).collect();
            folders.dedup();
            args = vec![(*loader).to_owned(), "--library-path".to_owned(), folders.join(":")];
        }
        args.extend([PROGRAM.to_owned(), LOOK.to_owned()]);
        for library in libraries {
            // Programs ask for `libx.so.2`, which is a link to the `libx.so.2.5.4` that the kernel names.
            let mut name = library;
            while name.contains(".so") {
                files.push((open(Path::new(library))?, PathBuf::from(name)));
                name = name.rsplit_once('.').map_or("", |(shorter, _)| shorter);
            }
        }
        Ok(Self { files, args })
    }

    /// Makes a scratch with this image; must run in a mount namespace of its own.
    fn scratch(&self) -> io::Result<OwnedFd> {
        let place = Path::new(PLACE);
        let none: Option<&CStr> = None;
        syscall::mount(None, Path::new("/"), none, libc::MS_REC | libc::MS_PRIVATE, "")?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        syscall::mount(Some(Path::new("probe")), place, Some(c"tmpfs"), flags, "size=512m,mode=0755")?;
        for folder in ["in", "out", "tmp"] {
            fs::create_dir(place.join(folder))?;
        }
        let root = place.join("rootfs");
        for folder in MOUNT_POINTS {
            fs::create_dir_all(root.join(folder))?;
        }
        for (file, inside) in &self.files {
            let inside = root.join(inside.strip_prefix("/").unwrap_or(inside));
            if let Some(above) = inside.parent() {
                fs::create_dir_all(above)?;
            }
            io::copy(&mut &*file, &mut File::create(&inside)?)?;
            fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))?;
        }
        syscall::open_tree(syscall::open_place(place)?.as_fd())
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_library(path: &str) -> bool {
    name(path).contains(".so")
}

/// The launcher's and the engine's ends of everything, and the helper's.
struct Ends {
    ours: Ours,
    theirs: Theirs,
}

struct Ours {
    engine: OwnedFd,
    report: OwnedFd,
    output: OwnedFd,
    input: File,
    /// The program's own end of its output; closed once it is handed over.
    written: OwnedFd,
    go: File,
}

struct Theirs {
    task: OwnedFd,
    engine: OwnedFd,
    report: OwnedFd,
    go: File,
}

impl Ends {
    fn new(task: &RunTask) -> Result<Self, Stop> {
        let made = || -> io::Result<Self> {
            let (task_read, task_write) = syscall::pipe()?;
            let bytes = task.to_bytes().map_err(io::Error::other)?;
            File::from(task_write).write_all(&bytes)?;
            let (engine, their_engine) = syscall::socket_pair()?;
            let (report, their_report) = syscall::pipe()?;
            let (output, written) = syscall::pipe()?;
            let (their_go, go) = syscall::pipe()?;
            let input = File::open("/dev/null")?;
            Ok(Self {
                ours: Ours { engine, report, output, input, written, go: go.into() },
                theirs: Theirs { task: task_read, engine: their_engine, report: their_report, go: their_go.into() },
            })
        };
        made().map_err(at("making descriptors"))
    }
}

/// The helper's side: its descriptors where the launcher would have put them, then all as ever.
fn stand_in(theirs: Theirs, image: &Image) -> io::Result<Infallible> {
    let Theirs { task, engine, report, mut go } = theirs;
    syscall::die_with_parent()?;
    go.read_exact(&mut [0])?;
    let scratch = image.scratch()?;
    let program = image.files.first().map_or(-1, |(file, _)| file.as_raw_fd());
    let program = syscall::duplicate_above(program, 200)?;
    let parked: io::Result<Vec<i32>> =
        [task, engine, report, scratch].iter().map(|fd| syscall::duplicate_above(fd.as_raw_fd(), 200)).collect();
    for (at, fd) in (FD_TASK..).zip(parked?) {
        syscall::place(fd, at)?;
    }
    // A program of its own, as the launcher starts it: the kernel goes by where a program was started to say who may
    // look at its processes.
    let mut command = Command::new(format!("/proc/self/fd/{program}"));
    command.arg(CONTAINER).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Err(command.exec())
}

impl Ours {
    fn play(mut self, image: &Image, ended: &OwnedFd) -> Result<RunReport, Stop> {
        self.go.write_all(b"g").map_err(at("starting the helper"))?;
        let request = RunRequest { args: image.args.clone(), env: Vec::new(), cwd: "/".to_owned(), uid: 0, gid: 0 };
        request::send(&self.engine, &request, [self.input.as_fd(), self.written.as_fd(), self.written.as_fd()])?;
        drop(self.written);
        let ready = syscall::poll(&[ended.as_fd()], PATIENCE_MS as i32).map_err(at("waiting for the container"))?;
        if ready != [true] {
            return Err(Stop::failed("running a container", "it did not end in time"));
        }
        let answers = read(self.engine, 4 * MAX_ANSWER as u64)?;
        let output = read(self.output, MOST_OUTPUT)?;
        let last = answers.lines().last().unwrap_or_default();
        let said = output.lines().next().map_or_else(String::new, |line| format!("; it said: {line}"));
        match canonical::from_json(last.as_bytes(), MAX_ANSWER) {
            Ok(RunAnswer::Ended { code: Some(0), .. }) if output.contains("\nUid:") => {}
            Ok(RunAnswer::Refused { why } | RunAnswer::Failed { why }) => return Err(Stop::Failed(why + &said)),
            Ok(other) => return Err(Stop::failed("running a container", format!("it ended so: {other:?}{said}"))),
            Err(_) => return Err(Stop::failed("running a container", "namespaces or mounts are not allowed here")),
        }
        RunReport::parse(read(self.report, MAX_TASK as u64)?.as_bytes()).map_err(at("reading the report"))
    }
}

fn read(from: OwnedFd, most: u64) -> Result<String, Stop> {
    let mut text = String::new();
    match File::from(from).take(most).read_to_string(&mut text) {
        // A helper that ended before it read all that it was sent.
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(text),
        result => result.map(|_| text).map_err(at("reading what the container said")),
    }
}
