//! Containers, really run: by the helper, in the namespaces a launcher gives it, for an engine that may be hostile.
//!
//! Needs root, `busybox-static`, and `runc` and `runsc` for the tests that name them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod stand;

use decores_sandbox::container::{RunAnswer, RunRequest, RunTask, Runtime};
use decores_sandbox::{Hole, Namespace};
use stand::{Helper, Scratch, UID, request, run, script, task};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ALL: [Namespace; 7] = [
    Namespace::Cgroup,
    Namespace::Ipc,
    Namespace::Mount,
    Namespace::Net,
    Namespace::Pid,
    Namespace::User,
    Namespace::Uts,
];

fn runs_a_program(runtime: Runtime) {
    let scratch = Scratch::new(UID);
    let task = task(runtime);
    let mut helper = Helper::start(&task, &scratch, &[]);
    let body = RunRequest {
        uid: 1000,
        gid: 1000,
        cwd: "/tmp".to_owned(),
        ..request("cat; cat /in/data; id -u; pwd; echo result > /out/file; echo oops >&2; exit 7")
    };
    helper.ask(&body);
    helper.write_input("from stdin\n");
    let outcome = helper.finish();
    assert_eq!(outcome.code(), 7, "{outcome:?}");
    assert_eq!(outcome.answers[0], RunAnswer::Started);
    assert_eq!(outcome.output, "from stdin\ninput\n1000\n/tmp\n");
    assert!(outcome.error.contains("oops"), "{outcome:?}");
    assert_eq!(fs::read_to_string(scratch.path("out/file")).unwrap(), "result\n");
    assert_eq!(fs::metadata(scratch.path("out/file")).unwrap().uid(), UID, "the container's user is the job's");
    let report = outcome.report.unwrap();
    assert_eq!(report.runtime, runtime);
    if runtime != Runtime::Runsc {
        assert_eq!(report.namespaces, ALL);
        assert!(report.seccomp && report.powerless && report.own_ids);
    }
}

#[test]
fn libcontainer_runs_a_program() {
    runs_a_program(Runtime::Libcontainer);
}

#[test]
fn runc_runs_a_program() {
    runs_a_program(Runtime::Runc);
}

#[test]
fn runsc_runs_a_program() {
    runs_a_program(Runtime::Runsc);
}

#[test]
fn a_signal_is_told_from_an_exit_code() {
    for runtime in [Runtime::Libcontainer, Runtime::Runc] {
        let mut task = task(runtime);
        task.wall_ms = 300;
        let late = run(&task, &Scratch::new(UID), &request("sleep 100"));
        assert!(
            matches!(late.last(), RunAnswer::Ended { code: None, signal: Some(9), late: true, wall_ms: 300.. }),
            "{late:?}"
        );
        let code = script(runtime, "kill -9 $$; exit 3");
        assert_eq!(code.code(), 3, "the first process of a namespace does not end itself: {code:?}");
        let child = script(runtime, "sh -c 'kill -11 $$'; exit $?");
        assert_eq!(child.code(), 139, "{child:?}");
    }
}

#[test]
fn a_program_can_do_little() {
    let tries = "
        touch /file; touch /bin/file; touch /in/file; mount -t tmpfs none /tmp; unshare -U true; unshare -m true;
        chroot / /bin/true; echo x > /proc/sys/kernel/hostname; ls /sys; cp /bin/busybox /out/run; cat /bin/busybox > /out/run; chmod 755 /out/run; /out/run true;
        echo done";
    for runtime in [Runtime::Libcontainer, Runtime::Runc] {
        let outcome = script(runtime, tries);
        assert_eq!(outcome.output, "done\n", "{outcome:?}");
        for said in ["touch: /file: Read-only", "touch: /bin/file: Read-only", "touch: /in/file: Read-only"] {
            assert!(outcome.error.contains(said), "{said}: {outcome:?}");
        }
        for said in ["mount:", "unshare:", "chroot:", "kernel/hostname: Read-only", "/out/run"] {
            assert!(outcome.error.contains(said), "{said}: {outcome:?}");
        }
    }
}

#[test]
fn the_kernel_says_so_from_inside() {
    for runtime in [Runtime::Libcontainer, Runtime::Runc] {
        let status = script(runtime, "cat /proc/self/status; cat /proc/1/uid_map; ls -d /proc/[0-9]*; ls /dev");
        let has = |line: &str| assert!(status.output.contains(line), "{line}: {status:?}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            has(&format!("{set}:\t0000000000000000\n"));
        }
        has("NoNewPrivs:\t1\n");
        has("Groups:\t \n");
        has("Seccomp:\t2\n");
        has("/proc/1\n");
        has("77001");
        assert!(!status.output.contains("kmsg") && !status.output.contains("/proc/100\n"), "{status:?}");
    }
}

#[test]
fn nothing_looks_into_the_images_user_database() {
    for env in [vec!["HOME=".to_owned()], Vec::new()] {
        let scratch = Scratch::new(UID);
        fs::create_dir_all(scratch.path("rootfs/etc")).unwrap();
        fs::write(scratch.path("rootfs/etc/passwd"), "user:x:0:0::/told:/bin/sh\n").unwrap();
        let outcome = run(&task(Runtime::Libcontainer), &scratch, &RunRequest { env, ..request("echo $HOME") });
        assert_eq!(outcome.output, "/\n", "{outcome:?}");
    }
}

