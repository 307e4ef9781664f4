//! The processes of the machine, as `/proc` tells of them.
//!
//! All of it is bytes: a process may have any name, and anything may be mounted anywhere. A process that has ended
//! tells nothing; whatever else keeps one from being looked at is an error, never a process that is not there.

use crate::group::{PATIENCE, PAUSE_MS};
use crate::message::{is_trace_name, whose};
use crate::root::mark;
use crate::syscall;
use decores_sandbox::IdRange;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// What most files of a process's fit into.
const ROOM: usize = 8 << 10;

/// The users that an attempt may run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Users {
    /// Its own.
    pub(crate) uid: u32,
    /// Those of its container.
    pub(crate) ids: Option<IdRange>,
}

impl Users {
    /// One that has no container.
    pub(crate) const fn only(uid: u32) -> Self {
        Self { uid, ids: None }
    }

    fn has(self, uid: u32) -> bool {
        uid == self.uid || self.ids.is_some_and(|ids| uid.checked_sub(ids.first).is_some_and(|n| n < ids.count))
    }

    /// Whether anybody is in both.
    pub(crate) fn meet(self, other: Self) -> bool {
        let within = |a: Self, b: Self| a.has(b.uid) || b.ids.is_some_and(|ids| ids.count > 0 && a.has(ids.first));
        within(self, other) || within(other, self)
    }
}

/// One process, by its folder.
pub(crate) struct Process(PathBuf);

impl Process {
    /// All that there are.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub(crate) fn all() -> io::Result<Vec<Self>> {
        let all = numbered(Path::new("/proc"))?;
        Ok(all.into_iter().map(Self).collect())
    }

    /// Whether it is in a control group of this name, or below one.
    pub(crate) fn is_in_group(&self, name: &str) -> io::Result<bool> {
        Ok(owners(&self.read("cgroup")?).any(|owner| owner == name))
    }

    /// Its view of the mounts: those that share one see the same. Absent where that cannot be told.
    pub(crate) fn view(&self) -> Option<[PathBuf; 2]> {
        // A root of its own hides what lies elsewhere in the same namespace.
        Some([fs::read_link(self.0.join("ns/mnt")).ok()?, fs::read_link(self.0.join("root")).ok()?])
    }

    /// Whether it sees a mount of an attempt of this name.
    pub(crate) fn sees_mount(&self, name: &str) -> io::Result<bool> {
        let mark = mark(name);
        Ok(words(&self.mounts()?).any(|word| word == mark.as_bytes()))
    }

    /// Whether any of its user ids is one of these, and it is not an attempt's other than `name`: a second node may have
    /// the same users. The dead hold nothing.
    pub(crate) fn is_of(&self, users: Users, name: &str) -> io::Result<bool> {
        Ok(runs_as(&self.read("status")?, users) && !self.is_anothers(name)?)
    }

    /// Whether it carries the marks of another attempt: its control group, or its mounts.
    fn is_anothers(&self, name: &str) -> io::Result<bool> {
        let (cgroup, mounts) = (self.read("cgroup")?, self.mounts()?);
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let groups = owners(&cgroup);
        let marks = words(&mounts).filter_map(text).filter_map(|word| word.strip_prefix("decores:"));
        Ok(groups.chain(marks).any(|other| is_trace_name(other) && other != name))
    }

    fn number(&self) -> Option<i32> {
        self.0.file_name()?.to_str()?.parse().ok()
    }

    fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        told(read(&self.0.join(file)))
    }

    /// The mounts that it sees. A first thread that has ended tells nothing, though others may go on.
    fn mounts(&self) -> io::Result<Vec<u8>> {
        let mut mounts = self.read("mountinfo")?;
        if mounts.is_empty() {
            for thread in told(numbered(&self.0.join("task")))? {
                mounts.extend(told(read(&thread.join("mountinfo")))?);
            }
        }
        Ok(mounts)
    }
}

/// The content of a file that does not tell its size.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(ROOM);
    fs::File::open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// The attempts whose control groups these are.
fn owners(cgroup: &[u8]) -> impl Iterator<Item = &str> {
    let lines = lines(cgroup).filter_map(|line| std::str::from_utf8(line).ok());
    lines.flat_map(|line| line.split("/decores/").skip(1).filter_map(|below| below.split('/').next()).map(whose))
}

/// Processes that run as one of these users, but for those of attempts other than `name`.
///
/// # Errors
/// If one cannot be looked at.
pub(crate) fn processes_of(users: Users, name: &str) -> io::Result<Vec<i32>> {
    let mut theirs = Vec::new();
    for process in Process::all()? {
        if process.is_of(users, name)? {
            theirs.extend(process.number());
        }
    }
    Ok(theirs)
}

