//! The lock from both sides: what is listed works, what is not ends the process or fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(unsafe_code, reason = "forks, and makes system calls that must fail")]

use decores_jail::calls::{COMPILE, CONTAINER, HARMLESS, HARMLESS_FILES, RUN, SHARED, UNPACK};
use decores_jail::{Links, Profile, close_files_but, lock};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// How a forked child ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Code(i32),
    Signal(i32),
}

/// Runs `act` in a child that locked itself; 0 is success, an error's number its code.
fn locked(profile: Profile, scratch: Option<&Path>, act: impl FnOnce() -> io::Result<()>) -> End {
    // SAFETY: the child only makes system calls and ends with `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = match lock(profile, scratch) {
            Err(_) => 200,
            Ok(_) => act().map_or_else(|e| e.raw_os_error().unwrap_or(201), |()| 0),
        };
        // SAFETY: always sound.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) { End::Code(libc::WEXITSTATUS(status)) } else { End::Signal(libc::WTERMSIG(status)) }
}

fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: every use in this file is one that must be refused, or is harmless.
    if unsafe { libc::syscall(number, a, b, c, d) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn allocate() -> io::Result<()> {
    drop(vec![1_u8; 64 << 20]);
    Ok(())
}

#[test]
fn what_is_listed_works() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("a");
    let end = locked(Profile::Run, Some(scratch.path()), || {
        fs::create_dir(scratch.path().join("folder"))?;
        fs::write(&file, b"x")?;
        assert_eq!(fs::read(&file)?, b"x");
        assert_eq!(fs::read_dir(scratch.path())?.count(), 2);
        fs::remove_dir_all(scratch.path().join("folder"))
    });
    assert_eq!(end, End::Code(0));
    assert_eq!(locked(Profile::Compile, None, allocate), End::Code(0));
}

#[test]
fn files_outside_the_scratch_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    for act in [
        &|| fs::read("/etc/passwd").map(drop) as io::Result<()>,
        &|| fs::read_dir("/").map(drop),
        &|| fs::write(outside.path().join("x"), b"x"),
        &|| fs::read("/proc/self/maps").map(drop),
        &|| fs::read(scratch.path().join("../../etc/passwd")).map(drop),
    ] as [&dyn Fn() -> io::Result<()>; 5]
    {
        assert_eq!(locked(Profile::Run, Some(scratch.path()), act), End::Code(libc::EACCES));
    }
}

#[test]
fn without_a_scratch_no_file_opens() {
    let folder = tempfile::tempdir().unwrap();
    let act = || fs::write(folder.path().join("x"), b"x");
    assert_eq!(locked(Profile::Run, None, act), End::Code(libc::EACCES));
}

#[test]
fn links_and_pipes_are_not_made_in_the_scratch() {
    let scratch = tempfile::tempdir().unwrap();
    let link = scratch.path().join("link");
    let act = || std::os::unix::fs::symlink("/etc/passwd", &link);
    // The older `symlink` call is on no list.
    assert_eq!(locked(Profile::Run, Some(scratch.path()), act), End::Signal(libc::SIGSYS));
}