#[test]
fn what_is_no_plain_request_is_refused() {
    let cases: [(fn(&mut RunRequest), &str); 9] = [
        (|r| r.args.clear(), "no program"),
        (|r| r.args.push("a\0b".to_owned()), "NUL"),
        (|r| r.env.push("nothing".to_owned()), "NAME=value"),
        (|r| r.env = vec!["A=1".to_owned(), "A=2".to_owned()], "twice"),
        (|r| r.cwd = "/bin/../bin".to_owned(), "working folder"),
        (|r| r.cwd = "/proc/self/fd/6".to_owned(), "working folder"),
        (|r| r.uid = 65_536, "65536"),
        (|r| r.gid = u32::MAX, "65536"),
        (|r| r.args = vec!["no-such-program".to_owned()], "did not start"),
    ];
    for runtime in [Runtime::Libcontainer, Runtime::Runc] {
        for (change, why) in cases {
            let mut body = request("true");
            change(&mut body);
            let outcome = run(&task(runtime), &Scratch::new(UID), &body);
            assert!(outcome.refused().contains(why), "{why}: {outcome:?}");
        }
    }
}

#[test]
fn bytes_that_are_no_request_are_refused() {
    let sent = |bytes: &[u8], descriptors| {
        let scratch = Scratch::new(UID);
        let mut helper = Helper::start(&task(Runtime::Libcontainer), &scratch, &[]);
        helper.send(bytes, descriptors);
        helper.engine.as_ref().unwrap().shutdown(std::net::Shutdown::Write).unwrap();
        helper.finish().refused().to_owned()
    };
    assert!(sent(&[0, 0, 0, 2, b'{', b'}'], 3).contains("not the expected"));
    assert!(sent(&[0, 0, 0, 9, b'{', b'}'], 3).contains("cut off"));
    assert!(sent(&[255, 0, 0, 0], 3).contains("at most"));
    assert!(sent(&[0, 0, 0, 2, b'{', b'}'], 2).contains("three descriptors"));
}

#[test]
fn an_image_whose_folders_lead_elsewhere_is_refused() {
    for (folder, to) in
        [("rootfs/proc", "/proc"), ("rootfs/dev", "../in"), ("rootfs", "/"), ("in", "/etc"), ("out", "in")]
    {
        let scratch = Scratch::new(UID);
        fs::remove_dir_all(scratch.path(folder)).unwrap();
        symlink(to, scratch.path(folder)).unwrap();
        let outcome = run(&task(Runtime::Libcontainer), &scratch, &request("true"));
        let name = folder.rsplit('/').next().unwrap();
        assert!(outcome.refused().contains(&format!("`{name}` is not a folder")), "{outcome:?}");
    }
    let scratch = Scratch::new(UID);
    fs::remove_dir(scratch.path("rootfs/sys")).unwrap();
    scratch.write("rootfs/sys", "");
    assert!(run(&task(Runtime::Libcontainer), &scratch, &request("true")).refused().contains("`sys`"));
}

#[test]
fn an_engine_that_goes_away_ends_it() {
    for runtime in [Runtime::Libcontainer, Runtime::Runc] {
        let scratch = Scratch::new(UID);
        let mut before = Helper::start(&task(runtime), &scratch, &[]);
        drop(before.engine.take());
        assert!(before.finish().answers.is_empty());
        let mut during = Helper::start(&task(runtime), &scratch, &[]);
        during.ask(&request("echo there; sleep 1000"));
        assert_eq!(during.answer(), Some(RunAnswer::Started));
        drop(during.engine.take());
        // Ends long before the program would, and its output with it.
        assert!(during.finish().answers.is_empty());
    }
}

