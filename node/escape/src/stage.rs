//! What is planted on the machine before probes run, and taken away afterwards.
//!
//! Everything that must not be reached holds one fresh secret, so that a probe which reached something else does not
//! count. Each thing is what a real node has beside its jobs: files, sockets, processes, queues.

use crate::probe::World;
use crate::syscall::{address, address_mut, call, signed, text};
use anyhow::{Context as _, Result};
use decores_system::SystemRandom;
use decores_types::ambient::random_bytes;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use tempfile::TempDir;

/// Where another job keeps the secret in its memory: below where programs and libraries are put, and nobody's else.
pub(crate) const NEIGHBOUR_MEMORY: usize = 0x2000_0000_0000;
/// The word that a bystander's environment holds the secret under.
const SECRET_ENV: &str = "DECORES_ESCAPE_SECRET";
/// Numbers that no process of a fresh process namespace reaches.
const LEAST_PID: u32 = 600;

/// The machine as probes find it; what was planted goes when this is dropped.
pub(crate) struct Stage {
    pub(crate) world: World,
    folder: TempDir,
    bystander: Child,
    planted: Vec<Planted>,
}

/// What the file system does not hold.
enum Planted {
    File(PathBuf),
    Segment(usize),
    Queue(usize),
    Semaphores(usize),
    PosixQueue(CString),
}

impl Stage {
    /// Plants everything.
    ///
    /// # Errors
    /// If one of them cannot be planted: its probes could not tell.
    pub(crate) fn set(home: &Path) -> Result<Self> {
        let secret = hex::encode(random_bytes::<16>(&SystemRandom));
        let folder = folder("decores-escape-").context("failed to make a folder")?;
        allow(folder.path(), 0o711)?;
        let bystander = bystander(&secret)?;
        let mut stage = Self { world: World::default(), folder, bystander, planted: Vec::new() };
        stage.world.secret = secret;
        stage.world.node = i32::try_from(stage.bystander.id())?;
        stage.files(home).context("failed to plant files")?;
        stage.listeners().context("failed to plant listeners")?;
        stage.queues().context("failed to plant System V and POSIX objects")?;
        stage.machine();
        Ok(stage)
    }

    /// `home` is the folder of a node, which nobody else enters.
    fn files(&mut self, home: &Path) -> Result<()> {
        let folder = self.folder.path().to_owned();
        let secret = self.world.secret.clone();
        let plant = |path: PathBuf, mode: u32| -> Result<PathBuf> {
            fs::write(&path, &secret)?;
            allow(&path, mode)?;
            Ok(path)
        };
        let world = &mut self.world;
        world.root_file = plant(folder.join("root-file"), 0o600)?;
        world.public_file = plant(folder.join("public-file"), 0o666)?;
        world.home_file = plant(home.join("file"), 0o600)?;
        world.shared_file = plant(PathBuf::from("/dev/shm").join(format!("decores-escape-{secret}")), 0o666)?;
        self.planted.push(Planted::File(world.shared_file.clone()));
        world.open_folder = folder.join("open");
        fs::create_dir(&world.open_folder)?;
        allow(&world.open_folder, 0o777)?;
        world.program = std::env::current_exe()?;
        world.setuid_program = folder.join("set-user-id");
        fs::copy(&world.program, &world.setuid_program)?;
        allow(&world.setuid_program, 0o4755)
    }

