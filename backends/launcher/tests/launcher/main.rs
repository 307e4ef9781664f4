//! The launcher, with this very program as the engine: it tells what it finds around itself.
//!
//! Without the usual harness: the launcher is forked before any thread exists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]
#![allow(unsafe_code, reason = "the engine in it asks the kernel about itself")]

use decores_launcher::{EngineDescriptors, LaunchError, Launched, Launcher, LauncherConfig, LauncherHandle, Leftovers};
use decores_sandbox::protocol::Exit;
use decores_sandbox::{
    Hole, HostCapabilities, IsolationPlan, Namespace, SandboxConfig, ScratchPlan, UserPlan, plan::CgroupPlan,
};
use decores_types::job::EngineKind;
use decores_types::{Attempt, JobId, Limits, Protection};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

mod containers;
mod leftovers;
mod report;
mod service;

fn main() {
    if std::env::args().next().as_deref() == Some("/engine") {
        return engine();
    }
    if std::env::args().next().as_deref() == Some("decores-helper") {
        return containers::helper();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["probe-container", ..] => return containers::trial(),
        ["serving", socket, folder] => return service::serving(Path::new(socket), Path::new(folder)),
        ["guest", role, user, socket, folder] => {
            return service::guest(role, user.parse().unwrap(), Path::new(socket), Path::new(folder));
        }
        ["holes", folder] => return holes(Path::new(folder)),
        ["doomed", folder] => return doomed(Path::new(folder)),
        ["unstartable", folder] => return unstartable(Path::new(folder)),
        ["squat", process] => return leftovers::squat(process),
        ["stray", uid, headless] => return leftovers::stray(uid.parse().unwrap(), headless.parse().unwrap()),
        ["successor", folder, job] => return successor(Path::new(folder), JobId::parse(job).unwrap()),
        _ => {}
    }
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_in(folder.path(), &std::env::current_exe().unwrap());
    println!("host: {:?}", world.host);
    if !world.host.own_users {
        println!("not root: users of their own, control groups and foreign limits are not asserted");
    }
    let cases: &[Case] = &[
        ("the engine finds nothing but what it needs", surroundings),
        ("an exit code is told", exit_code),
        ("a killed engine is told as such", killed),
        ("the deadline ends an engine", deadline),
        ("memory beyond the group's limit ends it", memory),
        ("forks beyond the limit fail", forks),
        ("two jobs do not see each other", two_jobs),
        ("plans outside the rules are refused", refused_plans),
        ("a second launcher after threads is refused", threads),
        ("what does not run cannot be killed", kill_unknown),
        ("a node that dies leaves nothing", node_killed),
        ("a user with leftovers is not given out", blocked_user),
        ("a launch that fails late leaves nothing", fails_late),
        ("an encrypted scratch shows nothing of what is in it", leftovers::encrypted),
        ("an engine ends with the server of its scratch", leftovers::server_killed),
        ("a scratch far beyond its limit ends its engine", leftovers::overfilled),
        ("a mount that is held is told until it is let go", leftovers::held_mount),
        ("files that cannot be removed are told until they can", leftovers::immutable),
        ("what another launcher left elsewhere is found", leftovers::elsewhere),
        ("a container's helper has what it needs and its own namespaces", containers::surroundings),
        ("a container goes with its engine, wherever its groups lie", containers::engine_killed),
        ("a helper that is gone is told to its engine", containers::helper_gone),
        ("what a helper does not report is not told", containers::unreported),
        ("containers outside the rules are refused", containers::refused),
        ("a service of root's serves one node, of one user, as its configuration says", service::conversations),
        ("memory exhaustion ends engines first", leftovers::memory_exhaustion),
        ("only what has ended is removed", leftovers::remove_live),
        ("a node's launcher leaves no mechanism out", no_holes),
        ("a launcher that dies takes its engines along, and its successor cleans up", launcher_killed),
    ];
    for (name, case) in cases {
        println!("test {name} ...");
        case(&world);
    }
    println!("test result: ok. {} passed", cases.len());
}

