//! Stands in for launcher and engine: a scratch with a busybox image, the helper in its namespaces, a request.
#![expect(unsafe_code, reason = "mounts that are attached nowhere and descriptors that travel have no safe interface")]

use decores_sandbox::container::{
    FD_ENGINE, FD_REPORT, FD_SCRATCH, FD_TASK, IdRange, MOUNT_POINTS, RANGE, RunAnswer, RunReport, RunRequest, RunTask,
    Runtime,
};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::ptr;

pub(crate) const UID: u32 = 77_001;
const BUSYBOX: &str = "/usr/bin/busybox";
const APPLETS: [&str; 16] = [
    "sh", "true", "cat", "id", "sleep", "mount", "unshare", "touch", "kill", "ls", "head", "chroot", "env", "pwd",
    "dd", "stat",
];

pub(crate) fn task(runtime: Runtime) -> RunTask {
    RunTask {
        name: "test-1".to_owned(),
        runtime,
        uid: UID,
        ids: Some(IdRange { first: 0x7100_0000, count: RANGE }),
        wall_ms: 30_000,
        tasks: 64,
        memory_bytes: 256 << 20,
        cgroup: Vec::new(),
        holes: Vec::new(),
    }
}

pub(crate) fn request(script: &str) -> RunRequest {
    RunRequest {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        uid: 0,
        gid: 0,
    }
}

/// A tmpfs that is attached nowhere, with an image in it that all of `owner`.
pub(crate) struct Scratch(OwnedFd);

impl Scratch {
    pub(crate) fn new(owner: u32) -> Self {
        let scratch = Self(tmpfs(owner));
        for folder in ["in", "out", "tmp", "rootfs", "rootfs/bin"] {
            fs::create_dir(scratch.path(folder)).unwrap();
        }
        for folder in MOUNT_POINTS {
            fs::create_dir(scratch.path("rootfs").join(folder)).unwrap();
        }
        fs::copy(BUSYBOX, scratch.path("rootfs/bin/busybox"))
            .unwrap_or_else(|e| panic!("this test needs busybox ({e}): apt-get install busybox-static"));
        for applet in APPLETS {
            symlink("busybox", scratch.path("rootfs/bin").join(applet)).unwrap();
        }
        for folder in ["in", "out", "tmp", "rootfs", "rootfs/bin", "rootfs/bin/busybox"] {
            chown(scratch.path(folder), Some(owner), Some(owner)).unwrap();
        }
        scratch.write("in/data", "input\n");
        scratch
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(inside)
    }

    pub(crate) fn write(&self, inside: &str, text: &str) {
        fs::write(self.path(inside), text).unwrap();
        fs::set_permissions(self.path(inside), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn tmpfs(owner: u32) -> OwnedFd {
    let done = |result: i64| {
        assert!(result >= 0, "this test must be root: {}", std::io::Error::last_os_error());
        result as RawFd
    };
    // SAFETY: constant and live C strings, and numbers; the kernel makes the descriptors for us.
    unsafe {
        let context = OwnedFd::from_raw_fd(done(libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1)));
        let owner = owner.to_string();
        for (name, value) in [("size", "64m"), ("mode", "0700"), ("uid", &owner), ("gid", &owner)] {
            let (name, value) = (CString::new(name).unwrap(), CString::new(value).unwrap());
            let set = libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 1, name.as_ptr(), value.as_ptr(), 0);
            done(set);
        }
        let nothing = ptr::null::<libc::c_char>();
        done(libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 6, nothing, nothing, 0));
        let flags = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        OwnedFd::from_raw_fd(done(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, flags)))
    }
}

/// A helper that was started, and the other ends of its descriptors.
pub(crate) struct Helper {
    pub(crate) child: Child,
    pub(crate) engine: Option<UnixStream>,
    report: File,
    input: Option<File>,
    output: File,
    error: File,
    theirs: Vec<OwnedFd>,
}

/// How it all went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<RunAnswer>,
    pub(crate) report: Option<RunReport>,
    pub(crate) output: String,
    pub(crate) error: String,
}

impl Outcome {
    pub(crate) fn last(&self) -> &RunAnswer {
        self.answers.last().unwrap_or_else(|| panic!("no answer: {self:?}"))
    }

    pub(crate) fn code(&self) -> i32 {
        match self.last() {
            RunAnswer::Ended { code: Some(code), late: false, .. } => *code,
            _ => panic!("{self:?}"),
        }
    }

    pub(crate) fn refused(&self) -> &str {
        match self.answers.as_slice() {
            [RunAnswer::Refused { why }] => why,
            _ => panic!("{self:?}"),
        }
    }
}

/// The helper, which lies beside the folder that tests and examples lie in.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("decores-helper")
}

