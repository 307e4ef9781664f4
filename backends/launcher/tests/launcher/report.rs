//! What an engine finds around itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Whether a process of the engine's that aborts leaves its memory anywhere.
fn dumps() -> bool {
    let mut status = 0;
    // SAFETY: the child only ends; the parent waits for it.
    unsafe {
        match libc::fork() {
            0 => {
                libc::chdir(c"/scratch".as_ptr());
                libc::abort()
            }
            child => assert_eq!(libc::waitpid(child, &raw mut status, 0), child),
        }
    }
    assert!(libc::WIFSIGNALED(status));
    let left = fs::read_dir("/scratch").into_iter().flatten().count();
    libc::WCOREDUMP(status) || left > 0
}

/// Folders, three levels deep, that a file can be made in.
fn probe_writable(folder: &Path, depth: u32, found: &mut Vec<String>) {
    if fs::write(folder.join("trial"), "").is_ok() {
        fs::remove_file(folder.join("trial")).unwrap();
        found.push(folder.to_str().unwrap().to_owned());
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|_| depth < 3) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            probe_writable(&entry.path(), depth + 1, found);
        }
    }
}

pub(crate) fn report(events: &mut File, descriptors: &str) {
    let mut say = |name: &str, value: &dyn std::fmt::Display| writeln!(events, "{name}={value}").unwrap();
    say("descriptors", &descriptors);
    say("environment", &std::env::vars_os().map(|(k, _)| k.into_string().unwrap()).collect::<Vec<_>>().join(" "));
    let mut capabilities = [0_u32; 6];
    let header = [0x2008_0522_u32, 0];
    let mut core = libc::rlimit { rlim_cur: 9, rlim_max: 9 };
    let mut host = [0_u8; 64];
    // SAFETY: every pointer is to a local of the right size, the rest are numbers.
    unsafe {
        say("uid", &libc::getuid());
        say("gid", &libc::getgid());
        say("groups", &libc::getgroups(0, std::ptr::null_mut()));
        say("become-root", &(libc::setuid(0) == 0));
        say("pid", &libc::getpid());
        say("leader", &(libc::getsid(0) == libc::getpid()));
        say("no-new-privileges", &libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        libc::syscall(libc::SYS_capget, header.as_ptr(), capabilities.as_mut_ptr());
        say("capabilities", &capabilities.iter().fold(0, |all, c| all | c));
        libc::getrlimit(libc::RLIMIT_CORE, &raw mut core);
        say("core", &core.rlim_max);
        say("umask", &format!("{:o}", libc::umask(0o077)));
        libc::gethostname(host.as_mut_ptr().cast(), host.len());
        say("mount", &(libc::mount(c"x".as_ptr(), c"/scratch".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0));
        say("signal-2", &(libc::kill(2, 0) == 0));
    }
    say("dumped", &dumps());
    say(
        "syslog",
        &["/dev/log", "/run/systemd/journal/socket"]
            .iter()
            .any(|path| std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.connect(path)).is_ok()),
    );
    say("host", &String::from_utf8_lossy(&host).trim_end_matches('\0'));
    say("network", &std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(b"x", "127.0.0.1:9")).is_ok());
    let mut root: Vec<String> =
        fs::read_dir("/").into_iter().flatten().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    root.sort();
    say("root", &root.join(" "));
    let mut writable = Vec::new();
    probe_writable(Path::new("/"), 0, &mut writable);
    say("writable", &writable.join(" "));
    say("write-root", &fs::write("/x", b"x").is_ok());
    say("write-library", &fs::write("/usr/lib/decores-test", b"x").is_ok());
    say("write-scratch", &fs::write("/scratch/x", b"x").is_ok());
    say("scratch-full", &fs::write("/scratch/y", vec![0; 5 << 20]).is_err());
    say("passwd", &fs::read("/etc/passwd").is_ok());
}