/// What is shown, and how.
type Case = (&'static str, fn(&World));

struct World {
    launcher: LauncherHandle,
    host: HostCapabilities,
    config: LauncherConfig,
}

fn config_in(folder: &Path, engine: &Path) -> LauncherConfig {
    LauncherConfig {
        io_bytes: 1 << 30,
        owner: true,
        holes: Vec::new(),
        containers: Ok(containers::containers()),
        engines: [EngineKind::Wasm, EngineKind::Container].map(|kind| (kind, engine.to_owned())).to_vec(),
        jails: folder.join("jails"),
        scratch: folder.join("scratch"),
        first_uid: SandboxConfig::default().first_uid + 100,
        slots: 2,
        max_limits: SandboxConfig::default().max_limits,
        max_deadline_ms: 1_000_000,
    }
}

impl World {
    fn start_in(folder: &Path, engine: &Path) -> Self {
        let config = config_in(folder, engine);
        Self::of(Launcher::fork(config.clone()).unwrap(), config)
    }

    fn of(launcher: Launcher, config: LauncherConfig) -> Self {
        let launcher = launcher.connect().unwrap();
        let host = launcher.probe().unwrap();
        Self { launcher, host, config }
    }

    fn plan(&self, slot: u32) -> IsolationPlan {
        let mut job = [0; 16];
        File::open("/dev/urandom").unwrap().read_exact(&mut job).unwrap();
        let uid = self.config.first_uid + slot;
        IsolationPlan {
            job: JobId::from_bytes(job),
            attempt: Attempt(1),
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            user: if self.host.own_users { UserPlan::Own { uid } } else { UserPlan::Shared },
            namespaces: self.host.namespaces.clone(),
            cgroup: (!self.host.cgroup.is_empty()).then(|| CgroupPlan {
                controllers: self.host.cgroup.clone(),
                memory_bytes: 64 << 20,
                tasks: 8,
                io_bytes: 1 << 30,
                cpu_percent: 0,
            }),
            container: None,
            limits: Limits::default(),
            scratch: ScratchPlan::Tmpfs { noswap: self.host.tmpfs_noswap },
            scratch_bytes: 4 << 20,
            swap: self.host.swap,
            compile_address_space: 1 << 30,
            deadline_ms: 20_000,
            network: false,
        }
    }

    fn jail(&self, plan: &IsolationPlan) -> PathBuf {
        self.config.jails.join(format!("{}-{}", plan.job, plan.attempt))
    }

    fn ciphertext(&self, plan: &IsolationPlan) -> PathBuf {
        self.config.scratch.join(format!("{}-{}", plan.job, plan.attempt))
    }

    fn has(&self, kind: Namespace) -> bool {
        self.host.namespaces.contains(&kind)
    }

    fn start_job(&self, plan: &IsolationPlan, command: &str) -> Result<(Launched, std::io::PipeReader), LaunchError> {
        let (job_read, mut job_write) = std::io::pipe().unwrap();
        let (events_read, events_write) = std::io::pipe().unwrap();
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let fds = EngineDescriptors {
            job: job_read.into(),
            events: events_write.into(),
            payload: null(),
            output: null(),
            logs: null(),
            module: None,
        };
        job_write.write_all(command.as_bytes()).unwrap();
        drop(job_write);
        self.launcher.launch(plan, fds).map(|launched| (launched, events_read))
    }

    fn run(&self, plan: &IsolationPlan, command: &str) -> (BTreeMap<String, String>, Exit) {
        let (launched, mut events) = self.start_job(plan, command).unwrap();
        assert_eq!(launched.given.namespaces, plan.namespaces);
        assert_eq!(launched.given.swap, self.host.swap);
        let mut text = String::new();
        events.read_to_string(&mut text).unwrap();
        let exit = launched.exit.blocking_recv().unwrap();
        self.assert_nothing_left(plan);
        let pairs = text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
        (pairs.collect(), exit)
    }

    fn assert_nothing_left(&self, plan: &IsolationPlan) {
        assert_eq!(self.launcher.inspect(plan.job, plan.attempt).unwrap(), Leftovers::default());
    }
}

fn surroundings(world: &World) {
    let plan = world.plan(0);
    let (found, exit) = world.run(&plan, "report");
    assert_eq!(exit.code, Some(0), "{found:?} {exit:?}");
    let is = |name: &str, value: &str| assert_eq!(found[name], value, "{name}: {found:?}");
    is("descriptors", "0 1 2 3 4 5 6 7");
    is("environment", "");
    is("no-new-privileges", "1");
    is("capabilities", "0");
    is("core", "1");
    is("dumped", "false");
    is("syslog", "false");

    is("umask", "77");
    is("leader", "true");
    if world.host.own_users {
        let UserPlan::Own { uid } = plan.user else { panic!() };
        is("uid", &uid.to_string());
        is("gid", &uid.to_string());
        is("groups", "0");
        is("become-root", "false");
    }
    if world.has(Namespace::Pid) {
        is("pid", "1");
    }
    if world.has(Namespace::Uts) {
        is("host", "job");
    }
    if world.has(Namespace::Net) {
        is("network", "false");
    }
    if !world.has(Namespace::Mount) {
        println!("no mount namespace: the file tree is not asserted");
        return;
    }
    let root: Vec<&str> = found["root"].split(' ').collect();
    let allowed = ["engine", "lib", "lib64", "nix", "scratch", "usr"];
    assert!(root.iter().all(|name| allowed.contains(name)), "{root:?}");
    is("write-root", "false");
    is("write-library", "false");
    is("write-scratch", "true");
    is("writable", "/scratch");
    is("passwd", "false");
    is("scratch-full", "true");
    is("mount", "false");
}

fn exit_code(world: &World) {
    let (_, exit) = world.run(&world.plan(0), "exit");
    assert_eq!((exit.code, exit.signal, exit.deadline), (Some(7), None, false));
}

fn killed(world: &World) {
    let plan = world.plan(0);
    let (launched, _events) = world.start_job(&plan, "hang").unwrap();
    let left = world.launcher.inspect(plan.job, plan.attempt).unwrap();
    assert!(left.processes, "a job that lives is seen");
    assert_eq!(left.cgroup, plan.cgroup.is_some());
    assert_eq!((left.mounts, left.scratch), (world.has(Namespace::Mount), true));
    world.launcher.kill(plan.job, plan.attempt).unwrap();
    let exit = launched.exit.blocking_recv().unwrap();
    assert_eq!((exit.code, exit.signal, exit.deadline), (None, Some(libc::SIGKILL), false));
    world.assert_nothing_left(&plan);
}

fn deadline(world: &World) {
    let mut plan = world.plan(0);
    plan.deadline_ms = 300;
    let (_, exit) = world.run(&plan, "hang");
    assert_eq!((exit.signal, exit.deadline), (Some(libc::SIGKILL), true));
}

fn memory(world: &World) {
    if !world.host.cgroup.iter().any(|c| c == "memory") {
        println!("no memory controller: not asserted");
        return;
    }
    let (_, exit) = world.run(&world.plan(0), "memory");
    assert!(exit.out_of_memory && exit.signal == Some(libc::SIGKILL), "{exit:?}");
    assert!(exit.memory_bytes <= 64 << 20 && exit.memory_bytes > 32 << 20, "{exit:?}");
}

fn forks(world: &World) {
    let plan = world.plan(0);
    let (found, _) = world.run(&plan, "fork");
    let made: u32 = found["forks"].parse().unwrap();
    if world.host.own_users || world.host.cgroup.iter().any(|c| c == "pids") {
        assert!(made < 16, "{made} forks");
    } else {
        println!("no pids controller and no own user: only the end of all forks is asserted");
    }
}

fn two_jobs(world: &World) {
    let (first, second) = (world.plan(0), world.plan(1));
    let (launched, _events) = world.start_job(&first, "hang").unwrap();
    let (found, _) = world.run(&second, "report");
    if world.has(Namespace::Pid) {
        assert_eq!(found["signal-2"], "false", "there is no other process to signal");
    }
    world.launcher.kill(first.job, first.attempt).unwrap();
    launched.exit.blocking_recv().unwrap();
    world.assert_nothing_left(&first);
}

fn refused_plans(world: &World) {
    let refused = |change: &dyn Fn(&mut IsolationPlan)| {
        let mut plan = world.plan(0);
        change(&mut plan);
        match world.start_job(&plan, "exit") {
            Err(LaunchError::Refused(why)) => why,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a bad plan was carried out"),
        }
    };
    refused(&|p| p.network = true);
    refused(&|p| p.deadline_ms = u64::MAX);
    refused(&|p| p.limits.memory_bytes = u64::MAX);
    refused(&|p| p.scratch_bytes = u64::MAX);
    refused(&|p| p.user = UserPlan::Own { uid: 0 });
    refused(&|p| p.user = UserPlan::Own { uid: 1 });
    refused(&|p| p.namespaces.push(Namespace::User));
    if world.host.own_users {
        refused(&|p| p.user = UserPlan::Shared);
        refused(&|p| p.namespaces.clear());
        refused(&|p| p.cgroup = None);
        let live = world.plan(0);
        let (launched, _events) = world.start_job(&live, "hang").unwrap();
        assert!(refused(&|p| p.user = live.user).contains("another job"));
        assert!(
            refused(&|p| (p.job, p.user) = (live.job, UserPlan::Own { uid: world.config.first_uid + 1 }))
                .contains("already")
        );
        world.launcher.kill(live.job, live.attempt).unwrap();
        launched.exit.blocking_recv().unwrap();
    } else {
        println!("not root: refusals about users of their own are not asserted");
    }
}

fn threads(world: &World) {
    // The reader of the first launcher's answers is a thread.
    assert!(matches!(Launcher::fork(world.config.clone()), Err(LaunchError::Threads)));
}

fn kill_unknown(world: &World) {
    let plan = world.plan(0);
    assert!(matches!(world.launcher.kill(plan.job, plan.attempt), Err(LaunchError::Refused(_))));
}

/// A second node, made by running this program again, is killed while its job runs.
fn node_killed(world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let mut node = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("doomed")
        .arg(folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(node.stdout.take().unwrap()), &mut line).unwrap();
    let mut words = line.split_whitespace();
    let (pid, job): (i32, JobId) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
    let process = format!("/proc/{pid}");
    assert!(Path::new(&process).exists(), "it runs before its node dies");
    node.kill().unwrap();
    node.wait().unwrap();
    for _ in 0..500 {
        let left = world.launcher.inspect(job, Attempt(1)).unwrap();
        let jails = fs::read_dir(folder.path().join("jails")).into_iter().flatten().count();
        if left == Leftovers::default() && jails == 0 && !Path::new(&process).exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("something outlived the node");
}

/// That node.
fn doomed(folder: &Path) {
    let world = World::start_in(folder, &std::env::current_exe().unwrap());
    let plan = world.plan(1);
    let (launched, _events) = world.start_job(&plan, "hang").unwrap();
    println!("{} {}", launched.pid, plan.job);
    let _ = launched.exit.blocking_recv();
}

fn no_holes(world: &World) {
    let folder = world.config.jails.parent().unwrap().join("holes");
    run_again(&["holes", folder.to_str().unwrap()]);
}

/// Launchers of a node that are to leave something out: they serve nothing, and make nothing.
fn holes(folder: &Path) {
    let config = config_in(folder, &std::env::current_exe().unwrap());
    let fork = |hole: &Hole| Launcher::fork(LauncherConfig { holes: vec![*hole], ..config.clone() }).unwrap();
    // All of them before the first is talked to, which takes a thread.
    let launchers: Vec<Launcher> = Hole::ALL.iter().map(fork).collect();
    for (launcher, hole) in launchers.into_iter().zip(Hole::ALL) {
        let Err(error) = launcher.connect().unwrap().probe() else { panic!("a node left out {}", hole.as_str()) };
        assert!(error.to_string().contains("leaves no mechanism out"), "{error}");
    }
    assert!(!folder.exists());
}

/// The launcher itself is killed: the kernel ends its engines. Its control groups stay.
fn launcher_killed(world: &World) {
    let mut ended = world.launcher.ended();
    assert!(!*ended.borrow_and_update());
    let plan = if world.host.encrypted_scratch { leftovers::encrypted_plan(world, 1) } else { world.plan(1) };
    let (launched, mut events) = world.start_job(&plan, "hang").unwrap();
    let parent = leftovers::parent_of(launched.pid);
    // SAFETY: the process is the launcher that this test started.
    assert_eq!(unsafe { libc::kill(parent, libc::SIGKILL) }, 0);
    events.read_to_string(&mut String::new()).unwrap();
    assert!(launched.exit.blocking_recv().is_err(), "nobody can tell how it ended");
    assert!(matches!(world.launcher.probe(), Err(LaunchError::Ended | LaunchError::Socket(_))));
    while !*ended.borrow_and_update() {
        std::thread::yield_now();
    }
    assert!(world.jail(&plan).exists(), "nobody was there to remove it");
    assert_eq!(world.ciphertext(&plan).exists(), world.host.encrypted_scratch);
    let stray = world.host.own_users.then(|| leftovers::start_stray(world.config.first_uid + 1, true));
    let stray = stray.map(|mut stray| std::thread::spawn(move || stray.wait().unwrap()));
    let folder = world.config.jails.parent().unwrap().to_str().unwrap();
    run_again(&["successor", folder, &plan.job.to_string()]);
    assert!(stray.is_none_or(|stray| !stray.join().unwrap().success()), "what could add to the scratch was ended");
}

/// The next launcher of that node.
fn successor(folder: &Path, job: JobId) {
    let world = World::start_in(folder, &std::env::current_exe().unwrap());
    let mut plan = world.plan(1);
    plan.job = job;
    if world.host.encrypted_scratch {
        assert!(!world.ciphertext(&plan).exists(), "it was removed before it was asked for");
        world.run(&world.plan(1), "exit");
    }
    assert_eq!(world.launcher.remove(&plan).unwrap(), Leftovers::default());
    assert_eq!(world.launcher.inspect(job, Attempt(1)).unwrap(), Leftovers::default());
    assert_eq!(fs::read_dir(&world.config.jails).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&world.config.scratch).into_iter().flatten().count(), 0);
}

fn blocked_user(world: &World) {
    if !world.host.own_users {
        println!("not root: not asserted");
        return;
    }
    let first = world.plan(0);
    let (launched, _events) = world.start_job(&first, "hang").unwrap();
    let obstacle = world.jail(&first).join("x");
    fs::write(&obstacle, "").unwrap();
    world.launcher.kill(first.job, first.attempt).unwrap();
    launched.exit.blocking_recv().unwrap();
    assert!(world.launcher.inspect(first.job, first.attempt).unwrap().scratch);
    match world.start_job(&world.plan(0), "exit") {
        Err(LaunchError::Refused(why)) => assert!(why.contains("left"), "{why}"),
        other => panic!("{other:?}"),
    }
    world.run(&world.plan(1), "exit");
    fs::remove_file(obstacle).unwrap();
    world.run(&world.plan(0), "exit");
    world.assert_nothing_left(&first);
}

fn fails_late(_: &World) {
    let folder = tempfile::tempdir().unwrap();
    run_again(&["unstartable", folder.path().to_str().unwrap()]);
}

/// A node whose engine is no program, which shows only when all else is in place.
fn unstartable(folder: &Path) {
    let engine = folder.join("engine");
    fs::write(&engine, "no program").unwrap();
    fs::set_permissions(&engine, PermissionsExt::from_mode(0o755)).unwrap();
    let world = World::start_in(folder, &engine);
    // The second try shows that the first did not block the user.
    for _ in 0..2 {
        let plan = world.plan(0);
        match world.start_job(&plan, "exit") {
            Err(LaunchError::Failed(why)) => assert!(why.starts_with("starting the program"), "{why}"),
            other => panic!("{other:?}"),
        }
        world.assert_nothing_left(&plan);
        assert_eq!(fs::read_dir(&world.config.jails).unwrap().count(), 0);
    }
}

/// This very program, in another role; a launcher cannot be forked where threads are.
fn run_again(arguments: &[&str]) {
    let status = std::process::Command::new(std::env::current_exe().unwrap()).args(arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

/// What this program does as an engine.
fn engine() {
    // SAFETY: the protocol gives these two descriptors.
    let (mut job, mut events) = unsafe { (File::from_raw_fd(3), File::from_raw_fd(4)) };
    // Before anything is opened by this program itself.
    // SAFETY: only asks.
    let open: Vec<String> =
        (0..512).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0).map(|fd| fd.to_string()).collect();
    let mut command = String::new();
    job.read_to_string(&mut command).unwrap();
    match command.as_str() {
        "report" => report::report(&mut events, &open.join(" ")),
        "exit" => std::process::exit(7),
        "ask" | "break" | "gone" | "silent" | "stay" => containers::engine(&command, &mut events),
        "store" => store(&mut events, 1),
        "overfill" => store(&mut events, 8),
        "memory" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
            }
        }
        "fork" => {
            let mut made = 0;
            for _ in 0..100 {
                // SAFETY: the child only waits to be killed.
                match unsafe { libc::fork() } {
                    0 => loop {
                        // SAFETY: waits for a signal.
                        unsafe { libc::pause() };
                    },
                    -1 => break,
                    _ => made += 1,
                }
            }
            writeln!(events, "forks={made}").unwrap();
        }
        _ => loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        },
    }
}

/// Writes files of 4 MiB each, says so and waits.
fn store(events: &mut File, files: u32) {
    let text = leftovers::SECRET.repeat((4 << 20) / leftovers::SECRET.len());
    for number in 0..files {
        let folder = Path::new("/scratch").join(format!("{}{number}", leftovers::SECRET));
        fs::create_dir(&folder).unwrap();
        let mut file = File::create(folder.join(leftovers::SECRET)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
        assert_eq!(fs::read_to_string(folder.join(leftovers::SECRET)).unwrap(), text);
    }
    writeln!(events, "stored").unwrap();
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}