#[test]
fn a_helper_that_was_not_started_by_a_launcher_does_nothing() {
    let program = stand::program();
    let output = Command::new(&program).arg("container").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not the first process"), "{output:?}");
    for arguments in
        [vec![], vec!["container", "x"], vec!["probe-container"], vec!["probe-container", "crun", "1", "1"]]
    {
        assert_eq!(Command::new(&program).args(&arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}

/// The folder of a control group of this test's own, in the memory hierarchy or version 2's.
fn memory_group(bytes: u64) -> (PathBuf, &'static str) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let name = format!("decores-helper-test-{}", std::process::id());
    if Path::new("/sys/fs/cgroup/memory").is_dir() {
        let inside = own.lines().find_map(|line| line.split_once(":memory:")).map_or("/", |(_, path)| path);
        let group = Path::new("/sys/fs/cgroup/memory").join(inside.trim_start_matches('/')).join(name);
        fs::create_dir(&group).unwrap();
        fs::write(group.join("memory.limit_in_bytes"), bytes.to_string()).unwrap();
        return (group, "memory");
    }
    let group = Path::new("/sys/fs/cgroup").join(name);
    fs::create_dir(&group).unwrap();
    fs::write(group.join("memory.max"), bytes.to_string()).unwrap();
    (group, "memory")
}

#[test]
fn a_container_stays_in_its_group_and_leaves_nothing_there() {
    for runtime in [Runtime::Libcontainer, Runtime::Runc, Runtime::Runsc] {
        let (group, controller) = memory_group(96 << 20);
        let before = state();
        let task = RunTask { cgroup: vec![controller.to_owned()], ..task(runtime) };
        let scratch = Scratch::new(UID);
        let mut helper = Helper::start(&task, &scratch, std::slice::from_ref(&group));
        // All that a pipe's reader holds back is memory of the program's.
        helper.ask(&request("dd if=/dev/zero of=/dev/null bs=300M count=1; echo $?"));
        let outcome = helper.finish();
        let after = state();
        let removed = fs::remove_dir(&group);
        if runtime == Runtime::Runsc {
            // The limit ends gVisor itself.
            assert!(outcome.output.is_empty() || outcome.output == "137\n", "{outcome:?}");
        } else {
            assert_eq!(outcome.output, "137\n", "{outcome:?}");
            assert_eq!(outcome.report.as_ref().unwrap().cgroup, ["memory"]);
        }
        removed.unwrap_or_else(|e| panic!("{runtime}: the group is not empty: {e}"));
        assert_eq!(before, after, "{runtime}");
    }
}

/// What a container could leave behind on the machine: control groups, mounts, files of runtimes.
fn state() -> Vec<String> {
    let mut found = folders(Path::new("/sys/fs/cgroup"), 8);
    // Of runtimes; other tests' nodes have groups of their own meanwhile.
    found.retain(|folder| folder.ends_with("job") || folder.contains("helper-test"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts.lines().filter(|line| line.contains("decores ") || line.contains("/scratch/")).map(str::to_owned),
    );
    for folder in ["/run/runc/job", "/run/youki", "/run/libcontainer", "/var/run/runsc/job", "/run/runsc"] {
        found.extend(Path::new(folder).exists().then(|| folder.to_owned()));
    }
    found.sort();
    found
}

fn folders(below: &Path, depth: u32) -> Vec<String> {
    let entries = fs::read_dir(below).into_iter().flatten().flatten();
    let inside = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    inside
        .flat_map(|path| {
            let mut found = if depth == 0 { Vec::new() } else { folders(&path, depth - 1) };
            found.push(path.display().to_string());
            found
        })
        .collect()
}

#[test]
fn without_root_there_is_one_user() {
    for runtime in [Runtime::Libcontainer, Runtime::Runc] {
        let alone = RunTask { ids: None, ..task(runtime) };
        let scratch = Scratch::new(UID);
        let outcome = run(&alone, &scratch, &request("id -u; cat /proc/1/uid_map; echo x > /out/file"));
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        assert!(outcome.output.starts_with("0\n"), "{outcome:?}");
        assert_eq!(fs::metadata(scratch.path("out/file")).unwrap().uid(), UID);
        let report = outcome.report.unwrap();
        assert!(report.powerless && report.seccomp && !report.own_ids);
        assert_eq!(report.namespaces, ALL);
        let other = run(&alone, &Scratch::new(UID), &RunRequest { uid: 5, ..request("true") });
        assert!(other.refused().contains("one user"), "{other:?}");
    }
}

#[test]
fn a_planted_hole_can_be_seen() {
    let with = |hole, text: &str| {
        let holed = RunTask { holes: vec![hole], ..task(Runtime::Libcontainer) };
        run(&holed, &Scratch::new(UID), &request(text))
    };
    let seccomp = with(Hole::Seccomp, "cat /proc/self/status");
    assert!(seccomp.output.contains("Seccomp:\t0"), "{seccomp:?}");
    assert!(!seccomp.report.unwrap().seccomp);
    let written = with(Hole::ReadOnly, "touch /file && echo yes");
    assert_eq!(written.output, "yes\n", "{written:?}");
    let user = with(Hole::User, "cat /proc/self/status");
    assert!(!user.output.contains("CapEff:\t0000000000000000"), "{user:?}");
    let network = with(Hole::NetNamespace, "true");
    assert!(!network.report.unwrap().namespaces.contains(&Namespace::Net));
    let host = with(Hole::Root, "ls /sys/etc/hostname");
    assert!(host.output.contains("/sys/etc/hostname"), "{host:?}");
}

#[test]
fn a_probe_really_runs_a_container() {
    let program = stand::program();
    let probe = |runtime: &str| {
        let output = Command::new(&program).args(["probe-container", runtime, "77001", "1895825408"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    for runtime in ["libcontainer", "runc"] {
        let said = probe(runtime);
        assert_eq!(said["report"]["powerless"], true, "{said}");
        assert_eq!(said["report"]["seccomp"], true, "{said}");
    }
    assert_eq!(probe("runsc")["report"]["runtime"], "runsc");
    let kata = probe("kata");
    assert!(kata["why"].as_str().unwrap().contains("`kata-runtime` is not installed"), "{kata}");
}
