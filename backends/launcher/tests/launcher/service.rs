//! The launcher as root's service, for nodes that are not root: this very program, with another user.

use super::{World, config_in, run_again};
use decores_launcher::{LaunchError, Launcher, serve_at};
use decores_sandbox::UserPlan;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The user that is served.
const NODE: u32 = 65_534;

/// The service: started as root, it ends when it is told to.
pub(crate) fn serving(socket: &Path, folder: &Path) {
    serve_at(socket, NODE, &config_in(folder, &std::env::current_exe().unwrap())).unwrap();
}

struct Service {
    process: Child,
    folder: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Others must get to the socket.
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let process = command.arg("serving").arg(folder.path().join("socket")).arg(folder.path()).spawn().unwrap();
        let service = Self { process, folder };
        wait_for(|| fs::metadata(service.socket()).is_ok_and(|found| found.uid() == NODE));
        service
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn guest(&self, role: &str, user: u32) {
        run_again(&[
            "guest",
            role,
            &user.to_string(),
            self.socket().to_str().unwrap(),
            self.folder.path().to_str().unwrap(),
        ]);
    }

    fn jails(&self) -> usize {
        fs::read_dir(self.folder.path().join("jails")).into_iter().flatten().count()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_for(is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not come to be");
}

pub(crate) fn conversations(world: &World) {
    if !world.host.own_users {
        println!("not root: a service of root's is not asserted");
        return;
    }
    let mut service = Service::start();
    service.guest("jobs", NODE);
    service.guest("stranger", NODE - 1);
    service.guest("stranger", 0);
    service.guest("garbage", NODE);
    service.guest("jobs", NODE);
    // Whatever the service does when it ends, it ends with all it started.
    let mut guest = Command::new(std::env::current_exe().unwrap());
    guest.args(["guest", "waits", &NODE.to_string()]).arg(service.socket()).arg(service.folder.path());
    let mut guest = guest.stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(guest.stdout.take().unwrap()).lines().next();
    assert_eq!((said.unwrap().unwrap().as_str(), service.jails()), ("it runs", 1));
    // SAFETY: the process is the service that this test started.
    assert_eq!(unsafe { libc::kill(service.process.id().cast_signed(), libc::SIGTERM) }, 0);
    assert!(service.process.wait().unwrap().success());
    assert!(guest.wait().unwrap().success(), "it was told");
    assert_eq!((service.jails(), service.socket().exists()), (0, false));
}

/// A node of another user's.
pub(crate) fn guest(role: &str, user: u32, socket: &Path, folder: &Path) {
    // SAFETY: plain numbers, and an empty list.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!((libc::setresgid(user, user, user), libc::setresuid(user, user, user)), (0, 0));
    }
    match role {
        "jobs" => jobs(socket, folder),
        "stranger" => match Launcher::connect_to(socket, false) {
            Err(LaunchError::Socket(e)) => assert!(user != 0 && e.kind() == io::ErrorKind::PermissionDenied, "{e}"),
            Err(LaunchError::Refused(why)) => assert!(user == 0 && why.contains("65534"), "{why}"),
            other => panic!("{other:?}"),
        },
        "garbage" => garbage(socket),
        _ => {
            let world = World::of(welcome(socket), config_in(folder, Path::new("/nowhere")));
            let (launched, _events) = world.start_job(&world.plan(0), "hang").unwrap();
            println!("it runs");
            // Either is told first: the end of the engine, or that of the conversation.
            assert!(launched.exit.blocking_recv().map_or(true, |exit| exit.signal == Some(9)));
        }
    }
}

/// The conversation before may not have ended yet.
fn welcome(socket: &Path) -> Launcher {
    Launcher::connect_to(socket, true).unwrap()
}

fn jobs(socket: &Path, folder: &Path) {
    let world = World::of(welcome(socket), config_in(folder, Path::new("/nowhere")));
    assert!(world.host.own_users, "what root's service can, its node can");
    match Launcher::connect_to(socket, false) {
        Err(LaunchError::Refused(why)) => assert!(why.contains("another node"), "{why}"),
        other => panic!("{other:?}"),
    }
    let plan = world.plan(0);
    let UserPlan::Own { uid } = plan.user else { panic!("{plan:?}") };
    let (found, exit) = world.run(&plan, "report");
    assert_eq!((found["uid"].as_str(), exit.code), (uid.to_string().as_str(), Some(0)));
    let mut beyond = world.plan(0);
    beyond.user = UserPlan::Own { uid: NODE };
    refused(&world, &beyond, "range");
    beyond = world.plan(0);
    beyond.limits.memory_bytes = world.config.max_limits.memory_bytes + 1;
    refused(&world, &beyond, "memoryBytes");
    beyond = world.plan(0);
    beyond.user = UserPlan::Shared;
    refused(&world, &beyond, "user");
}

fn refused(world: &World, plan: &decores_sandbox::IsolationPlan, what: &str) {
    match world.start_job(plan, "exit") {
        Err(LaunchError::Refused(why)) => assert!(why.contains(what), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Says what is no request; the conversation ends, and the service does not.
fn garbage(path: &Path) {
    for said in [&b"\xff\xfe no request"[..], b"{\"id\":1,\"ask\":\"shell\"}", &[b'x'; 60_000]] {
        let socket = raw(path);
        let mut answer = [0; 1024];
        // SAFETY: pointers and lengths belong to live slices.
        let (sent, greeted, ended) = unsafe {
            let fd = socket.as_raw_fd();
            let greeted = libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0);
            let sent = libc::send(fd, said.as_ptr().cast(), said.len(), libc::MSG_NOSIGNAL);
            (sent, greeted, libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0))
        };
        assert!(greeted > 0 && sent > 0, "{greeted} {sent}");
        assert!(ended <= 0, "nothing is answered");
    }
}

fn raw(path: &Path) -> OwnedFd {
    for _ in 0..1000 {
        // SAFETY: the address is a whole one and lives through the call; the descriptor is new.
        let (socket, greeting) = unsafe {
            let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0));
            let mut address: libc::sockaddr_un = std::mem::zeroed();
            address.sun_family = libc::AF_UNIX as libc::sa_family_t;
            let bytes = path.as_os_str().as_bytes();
            address.sun_path.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as libc::c_char);
            let length = std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
            assert_eq!(libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length), 0);
            let mut greeting = [0_u8; 256];
            let got = libc::recv(socket.as_raw_fd(), greeting.as_mut_ptr().cast(), greeting.len(), libc::MSG_PEEK);
            (socket, greeting[..usize::try_from(got).unwrap()].to_vec())
        };
        if greeting == b"\"welcome\"" {
            return socket;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the service never let the one before go");
}
