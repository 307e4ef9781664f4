//! A container's helper, with this very program as the helper: it tells the engine what it finds around itself.

use super::World;
use decores_launcher::{Containers, LaunchError, Leftovers};
use decores_sandbox::container::{FD_ENGINE, FD_REPORT, FD_RUNNER, FD_SCRATCH, FD_TASK, RANGE, RunTask};
use decores_sandbox::plan::CgroupPlan;
use decores_sandbox::{ContainerPlan, IdRange, IsolationPlan, Namespace, Runtime, SandboxConfig, UserPlan};
use decores_types::Protection;
use decores_types::job::EngineKind;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What this program says as a helper.
const REPORT: &str = concat!(
    r#"{"runtime":"runc","version":"7","namespaces":["net"],"seccomp":true,"powerless":true,"#,
    r#""ownIds":true,"cgroup":["pids"]}"#
);

pub(crate) fn containers() -> Containers {
    let first_range = SandboxConfig::default().first_range + 100 * RANGE;
    Containers { runtime: Runtime::Runc, helper: std::env::current_exe().unwrap(), first_range }
}

/// `probe-container`: the trial.
pub(crate) fn trial() {
    println!("{{\"report\":{REPORT}}}");
}

fn plan(world: &World, slot: u32) -> IsolationPlan {
    let plan = world.plan(slot);
    let first = containers().first_range + slot * RANGE;
    let cgroup = plan.cgroup.as_ref().map(|cgroup| CgroupPlan {
        memory_bytes: 96 << 20,
        tasks: 20,
        cpu_percent: 100,
        ..cgroup.clone()
    });
    IsolationPlan {
        engine: EngineKind::Container,
        protection: Protection::Container,
        container: Some(ContainerPlan {
            runtime: Runtime::Runc,
            ids: world.host.own_users.then_some(IdRange { first, count: RANGE }),
            cgroup,
        }),
        ..plan
    }
}

/// Where there is no mount namespace there are no containers.
fn has_containers(world: &World) -> bool {
    assert_eq!(world.host.container.as_ref().map(|container| container.version.as_str()), Some("7"));
    if !world.has(Namespace::Mount) {
        println!("no mount namespace: containers are not asserted");
    }
    world.has(Namespace::Mount)
}

pub(crate) fn surroundings(world: &World) {
    if !has_containers(world) {
        return;
    }
    let plan = plan(world, 1);
    let (found, exit) = world.run(&plan, "ask");
    assert_eq!(exit.code, Some(0), "{found:?} {exit:?}");
    let is = |name: &str, value: &str| assert_eq!(found[name], value, "{name}: {found:?}");
    is("engine-descriptors", "0 1 2 3 4 5 6 7 8");
    is("engine-scratch", "noexec");
    is("descriptors", "0 1 2 3 4 5 6");
    is("environment", "PATH");
    is("pid", "1");
    is("host", "job");
    is("uid", "0");
    is("may-mount", "true");
    is("interfaces", "lo");
    is("processes", "1");
    is("from-engine", "hello");
    is("scratch", "exec");
    is("from-helper", "hello again");
    let name = format!("{}-{}", plan.job, plan.attempt);
    is("name", &name);
    if let UserPlan::Own { uid } = plan.user {
        is("task-uid", &uid.to_string());
        is("task-ids", &format!("{:?}", plan.container.as_ref().unwrap().ids));
    }
    assert_eq!(exit.container.unwrap().version, "7");
}

/// The groups of a name, wherever they lie.
fn groups(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let mounts = mounts.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    mounts.map(|mount| mount.join("decores").join(name)).filter(|group| group.exists()).collect()
}

pub(crate) fn engine_killed(world: &World) {
    if !has_containers(world) {
        return;
    }
    let plan = plan(world, 1);
    let (launched, events) = world.start_job(&plan, "stay").unwrap();
    let line = BufReader::new(events).lines().map(Result::unwrap).find(|line| line.starts_with("staying="));
    assert_eq!(line.unwrap(), "staying=2", "the helper and its child");
    let name = format!("{}-{}.container", plan.job, plan.attempt);
    if world.host.own_users {
        // As a runtime may: in hierarchies that no limit of ours is in.
        for other in ["devices", "freezer", "systemd", "unified"] {
            let mount = Path::new("/sys/fs/cgroup").join(other);
            if mount.is_dir() {
                fs::create_dir_all(mount.join("decores").join(&name).join("below")).unwrap();
            }
        }
        let left = world.launcher.inspect(plan.job, plan.attempt).unwrap();
        assert!(left.cgroup && left.processes);
    }
    world.launcher.kill(plan.job, plan.attempt).unwrap();
    launched.exit.blocking_recv().unwrap();
    world.assert_nothing_left(&plan);
    assert_eq!(groups(&name), Vec::<PathBuf>::new());
    for other in ["devices", "freezer", "systemd", "unified"] {
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(other).join("decores"));
    }
}

pub(crate) fn helper_gone(world: &World) {
    if has_containers(world) {
        let (found, exit) = world.run(&plan(world, 1), "gone");
        assert_eq!((found["socket"].as_str(), exit.code), ("ended", Some(3)));
        assert!(exit.container.is_some(), "it was told before");
    }
}

pub(crate) fn unreported(world: &World) {
    if has_containers(world) {
        for command in ["break", "silent"] {
            let (_, exit) = world.run(&plan(world, 1), command);
            assert_eq!((exit.code, exit.container), (Some(3), None), "{command}");
        }
    }
}