    fn listeners(&mut self) -> Result<()> {
        let secret = self.world.secret.clone();
        let stream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let datagram = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        self.world.tcp_port = stream.local_addr()?.port();
        self.world.udp_port = datagram.local_addr()?.port();
        self.world.abstract_name = format!("decores-escape-{secret}");
        self.world.socket_file = self.folder.path().join("socket");
        let named = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&self.world.abstract_name)?)?;
        let in_files = UnixListener::bind(&self.world.socket_file)?;
        allow(&self.world.socket_file, 0o777)?;
        // They live as long as this process.
        let word = secret.clone();
        thread::spawn(move || stream.incoming().flatten().try_for_each(|mut peer| peer.write_all(word.as_bytes())));
        for listener in [named, in_files] {
            let word = secret.clone();
            thread::spawn(move || {
                listener.incoming().flatten().try_for_each(|mut peer| peer.write_all(word.as_bytes()))
            });
        }
        thread::spawn(move || -> io::Result<()> {
            loop {
                let (_, peer) = datagram.recv_from(&mut [0; 16])?;
                datagram.send_to(secret.as_bytes(), peer)?;
            }
        });
        Ok(())
    }

    fn queues(&mut self) -> io::Result<()> {
        let world = &mut self.world;
        world.ipc_key = i32::from_be_bytes(random_bytes::<4>(&SystemRandom)) | 1;
        let (key, flags) = (signed(world.ipc_key), (libc::IPC_CREAT | libc::IPC_EXCL | 0o666) as usize);
        let segment = call(libc::SYS_shmget, [key, 4096, flags])?;
        self.planted.push(Planted::Segment(segment));
        crate::syscall::write_segment(segment, world.secret.as_bytes())?;
        self.planted.push(Planted::Queue(call(libc::SYS_msgget, [key, flags])?));
        self.planted.push(Planted::Semaphores(call(libc::SYS_semget, [key, 1, flags])?));
        world.queue_name = format!("decores-escape-{}", world.secret);
        let name = CString::new(world.queue_name.as_str())?;
        let open = (libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC) as usize;
        // Two words of eight bytes: flags, and how many messages of which size.
        let attributes = [0_u64, 1, 16, 0, 0, 0, 0, 0];
        call(libc::SYS_mq_open, [text(&name), open, 0o666, address(&attributes)])?;
        self.planted.push(Planted::PosixQueue(name));
        Ok(())
    }

    /// What is there already.
    fn machine(&mut self) {
        let world = &mut self.world;
        let first = |paths: &[&str]| {
            let there = paths.iter().find(|path| Path::new(path).exists());
            PathBuf::from(there.or(paths.first()).copied().unwrap_or_default())
        };
        world.group_members = first(&[
            "/sys/fs/cgroup/pids/cgroup.procs",
            "/sys/fs/cgroup/cgroup.procs",
            "/sys/fs/cgroup/unified/cgroup.procs",
        ]);
        world.release_agent = first(&["/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/pids/release_agent"]);
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        world.host_name = name.trim().to_owned();
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let library =
            maps.lines().filter_map(|line| Some(&line[line.find('/')?..])).find(|path| path.contains("libc.so"));
        world.library = PathBuf::from(library.unwrap_or_default());
        // Others may be in every network namespace, these are not: nothing is routed in a new one.
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let routed = routes.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        world.interfaces = routed.map(str::to_owned).collect();
        world.handle = handle();
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Reads another process's memory, as only root may.
    pub(crate) fn neighbour_holds_secret(&self, pid: i32) -> bool {
        let mut found = vec![0_u8; self.world.secret.len()];
        let local = [address_mut(found.as_mut_slice()), found.len()];
        let remote = [NEIGHBOUR_MEMORY, found.len()];
        let read = call(libc::SYS_process_vm_readv, [signed(pid), address(&local), 1, address(&remote), 1, 0]);
        read.is_ok() && found == self.world.secret.as_bytes()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.bystander.stdin.take());
        let _ = self.bystander.wait();
        for planted in &self.planted {
            let remove = libc::IPC_RMID as usize;
            let _ = match planted {
                Planted::File(path) => fs::remove_file(path).map(|()| 0),
                Planted::Segment(id) => call(libc::SYS_shmctl, [*id, remove, 0]),
                Planted::Queue(id) => call(libc::SYS_msgctl, [*id, remove, 0]),
                Planted::Semaphores(id) => call(libc::SYS_semctl, [*id, 0, remove, 0]),
                Planted::PosixQueue(name) => call(libc::SYS_mq_unlink, [text(name)]),
            };
        }
    }
}

/// A folder where nodes and their neighbours could have theirs: `/tmp` is what sandboxes cover first of all.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn folder(prefix: &str) -> io::Result<TempDir> {
    let usual = Path::new("/var/tmp");
    let above = if usual.is_dir() { usual.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix(prefix).tempdir_in(above)
}

fn allow(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("failed to open {}", path.display()))
}

/// A process that stands for the node: the secret is in its environment and its command line. Its number is none that a
/// process in a namespace of its own could have.
fn bystander(secret: &str) -> Result<Child> {
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    loop {
        let mut child = Command::new(&own)
            .args(["stand", secret])
            .env(SECRET_ENV, secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("failed to start a bystander")?;
        if child.id() > LEAST_PID {
            return Ok(child);
        }
        drop(child.stdin.take());
        child.wait()?;
    }
}

/// A file beside the libraries, on the same file system, by its handle.
fn handle() -> Option<(i32, Vec<u8>)> {
    const MOST: usize = 128;
    let mut handle = [0_u8; 8 + MOST];
    handle.iter_mut().zip((MOST as u32).to_ne_bytes()).for_each(|(place, byte)| *place = byte);
    let mut mount = 0_i32;
    let (here, name, follow) = (signed(libc::AT_FDCWD), text(c"/usr/bin/env"), libc::AT_SYMLINK_FOLLOW as usize);
    let arguments = [here, name, address_mut(&mut handle), address_mut(&mut mount), follow];
    call(libc::SYS_name_to_handle_at, arguments).ok()?;
    let length = u32::from_ne_bytes(handle.get(..4)?.try_into().ok()?) as usize;
    let kind = i32::from_ne_bytes(handle.get(4..8)?.try_into().ok()?);
    Some((kind, handle.get(8..8 + length)?.to_vec()))
}

/// Opens a file for a prober's log.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn log_in(folder: &Path) -> io::Result<File> {
    File::create(folder.join("log"))
}
