//! An emulated machine with a kernel of Debian's, where control groups are version 2 and nothing else.
//!
//! It starts from memory, with busybox, our programs and the libraries they map, and has one disk for a node's folder.
//! Its processors are emulated: slow, and the same wherever it runs.

use crate::oci::{Layout, tool};
use crate::programs::{program, repository};
use crate::wait::within;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAMS: [&str; 5] =
    ["decores", "decoresd", "decores-engine-wasm", "decores-engine-container", "decores-helper"];
const FOLDERS: [&str; 12] =
    ["bin", "dev", "disk", "etc", "lib64", "new", "proc", "root/weather", "sys", "tmp", "usr/lib", "usr/bin"];
/// Bytes of its disk.
const DISK: u64 = 1 << 30;
/// How long it may run, in milliseconds.
const PATIENCE_MS: u64 = 300_000;
const SCRIPTS: [&str; 2] = ["init", "inside"];

/// Everything that a guest printed.
#[derive(Debug)]
pub struct Transcript(String);

/// A step of it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What it printed.
    pub text: &'a str,
    /// Its exit code.
    pub code: i32,
}

impl Transcript {
    /// What a guest that has ended printed to its console.
    pub fn of(console: &str) -> Self {
        Self(console.replace('\r', ""))
    }

    /// The whole.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether the guest came to its end.
    pub fn is_whole(&self) -> bool {
        self.0.contains("\n== end\n")
    }

    /// A step; one that is not there, or has no end, has no exit code to be right.
    pub fn step(&self, name: &str) -> Told<'_> {
        let said = self.0.split_once(&format!("== {name}\n")).map_or("", |(_, rest)| rest);
        let (text, rest) = said.split_once(&format!("-- {name} ")).unwrap_or((said, ""));
        Told { text, code: rest.split('\n').next().and_then(|code| code.parse().ok()).unwrap_or(-1) }
    }
}

/// Boots a guest and returns when it has ended.
pub fn run() -> Transcript {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (root, initramfs, disk, console) = (path("root"), path("initramfs"), path("disk"), path("console"));
    fill(&root);
    let pack = "cd \"$1\" && find . | cpio --create --format=newc --owner=+0:+0 --quiet > \"$2\"";
    tool("sh", &["-c", pack, "sh", &root.display().to_string(), &initramfs.display().to_string()]);
    File::create(&disk).unwrap().set_len(DISK).unwrap();
    tool("mkfs.ext4", &["-q", "-F", &disk.display().to_string()]);
    boot(&initramfs, &disk, &console);
    Transcript::of(&String::from_utf8_lossy(&fs::read(console).unwrap_or_default()))
}

/// Debian's kernel for clouds: `scripts/lib/guest-kernel`.
fn kernel() -> PathBuf {
    std::env::var_os("DECORES_GUEST_KERNEL").map_or_else(
        || {
            let script = repository().join("scripts/lib/guest-kernel").display().to_string();
            PathBuf::from(tool(&script, &[]).trim())
        },
        PathBuf::from,
    )
}

fn boot(initramfs: &Path, disk: &Path, console: &Path) {
    let mut guest = Command::new("qemu-system-x86_64");
    guest.args(["-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", "3G", "-smp", "2"]);
    guest.args(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"]);
    guest.arg("-drive").arg(format!("file={},if=none,id=disk,format=raw,cache=unsafe", disk.display()));
    guest.args(["-device", "nvme,drive=disk,serial=1"]);
    guest.arg("-kernel").arg(kernel()).arg("-initrd").arg(initramfs);
    guest.args(["-append", "console=ttyS0 quiet panic=-1"]);
    guest.stdin(Stdio::null()).stdout(File::create(console).unwrap()).stderr(Stdio::inherit());
    let mut guest = guest.spawn().unwrap_or_else(|e| {
        panic!("this test needs qemu-system-x86_64 ({e}): apt-get install --no-install-recommends qemu-system-x86")
    });
    if within(PATIENCE_MS, || guest.try_wait().unwrap()).is_none() {
        guest.kill().unwrap();
        guest.wait().unwrap();
    }
}

/// The files that the guest starts with.
fn fill(root: &Path) {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    symlink("usr/lib", root.join("lib")).unwrap();
    // An image, and the tool that stands in its own layers, too.
    Layout::busybox(&root.join("root/image"));
    fs::rename(root.join("root/image.root/bin/busybox"), root.join("bin/busybox")).unwrap();
    fs::remove_dir_all(root.join("root/image.root")).unwrap();
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS {
        let (from, to) = (program(name).display().to_string(), root.join("bin").join(name).display().to_string());
        tool("strip", &["--strip-debug", "-o", &to, &from]);
        let mapped = tool("ldd", &[&from]);
        libraries.extend(mapped.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    }
    for library in libraries {
        let to = root.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
    for name in ["program.wasm", "weather.csv"] {
        fs::copy(repository().join("examples/weather").join(name), root.join("root/weather").join(name)).unwrap();
    }
    for name in SCRIPTS {
        fs::copy(repository().join("tests/guest").join(name), root.join(name)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (name, line) in
        [("passwd", "root:x:0:0:root:/root:/bin/sh"), ("group", "root:x:0:"), ("hosts", "127.0.0.1 localhost")]
    {
        fs::write(root.join("etc").join(name), format!("{line}\n")).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_apart_and_what_is_cut_off_is_no_success() {
        let transcript = Transcript::of("boot\r\n== a\r\nx\r\ny\r\n-- a 0\r\n== ab\r\n-- ab 7\r\n== c\r\nz\r\n");
        let told = |name| (transcript.step(name).text, transcript.step(name).code);
        assert_eq!((told("a"), told("ab"), told("c"), told("d")), (("x\ny\n", 0), ("", 7), ("z\n", -1), ("", -1)));
        assert!(!transcript.is_whole() && Transcript::of("== c\r\n-- c 0\r\n== end\r\n").is_whole());
    }
}
