//! What stays, is held, or is made where it should not be; and the scratch that lies on disk.

use super::World;
use decores_launcher::{LaunchError, Launched, Leftovers};
use decores_sandbox::{IsolationPlan, ScratchPlan, UserPlan};
use decores_types::Scratch;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a job's files and their names are full of.
pub(crate) const SECRET: &str = "a-planted-secret-of-the-consumer";

/// A plan whose scratch is larger than its memory.
pub(crate) fn encrypted_plan(world: &World, slot: u32) -> IsolationPlan {
    let mut plan = world.plan(slot);
    plan.limits.scratch_bytes = plan.limits.memory_bytes + 1;
    plan.scratch = ScratchPlan::Encrypted;
    plan.scratch_bytes = 8 << 20;
    if let Some(cgroup) = &mut plan.cgroup {
        (cgroup.memory_bytes, cgroup.tasks) = (256 << 20, 64);
    }
    plan
}

/// Whether there is one to be tested; where it is installed, and there are devices and rights, there must be.
fn has_encrypted(world: &World) -> bool {
    let installed = Path::new("/usr/bin/gocryptfs").exists() && Path::new("/dev/fuse").exists();
    assert!(world.host.encrypted_scratch || !installed || !world.host.own_users, "gocryptfs is there and not used");
    if !world.host.encrypted_scratch {
        println!("no gocryptfs, or no right to mount: encrypted scratches are not asserted");
    }
    world.host.encrypted_scratch
}

/// Starts an engine that stores files, and waits until it has.
fn storing(world: &World, plan: &IsolationPlan) -> (Launched, impl Read) {
    let (launched, events) = world.start_job(plan, "store").unwrap();
    assert_eq!(launched.given.scratch, Scratch::EncryptedFile);
    let mut events = BufReader::new(events);
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    assert_eq!(line, "stored\n");
    (launched, events)
}

fn status(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default().trim().to_owned()
}

pub(crate) fn parent_of(pid: i32) -> i32 {
    status(pid, "PPid:").parse().unwrap()
}

/// The server beside an engine: another child of its launcher's.
fn server_of(engine: i32) -> i32 {
    let launcher = parent_of(engine).to_string();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let mut theirs = all.filter(|pid| *pid != engine && status(*pid, "PPid:") == launcher);
    let server = theirs.next().expect("a server");
    assert_eq!(theirs.next(), None, "one server");
    server
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], files_below(&path)].concat() } else { vec![path] })
        .collect()
}

pub(crate) fn encrypted(world: &World) {
    if !has_encrypted(world) {
        return;
    }
    let plan = encrypted_plan(world, 0);
    let (launched, _events) = storing(world, &plan);
    let files = files_below(&world.ciphertext(&plan));
    assert_eq!(files.len(), 2, "a folder, a file, and no place for a key: {files:?}");
    let bytes: Vec<u8> = files.iter().filter(|f| f.is_file()).flat_map(|f| fs::read(f).unwrap()).collect();
    assert!(bytes.len() > 4 << 20, "it lies on disk");
    let part = &SECRET.as_bytes()[..8];
    assert!(!bytes.windows(part.len()).any(|w| w == part), "and cannot be read there");
    assert!(!files.iter().any(|f| f.to_str().unwrap().contains("planted")), "names neither");
    let ours = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!ours.contains(&plan.job.to_string()), "it is mounted nowhere on the host");

    let server = server_of(launched.pid);
    if let UserPlan::Own { uid } = plan.user {
        assert!(status(server, "Uid:").split_whitespace().all(|id| id == uid.to_string()));
        assert!(fs::read_dir(format!("/proc/{}/root/scratch", launched.pid)).is_err(), "root is not let in");
    }
    assert_eq!(status(server, "CapEff:"), "0000000000000000");
    assert_eq!(status(server, "NoNewPrivs:"), "1");
    let read = |file: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{server}/{file}")).unwrap()).into_owned();
    assert!(read("limits").lines().any(|l| l.starts_with("Max core file size") && l.contains(" 1 ")));
    assert_eq!(read("environ"), "GOMAXPROCS=2\0");
    assert!(!read("cmdline").split('\0').any(|word| word.len() > 32), "no key: {}", read("cmdline"));
    assert!(read("oom_score_adj").trim().parse::<i32>().unwrap() >= 900);
    if plan.cgroup.is_some() {
        assert!(read("cgroup").contains(&plan.job.to_string()), "what it takes counts as the job's");
    }
    world.launcher.kill(plan.job, plan.attempt).unwrap();
    launched.exit.blocking_recv().unwrap();
    world.assert_nothing_left(&plan);
    assert!(!world.ciphertext(&plan).exists() && !Path::new(&format!("/proc/{server}")).exists());
}