pub(crate) fn refused(world: &World) {
    if !has_containers(world) {
        return;
    }
    let refuse = |change: &dyn Fn(&mut IsolationPlan)| {
        let mut plan = plan(world, 1);
        change(&mut plan);
        match world.start_job(&plan, "ask") {
            Err(LaunchError::Refused(why)) => {
                assert_eq!(world.launcher.inspect(plan.job, plan.attempt).unwrap(), Leftovers::default());
                why
            }
            other => panic!("{other:?}"),
        }
    };
    let of = |plan: &mut IsolationPlan| plan.container.clone().unwrap();
    assert!(refuse(&|p| p.container = None).contains("container"));
    assert!(refuse(&|p| p.engine = EngineKind::Wasm).contains("container"));
    assert!(refuse(&|p| p.container = Some(ContainerPlan { runtime: Runtime::Kata, ..of(p) })).contains("kata"));
    let everybody = Some(IdRange { first: 0, count: RANGE });
    assert!(refuse(&|p| p.container = Some(ContainerPlan { ids: everybody, ..of(p) })).contains("ids"));
}

/// What this program does as the engine of a container.
pub(crate) fn engine(command: &str, events: &mut File) {
    let open = open_descriptors();
    writeln!(events, "engine-descriptors={open}").unwrap();
    writeln!(events, "engine-scratch={}", if flags_of("/scratch").contains("noexec") { "noexec" } else { "exec" })
        .unwrap();
    fs::write("/scratch/from-engine", "hello").unwrap();
    // SAFETY: the protocol gives this descriptor.
    let mut runner = unsafe { File::from_raw_fd(FD_RUNNER) };
    writeln!(runner, "{command}").unwrap();
    let mut answer = String::new();
    if command == "stay" {
        BufReader::new(&runner).read_line(&mut answer).unwrap();
        events.write_all(answer.as_bytes()).unwrap();
        loop {
            std::thread::park();
        }
    }
    runner.read_to_string(&mut answer).unwrap();
    events.write_all(answer.as_bytes()).unwrap();
    match fs::read_to_string("/scratch/from-helper") {
        Ok(text) => writeln!(events, "from-helper={text}").unwrap(),
        Err(_) => {
            writeln!(events, "socket=ended").unwrap();
            std::process::exit(3)
        }
    }
}

/// Numbers of the descriptors that are open.
fn open_descriptors() -> String {
    // SAFETY: only asks.
    let open = (0..512).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
    // The engine's own are files of this program by now, but not closed.
    open.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")
}

/// The flags of the mount that a path lies on.
fn flags_of(path: &str) -> String {
    let path = std::ffi::CString::new(path).unwrap();
    // SAFETY: all-zero is a valid `statvfs`; the path is a live C string.
    let flags = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(path.as_ptr(), &raw mut found), 0);
        found.f_flag
    };
    [(libc::ST_NOEXEC, "noexec"), (libc::ST_NODEV, "nodev"), (libc::ST_NOSUID, "nosuid")]
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What this program does as a helper.
pub(crate) fn helper() {
    let open = open_descriptors();
    // SAFETY: the protocol gives these descriptors.
    let (mut task, mut engine, mut report) =
        unsafe { (File::from_raw_fd(FD_TASK), File::from_raw_fd(FD_ENGINE), File::from_raw_fd(FD_REPORT)) };
    let mut bytes = Vec::new();
    task.read_to_end(&mut bytes).unwrap();
    let task = RunTask::parse(&bytes).unwrap();
    let mut command = String::new();
    BufReader::new(engine.try_clone().unwrap()).read_line(&mut command).unwrap();
    match command.trim() {
        "ask" => {
            writeln!(report, "{REPORT}").unwrap();
            let found = look(&task, &open);
            found.iter().for_each(|(name, value)| writeln!(engine, "{name}={value}").unwrap());
        }
        "gone" => writeln!(report, "{REPORT}").unwrap(),
        "break" => writeln!(report, "{{\"runtime\":\"docker\"}}").unwrap(),
        "stay" => {
            // SAFETY: the child only waits to be ended.
            let child = unsafe { libc::fork() };
            if child > 0 {
                writeln!(engine, "staying={child}").unwrap();
            }
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        _ => {}
    }
}

fn look(task: &RunTask, open: &str) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    found.insert("descriptors", open.to_owned());
    let environment: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    found.insert("environment", environment.join(" "));
    found.insert("pid", std::process::id().to_string());
    found.insert("host", fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned());
    found.insert("name", task.name.clone());
    found.insert("task-uid", task.uid.to_string());
    found.insert("task-ids", format!("{:?}", task.ids));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let named = format!("decores/{}.container", task.name);
    assert!(task.cgroup.is_empty() || groups.contains(&named), "{groups}");
    // SAFETY: every pointer is to a live C string or null, the rest are numbers.
    let (uid, mounted, moved) = unsafe {
        (
            libc::getuid(),
            libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, std::ptr::null()),
            libc::syscall(
                libc::SYS_move_mount,
                FD_SCRATCH,
                c"".as_ptr(),
                libc::AT_FDCWD,
                c"/mnt".as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            ),
        )
    };
    found.insert("uid", uid.to_string());
    found.insert("may-mount", (mounted == 0 && moved == 0).to_string());
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    let devices: Vec<&str> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    found.insert("interfaces", devices.join(" "));
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|e| e.file_name().to_str().is_some_and(is_number));
    found.insert("processes", processes.count().to_string());
    found.insert("scratch", if flags_of("/mnt") == "nodev nosuid" { "exec".to_owned() } else { flags_of("/mnt") });
    found.insert("from-engine", fs::read_to_string("/mnt/from-engine").unwrap());
    fs::write("/mnt/from-helper", "hello again").unwrap();
    // Root's, which the engine is not.
    fs::set_permissions("/mnt/from-helper", PermissionsExt::from_mode(0o644)).unwrap();
    found
}