#[test]
fn sockets_programs_tracing_mounts_and_forks_end_the_process() {
    let stranger = std::process::id().into();
    for (name, number, arguments) in [
        ("socket", libc::SYS_socket, [2, 1, 0, 0]),
        ("socketpair", libc::SYS_socketpair, [1, 1, 0, 0]),
        ("execve", libc::SYS_execve, [0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [16, stranger, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [stranger, 0, 0, 0]),
        ("mount", libc::SYS_mount, [0, 0, 0, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]),
        ("clone", libc::SYS_clone, [0, 0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0, 0, 0, 0]),
        ("kill", libc::SYS_kill, [stranger, 0, 0, 0]),
        ("tgkill of another", libc::SYS_tgkill, [stranger, stranger, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0, 0]),
        ("prctl of another kind", libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0]),
        ("setrlimit", libc::SYS_setrlimit, [0, 0, 0, 0]),
        ("memfd_create", libc::SYS_memfd_create, [0, 0, 0, 0]),
        ("x32", libc::SYS_read | 0x4000_0000, [0, 0, 0, 0]),
    ] {
        for profile in [Profile::Run, Profile::Compile, Profile::Container, Profile::Unpack] {
            assert_eq!(
                locked(profile, None, || call(number, arguments)),
                End::Signal(libc::SIGSYS),
                "{name} {profile:?}"
            );
        }
    }
}

#[test]
fn the_compile_process_opens_nothing_and_makes_nothing_executable() {
    let act = || fs::read("/etc/passwd").map(drop);
    assert_eq!(locked(Profile::Compile, None, act), End::Code(libc::EPERM));
    let executable = (libc::PROT_READ | libc::PROT_EXEC).into();
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into();
    let map = || call(libc::SYS_mmap, [0, 4096, executable, anonymous]);
    assert_eq!(locked(Profile::Compile, None, map), End::Signal(libc::SIGSYS));
    for number in [libc::SYS_openat2, libc::SYS_statx, libc::SYS_pread64, libc::SYS_unlinkat] {
        assert_eq!(locked(Profile::Compile, None, || call(number, [0; 4])), End::Signal(libc::SIGSYS), "{number}");
    }
}

#[test]
fn the_unpacking_process_makes_links_below_its_folders_only() {
    let (scratch, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, blobs) = (scratch.path().join("rootfs"), scratch.path().join("blobs"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&blobs).unwrap();
    let link = |at: &Path| {
        let at = std::ffi::CString::new(at.join("link").to_str().unwrap()).unwrap();
        let (to, at) = (c"/etc/passwd".as_ptr() as libc::c_long, at.as_ptr() as libc::c_long);
        call(libc::SYS_symlinkat, [to, libc::AT_FDCWD.into(), at, 0])
    };
    let unpacking = |act: &dyn Fn() -> io::Result<()>| {
        // SAFETY: as in `locked`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let locked =
                close_files_but(&[&root, &blobs], Links::Symbolic).and_then(|c| c.close_calls(Profile::Unpack));
            let code =
                if locked.is_err() { 200 } else { act().map_or_else(|e| e.raw_os_error().unwrap_or(201), |()| 0) };
            // SAFETY: always sound.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        if libc::WIFEXITED(status) { End::Code(libc::WEXITSTATUS(status)) } else { End::Signal(libc::WTERMSIG(status)) }
    };
    assert_eq!(unpacking(&|| link(&root)), End::Code(0));
    assert_eq!(unpacking(&|| fs::write(blobs.join("0"), b"x")), End::Code(0));
    for beyond in [scratch.path(), outside.path()] {
        assert_eq!(unpacking(&|| link(beyond)), End::Code(libc::EACCES));
        assert_eq!(unpacking(&|| fs::write(beyond.join("x"), b"x")), End::Code(libc::EACCES));
    }
    assert_eq!(unpacking(&|| fs::read(root.join("link")).map(drop)), End::Code(libc::EACCES));
}

#[test]
fn harmless_questions_are_answered_with_eperm() {
    for harmless in HARMLESS.iter().chain(HARMLESS_FILES) {
        let end = locked(Profile::Run, None, || call(harmless.number, [0; 4]));
        assert_eq!(end, End::Code(libc::EPERM), "{}", harmless.why);
    }
}

#[test]
fn threads_made_before_are_held_too() {
    // SAFETY: as in `locked`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = wait.recv();
            let _ = call(libc::SYS_socket, [2, 1, 0, 0]);
        });
        let locked = lock(Profile::Run, None);
        let _ = go.send(());
        let _ = thread.join();
        // SAFETY: always sound.
        unsafe { libc::_exit(i32::from(locked.is_err())) };
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS);
}

#[test]
fn no_call_stands_on_two_lists_and_each_has_a_reason() {
    for (own, more) in [(RUN, HARMLESS_FILES), (CONTAINER, &[]), (UNPACK, &[])] {
        let mut seen = BTreeSet::new();
        for call in SHARED.iter().chain(own).chain(HARMLESS).chain(more) {
            assert!(seen.insert(call.number), "{} stands twice", call.number);
            assert!(!call.why.is_empty());
        }
    }
    assert!(COMPILE.len() < 5, "the compile process needs next to nothing");
}