/// Ends every process of these users but those of other attempts.
///
/// # Errors
/// If one stays, or may.
pub(crate) fn end_all_of(users: Users, name: &str) -> io::Result<()> {
    for _ in 0..PATIENCE {
        let processes = processes_of(users, name)?;
        if processes.is_empty() {
            return Ok(());
        }
        processes.into_iter().for_each(|pid| drop(syscall::kill(pid)));
        // Nothing tells when another's child has ended.
        syscall::poll(&[], PAUSE_MS)?;
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Entries of a folder that are numbers.
fn numbered(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let is_number =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    entries.filter(|entry| entry.as_ref().map_or(true, is_number)).collect()
}

/// What was told of a process; nothing of one that has ended, which for its mounts the kernel calls an invalid argument.
fn told<T: Default>(read: io::Result<T>) -> io::Result<T> {
    match read {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EINVAL)) => Ok(T::default()),
        // Without root, jobs run as our own user and can become no other: what others hide is not theirs.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && syscall::effective_uid() != 0 => Ok(T::default()),
        read => read,
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
}

fn runs_as(status: &[u8], users: Users) -> bool {
    let field = |name: &str| lines(status).find_map(|line| line.strip_prefix(name.as_bytes())).unwrap_or_default();
    let is_one =
        |id: &[u8]| std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).is_some_and(|id| users.has(id));
    let has_ended = field("State:").trim_ascii().starts_with(b"Z") || field("State:").trim_ascii().starts_with(b"X");
    // The state is that of the first thread; others may go on without it.
    let is_alone = matches!(field("Threads:").trim_ascii(), b"0" | b"1");
    words(field("Uid:")).any(is_one) && !(has_ended && is_alone)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn status(state: &str, threads: u32) -> Vec<u8> {
        let rest = format!("\nState:\t{state}\nUid:\t0\t1000\t0\t0\nThreads:\t{threads}\n");
        [b"Name:\t\xff\xfe", rest.as_bytes()].concat()
    }

    #[test]
    fn a_process_of_any_name_is_seen_until_its_last_thread_has_ended() {
        let user = Users::only(1000);
        assert!(runs_as(&status("S (sleeping)", 1), user));
        assert!(!runs_as(&status("S (sleeping)", 1), Users::only(100)));
        assert!(!runs_as(&status("Z (zombie)", 1), user) && !runs_as(&status("X (dead)", 0), user));
        assert!(runs_as(&status("Z (zombie)", 2), user));
        assert!(!runs_as(b"", user));
        let with = |first, count| Users { uid: 100, ids: Some(IdRange { first, count }) };
        assert!(runs_as(&status("S (sleeping)", 1), with(900, 101)));
        assert!(!runs_as(&status("S (sleeping)", 1), with(900, 100)));
        assert!(with(900, 101).meet(user) && user.meet(with(900, 101)) && !user.meet(with(900, 100)));
        assert!(with(900, 101).meet(Users { uid: 7, ids: Some(IdRange { first: 1000, count: 5 }) }));
    }

    #[test]
    fn a_group_below_a_containers_is_still_its_attempts() {
        let name = "job_0102030405060708090a0b0c0d0e0f10-1";
        for path in ["decores/N", "decores/N.container", "decores/N.container/x", "a/b/decores/N/decores/x"] {
            let line = format!("4:memory:/{}\n0::/\n", path.replace('N', name));
            assert!(owners(line.as_bytes()).any(|owner| owner == name), "{line}");
        }
        for path in ["decores/N1", "other/N", "N"] {
            let line = format!("4:memory:/{}\n0::/\n", path.replace('N', name));
            assert!(!owners(line.as_bytes()).any(|owner| owner == name), "{line}");
        }
    }

    #[test]
    fn only_a_process_that_has_ended_tells_nothing() {
        let read = |code| told::<Vec<u8>>(Err(io::Error::from_raw_os_error(code)));
        for ended in [libc::ENOENT, libc::ESRCH, libc::EINVAL] {
            assert_eq!(read(ended).unwrap(), b"");
        }
        for blind in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO] {
            assert_eq!(read(blind).unwrap_err().raw_os_error(), Some(blind));
        }
        for hidden in [libc::EACCES, libc::EPERM] {
            assert_eq!(read(hidden).is_err(), syscall::effective_uid() == 0);
        }
    }

    #[test]
    fn this_process_is_among_all() {
        let ours = Process::all().unwrap().into_iter().find(|p| p.number() == Some(std::process::id().cast_signed()));
        let ours = ours.unwrap();
        assert!(ours.is_of(Users::only(syscall::effective_uid()), "probe-1").unwrap());
        assert!(!ours.is_in_group("probe-1").unwrap() && !ours.sees_mount("probe-1").unwrap());
        assert!(!ours.mounts().unwrap().is_empty());
    }
}
