//! `bench_container BARE TIMES`: what starting `true` in a container takes, from start to exit, by our helper and by
//! others with the same spec. In turns; prints one JSON object a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/container/stand.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod stand;

use decores_sandbox::container::{RANGE, RunRequest, RunTask, Runtime};
use serde_json::{Value, json};
use stand::{Helper, Scratch, UID, task};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "blkio"];

fn request() -> RunRequest {
    RunRequest { args: vec!["true".to_owned()], ..stand::request("") }
}

/// Folders for control groups of one container, as the launcher makes them.
fn groups(name: &str) -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let of = |controller: &str| {
        let line =
            own.lines().find(|line| line.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == controller)))?;
        let inside = line.splitn(3, ':').nth(2)?.trim_start_matches('/');
        Some(Path::new("/sys/fs/cgroup").join(controller).join(inside).join(name))
    };
    let mut found: Vec<PathBuf> = CONTROLLERS.iter().filter_map(|controller| of(controller)).collect();
    if found.is_empty() {
        found.push(Path::new("/sys/fs/cgroup").join(name));
    }
    found
}

/// By the helper: makes the groups, starts it, asks, hears of the end, removes the groups.
fn ours(task: &RunTask, index: usize) -> f64 {
    let scratch = Scratch::new(UID);
    let start = Instant::now();
    let groups = groups(&format!("decores-bench-{}-{index}", std::process::id()));
    for group in &groups {
        fs::create_dir(group).unwrap();
        for (file, limit) in [("memory.limit_in_bytes", "268435456"), ("pids.max", "64"), ("memory.max", "268435456")] {
            if group.join(file).exists() {
                fs::write(group.join(file), limit).unwrap();
            }
        }
    }
    let mut helper = Helper::start(task, &scratch, &groups);
    helper.ask(&request());
    let outcome = helper.finish();
    groups.iter().for_each(|group| fs::remove_dir(group).unwrap());
    let took = start.elapsed();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    took.as_secs_f64() * 1e3
}

/// A bundle with the busybox of the machine, all that of the first id of the range.
fn bundle(folder: &Path, owner: u32) {
    for inside in ["", "rootfs", "rootfs/bin", "in", "out", "tmp"] {
        fs::create_dir(folder.join(inside)).unwrap();
        chown(folder.join(inside), Some(owner), Some(owner)).unwrap();
    }
    for inside in ["proc", "dev", "sys", "in", "out", "tmp"] {
        fs::create_dir(folder.join("rootfs").join(inside)).unwrap();
    }
    fs::copy("/usr/bin/busybox", folder.join("rootfs/bin/busybox")).expect("busybox-static is installed");
    symlink("busybox", folder.join("rootfs/bin/true")).unwrap();
}

/// Our spec, with the one map of ids that all can write, and limits that the runtime sets.
fn equal_spec(folder: &Path, first: u32) -> Value {
    let mut spec = decores_container::runtime_spec(&task(Runtime::Libcontainer), &request(), folder);
    let map = json!([{"containerID": 0, "hostID": first, "size": RANGE}]);
    (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
    spec["linux"]["cgroupsPath"] = json!("/decores-bench-other");
    spec["linux"]["resources"] = json!({"memory": {"limit": 268_435_456}, "pids": {"limit": 64}});
    spec
}

fn timed(mut command: Command) -> f64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    let took = start.elapsed();
    assert!(status.success(), "{command:?} ended with {status}");
    took.as_secs_f64() * 1e3
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (bare, times) = (arguments.next().expect("BARE"), arguments.next().expect("TIMES"));
    let times: usize = times.parse().expect("TIMES is a number");
    let first = task(Runtime::Runc).ids.unwrap().first;
    let home = tempfile::tempdir().unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(home.path(), all).unwrap();
    let (equal, default, state) = (home.path().join("equal"), home.path().join("default"), home.path().join("state"));
    bundle(&equal, first);
    fs::write(equal.join("config.json"), equal_spec(&equal, first).to_string()).unwrap();
    bundle(&default, 0);
    assert!(Command::new("runc").arg("spec").current_dir(&default).status().unwrap().success());
    let text = fs::read(default.join("config.json")).unwrap();
    let mut spec: Value = serde_json::from_slice(&text).unwrap();
    (spec["process"]["terminal"], spec["process"]["args"]) = (json!(false), json!(["/bin/true"]));
    fs::write(default.join("config.json"), spec.to_string()).unwrap();
    let runc = |bundle: &Path, index: usize| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&state).args(["run", "--bundle"]).arg(bundle).arg(format!("decores-bench-{index}"));
        timed(command)
    };
    let libcontainer = || {
        let mut command = Command::new(&bare);
        command.arg(&equal).arg(home.path().join("bare"));
        timed(command)
    };
    fs::create_dir(home.path().join("bare")).unwrap();
    for index in 0..times {
        let found = json!({
            "helper": ours(&task(Runtime::Libcontainer), index),
            "runc": runc(&equal, index),
            "bare": libcontainer(),
            "helperRunc": ours(&task(Runtime::Runc), index),
            "runcDefault": runc(&default, index),
        });
        println!("{found}");
    }
}