pub(crate) fn server_killed(world: &World) {
    if !has_encrypted(world) {
        return;
    }
    let plan = encrypted_plan(world, 0);
    let (launched, _events) = storing(world, &plan);
    // SAFETY: the process belongs to a launcher of this test's.
    assert_eq!(unsafe { libc::kill(server_of(launched.pid), libc::SIGKILL) }, 0);
    let exit = launched.exit.blocking_recv().unwrap();
    assert_eq!((exit.code, exit.signal, exit.deadline), (None, Some(libc::SIGKILL), false));
    world.assert_nothing_left(&plan);
}

pub(crate) fn overfilled(world: &World) {
    if !has_encrypted(world) {
        return;
    }
    let plan = encrypted_plan(world, 0);
    let (_, exit) = world.run(&plan, "overfill");
    assert_eq!((exit.code, exit.signal, exit.deadline), (None, Some(libc::SIGKILL), false));
}

/// Holds the mount namespace of a process until its own input ends.
pub(crate) fn squat(process: &str) {
    let namespace = File::open(format!("/proc/{process}/ns/mnt")).unwrap();
    // SAFETY: takes a descriptor that is open, and a flag.
    assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }, 0);
    println!("in");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

struct Squatter(Child);

impl Squatter {
    fn start(process: i32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["squat", &process.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "in\n");
        Self(child)
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

fn assert_blocked(world: &World, slot: u32) {
    match world.start_job(&world.plan(slot), "exit") {
        Err(LaunchError::Refused(why)) => assert!(why.contains("left"), "{why}"),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn held_mount(world: &World) {
    if !world.host.own_users {
        println!("not root: nobody can hold a job's mounts, not asserted");
        return;
    }
    let mut plans = vec![world.plan(0)];
    plans.extend(has_encrypted(world).then(|| encrypted_plan(world, 0)));
    for plan in plans {
        let (launched, _events) = world.start_job(&plan, "hang").unwrap();
        let squatter = Squatter::start(launched.pid);
        world.launcher.kill(plan.job, plan.attempt).unwrap();
        launched.exit.blocking_recv().unwrap();
        let held = Leftovers { mounts: true, ..Leftovers::default() };
        assert_eq!(world.launcher.inspect(plan.job, plan.attempt).unwrap(), held);
        assert_eq!(world.launcher.remove(&plan).unwrap(), held);
        assert_blocked(world, 0);
        squatter.end();
        assert_eq!(world.launcher.remove(&plan).unwrap(), Leftovers::default());
        world.run(&world.plan(0), "exit");
    }
}

pub(crate) fn immutable(world: &World) {
    if !world.host.own_users {
        println!("not root: nothing can be made immutable, not asserted");
        return;
    }
    let folders: &[fn(&World, &IsolationPlan) -> PathBuf] = &[World::jail, World::ciphertext];
    for (number, folder) in folders.iter().enumerate() {
        if number == 1 && !has_encrypted(world) {
            continue;
        }
        let plan = if number == 0 { world.plan(0) } else { encrypted_plan(world, 0) };
        let (launched, _events) = world.start_job(&plan, "hang").unwrap();
        let file = folder(world, &plan).join("stuck");
        fs::write(&file, "").unwrap();
        let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(&file).status().is_ok_and(|s| s.success());
        let stuck = chattr("+i");
        world.launcher.kill(plan.job, plan.attempt).unwrap();
        launched.exit.blocking_recv().unwrap();
        if stuck {
            let left = Leftovers { scratch: true, ..Leftovers::default() };
            assert_eq!(world.launcher.inspect(plan.job, plan.attempt).unwrap(), left);
            assert_eq!(world.launcher.remove(&plan).unwrap(), left);
            assert_blocked(world, 0);
            assert!(chattr("-i"));
        } else {
            println!("no chattr, or a file system without: immutable files are not asserted");
        }
        // What lies in a jail's folder is nobody's of ours; it is never removed.
        if number == 0 {
            fs::remove_file(&file).unwrap();
        }
        assert_eq!(world.launcher.remove(&plan).unwrap(), Leftovers::default());
        world.run(&world.plan(0), "exit");
    }
}

/// As a launcher that was started in another session, and killed, would leave it.
pub(crate) fn elsewhere(world: &World) {
    let Some(pids) = own_group("pids").filter(|_| world.host.cgroup.iter().any(|c| c == "pids")) else {
        println!("no pids controller of version 1: groups of other sessions are not asserted");
        return;
    };
    let plan = world.plan(0);
    let session = pids.join(format!("session-{}", std::process::id()));
    let group = session.join("decores").join(format!("{}-{}", plan.job, plan.attempt));
    fs::create_dir_all(&group).unwrap();
    let mut left = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(group.join("cgroup.procs"), left.id().to_string()).unwrap();
    let found = world.launcher.inspect(plan.job, plan.attempt).unwrap();
    assert_eq!(found, Leftovers { processes: true, cgroup: true, ..Leftovers::default() });
    assert_eq!(world.launcher.remove(&plan).unwrap(), Leftovers::default());
    assert!(!left.wait().unwrap().success() && !group.exists());
    fs::remove_dir(session.join("decores")).unwrap();
    fs::remove_dir(session).unwrap();
}

/// This process's own group of a version 1 controller.
fn own_group(controller: &str) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let line =
        own.lines().find(|l| l.split(':').nth(1).is_some_and(|names| names.split(',').any(|n| n == controller)))?;
    let folder = Path::new("/sys/fs/cgroup").join(controller).join(line.splitn(3, ':').nth(2)?.trim_start_matches('/'));
    folder.is_dir().then_some(folder)
}

pub(crate) fn memory_exhaustion(world: &World) {
    let plan = world.plan(0);
    let (launched, _events) = world.start_job(&plan, "hang").unwrap();
    let score =
        |pid: &str| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse::<i32>().unwrap();
    assert!(score(&launched.pid.to_string()) >= 900);
    assert!(score(&parent_of(launched.pid).to_string()) < 900, "the launcher is none of them");
    world.launcher.kill(plan.job, plan.attempt).unwrap();
    launched.exit.blocking_recv().unwrap();
}

pub(crate) fn remove_live(world: &World) {
    let plan = world.plan(0);
    let (launched, _events) = world.start_job(&plan, "hang").unwrap();
    assert!(matches!(world.launcher.remove(&plan), Err(LaunchError::Refused(why)) if why.contains("running")));
    assert!(world.launcher.inspect(plan.job, plan.attempt).unwrap().processes, "and runs on");
    world.launcher.kill(plan.job, plan.attempt).unwrap();
    launched.exit.blocking_recv().unwrap();
    if !world.host.own_users {
        println!("not root: processes of other users are not asserted");
        return;
    }
    // Two nodes may have the same users: what another attempt runs is its own.
    let (former, other) = (world.plan(0), world.plan(0));
    let (launched, _events) = world.start_job(&other, "hang").unwrap();
    assert_eq!(world.launcher.remove(&former).unwrap(), Leftovers::default());
    assert!(world.launcher.inspect(other.job, other.attempt).unwrap().processes, "and runs on");
    world.launcher.kill(other.job, other.attempt).unwrap();
    launched.exit.blocking_recv().unwrap();
    // A user outside the range is none of the launcher's business, whatever a plan says.
    let mut foreign = world.plan(0);
    foreign.user = UserPlan::Own { uid: 1 };
    let mut bystander = Command::new("sleep").arg("1000").uid(1).spawn().unwrap();
    assert!(world.launcher.remove(&foreign).unwrap().processes, "seen");
    assert_eq!(bystander.try_wait().unwrap(), None, "and not ended");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    // What a job's own user left outside every group is, whatever it calls itself and whichever thread goes on.
    for headless in [false, true] {
        let mut escaped = start_stray(world.config.first_uid, headless);
        assert_blocked(world, 0);
        let ended = std::thread::spawn(move || escaped.wait().unwrap());
        assert_eq!(world.launcher.remove(&plan).unwrap(), Leftovers::default());
        assert!(!ended.join().unwrap().success());
    }
}

/// A process outside every group, as this user.
pub(crate) fn start_stray(uid: u32, headless: bool) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["stray", &uid.to_string(), &headless.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "astray\n");
    child
}

/// Goes on as this user under a name that is no text, without its first thread if that is wanted.
pub(crate) fn stray(uid: u32, headless: bool) {
    // SAFETY: a live C string, and numbers.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NAME, c"\xff\xfe".as_ptr()), 0);
        assert_eq!((libc::setresgid(uid, uid, uid), libc::setresuid(uid, uid, uid)), (0, 0));
        // It does not outlive a test that fails.
        assert_eq!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), 0);
    }
    assert!(fs::read("/proc/self/status").unwrap().starts_with(b"Name:\t\xff\xfe\n"));
    let other = std::thread::spawn(move || {
        let ended = || String::from_utf8_lossy(&fs::read("/proc/self/status").unwrap()).contains("zombie");
        while headless && !ended() {
            std::thread::yield_now();
        }
        println!("astray");
        loop {
            std::thread::park();
        }
    });
    if headless {
        // SAFETY: ends this thread alone; what it owns, nobody else uses.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    let _ = other.join();
}
