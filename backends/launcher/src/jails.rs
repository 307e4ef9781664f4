//! The folder that jails are mounted on, one folder in it for each attempt.
//!
//! An attempt's folder is the first thing made for it and the last removed: what a killed launcher left is
//! found by its name.

use crate::cgroup::Cgroups;
use crate::group::PATIENCE;
use crate::message::is_trace_name;
use crate::syscall;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Engines enter their folder before they change their user, so nobody else needs to.
const MODE: u32 = 0o700;
/// Pause between two looks at the lock.
const PAUSE_MS: i32 = 100;

/// Makes the folder of one attempt, for the launcher's user alone.
///
/// # Errors
/// If it cannot be made, or is there already.
pub(crate) fn make(jails: &Path, name: &str) -> io::Result<PathBuf> {
    let folder = jails.join(name);
    make_parent(jails)?;
    DirBuilder::new().mode(MODE).create(&folder)?;
    Ok(folder)
}

fn make_parent(jails: &Path) -> io::Result<()> {
    DirBuilder::new().mode(MODE).recursive(true).create(jails)
}

/// Removes what is left of an attempt, the folder last; never anything that holds something else.
///
/// # Errors
/// If the group or the folder cannot be removed; then the folder stays.
pub(crate) fn remove(jails: &Path, name: &str, cgroups: &Cgroups, tries: u32) -> io::Result<()> {
    cgroups.existing(name).remove(tries)?;
    match fs::remove_dir(jails.join(name)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes what a launcher that was killed has left; the lock is held as long as the file is open.
///
/// Waits at most `tries` pauses for another launcher's: the one of a node that was just killed is still cleaning up.
///
/// # Errors
/// If another launcher keeps it, or the folder cannot be made.
pub(crate) fn claim(jails: &Path, cgroups: &Cgroups, tries: u32) -> io::Result<File> {
    make_parent(jails)?;
    let lock = File::open(jails)?;
    for left in (0..=tries).rev() {
        match lock.try_lock() {
            Ok(()) => break,
            Err(_) if left == 0 => return Err(io::Error::other("another launcher uses the folder of jails")),
            Err(_) => syscall::poll(&[], PAUSE_MS).map(drop)?,
        }
    }
    for entry in fs::read_dir(jails).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| is_trace_name(name)) {
            // What stays is seen by `inspect`, and tried again at the next start.
            let _ = remove(jails, name, cgroups, PATIENCE);
        }
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NAME: &str = "job_0102030405060708090a0b0c0d0e0f10-1";

    fn none() -> Cgroups {
        Cgroups::none()
    }

    #[test]
    fn folders_are_the_launchers_alone() {
        let home = tempfile::tempdir().unwrap();
        let jails = home.path().join("jails");
        let folder = make(&jails, NAME).unwrap();
        for made in [&jails, &folder] {
            assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(make(&jails, NAME).is_err(), "a folder that is there belongs to another");
    }

    #[test]
    fn only_empty_folders_of_our_own_names_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let jails = home.path().to_owned();
        let full = "job_0102030405060708090a0b0c0d0e0f10-2";
        for name in [NAME, full, "probe-17", "probe-x", "photos", "job_01-1"] {
            fs::create_dir(jails.join(name)).unwrap();
        }
        fs::write(jails.join(full).join("x"), "").unwrap();
        let _lock = claim(&jails, &none(), 0).unwrap();
        let mut left: Vec<_> = fs::read_dir(&jails).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["job_01-1", full, "photos", "probe-x"]);
    }

    #[test]
    fn beside_another_launcher_nothing_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let first = claim(home.path(), &none(), 0).unwrap();
        make(home.path(), NAME).unwrap();
        assert!(claim(home.path(), &none(), 0).is_err());
        assert!(home.path().join(NAME).exists());
        drop(first);
        assert!(claim(home.path(), &none(), 0).is_ok());
        assert!(!home.path().join(NAME).exists());
    }
}