impl Helper {
    /// `groups` are folders of control groups that the helper is put in.
    pub(crate) fn start(task: &RunTask, scratch: &Scratch, groups: &[PathBuf]) -> Self {
        let root = ["--pid", "--fork", "--kill-child", "--mount", "--net", "--ipc", "--uts"];
        let program = program();
        let mut command = Command::new("unshare");
        if task.ids.is_none() {
            let mut user = Command::new("setpriv");
            user.args([
                "--reuid",
                &task.uid.to_string(),
                "--regid",
                &task.uid.to_string(),
                "--clear-groups",
                "unshare",
            ]);
            user.args(["--user", "--map-root-user"]);
            command = user;
        }
        command.args(root).arg(program).arg("container").env_clear();
        let pipe = || std::io::pipe().unwrap();
        let ((task_read, mut task_write), (report, report_write)) = (pipe(), pipe());
        task_write.write_all(&task.to_bytes().unwrap()).unwrap();
        drop(task_write);
        let (engine, helper) = UnixStream::pair().unwrap();
        let given: [RawFd; 4] =
            [task_read.as_raw_fd(), helper.as_raw_fd(), report_write.as_raw_fd(), scratch.0.as_raw_fd()];
        let groups: Vec<PathBuf> = groups.iter().map(|folder| folder.join("cgroup.procs")).collect();
        // SAFETY: only system calls that are safe after a fork.
        unsafe {
            command.pre_exec(move || {
                for group in &groups {
                    fs::write(group, std::process::id().to_string())?;
                }
                let parked = given.map(|fd| libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 200));
                for (at, fd) in [FD_TASK, FD_ENGINE, FD_REPORT, FD_SCRATCH].into_iter().zip(parked) {
                    libc::dup2(fd, at);
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let ((input_read, input), (output, output_write), (error, error_write)) = (pipe(), pipe(), pipe());
        Self {
            child,
            engine: Some(engine),
            report: OwnedFd::from(report).into(),
            input: Some(OwnedFd::from(input).into()),
            output: OwnedFd::from(output).into(),
            error: OwnedFd::from(error).into(),
            theirs: vec![input_read.into(), output_write.into(), error_write.into()],
        }
    }

    pub(crate) fn ask(&mut self, request: &RunRequest) {
        let body = serde_json::to_vec(request).unwrap();
        let bytes = [&u32::try_from(body.len()).unwrap().to_be_bytes(), body.as_slice()].concat();
        self.send(&bytes, 3);
    }

    /// Sends bytes and this many of the program's descriptors.
    pub(crate) fn send(&mut self, bytes: &[u8], descriptors: usize) {
        let mut fds: Vec<RawFd> = self.theirs.iter().map(AsRawFd::as_raw_fd).collect();
        fds.truncate(descriptors);
        let engine = self.engine.as_ref().unwrap();
        let mut control = [0_u64; 8];
        let size = mem::size_of_val(fds.as_slice()) as u32;
        // SAFETY: all-zero is a valid `msghdr`; buffers live through the call and have room for three descriptors.
        unsafe {
            let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = &raw mut iov;
            message.msg_iovlen = 1;
            if descriptors > 0 {
                message.msg_control = control.as_mut_ptr().cast();
                message.msg_controllen = libc::CMSG_SPACE(size) as usize;
                let header = &mut *libc::CMSG_FIRSTHDR(&raw const message);
                header.cmsg_level = libc::SOL_SOCKET;
                header.cmsg_type = libc::SCM_RIGHTS;
                header.cmsg_len = libc::CMSG_LEN(size) as usize;
                ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), fds.len());
            }
            assert_eq!(libc::sendmsg(engine.as_raw_fd(), &raw const message, 0), bytes.len() as isize);
        }
        self.theirs.clear();
    }

    pub(crate) fn write_input(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Option<RunAnswer> {
        let mut line = String::new();
        let mut byte = [0];
        let engine = self.engine.as_mut().unwrap();
        while engine.read(&mut byte).unwrap_or(0) == 1 && byte != [b'\n'] {
            line.push(byte[0].into());
        }
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Everything there is to read until the helper has ended.
    pub(crate) fn finish(mut self) -> Outcome {
        drop(self.input.take());
        self.theirs.clear();
        let engine = self.engine.take();
        let answers = engine.map_or_else(Vec::new, |engine| {
            let lines = BufReader::new(engine).lines().map_while(Result::ok);
            lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
        });
        self.child.wait().unwrap();
        let read = |mut file: File| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        };
        let report = RunReport::parse(read(self.report).as_bytes()).ok();
        Outcome { answers, report, output: read(self.output), error: read(self.error) }
    }
}

/// Runs a request from start to end.
pub(crate) fn run(task: &RunTask, scratch: &Scratch, request: &RunRequest) -> Outcome {
    let mut helper = Helper::start(task, scratch, &[]);
    helper.ask(request);
    helper.finish()
}

/// Runs a shell script as root's stand-in inside.
pub(crate) fn script(runtime: Runtime, script: &str) -> Outcome {
    run(&task(runtime), &Scratch::new(UID), &request(script))
}
