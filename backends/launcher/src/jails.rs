//! The folder that jails are mounted on, one folder in it for each attempt.
//!
//! An attempt's folder is the first thing made for it and the last removed: what a killed launcher left is
//! found by its name.

use crate::cgroup::Cgroups;
use crate::config::LauncherConfig;
use crate::group::{JobCgroup, PATIENCE};
use crate::message::is_trace_name;
use crate::mounts;
use crate::process::{Users, end_all_of};
use crate::scratch;
use crate::syscall;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
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

/// Ends and removes what is left of an attempt, the folder last; never a jail's folder that holds something else.
///
/// # Errors
/// If anything stays; then the folder does.
pub(crate) fn remove(config: &LauncherConfig, name: &str, cgroup: &JobCgroup, tries: u32) -> io::Result<()> {
    let [ciphertext, jail] = config.folders(name);
    let mut result = cgroup.remove(tries);
    // While anything may still add to it, it is not removed; through a mount that stays, something else would be.
    let scratch = end_owner(config, &ciphertext, name).and_then(|()| mounts::detach(&ciphertext));
    result = result.and(scratch.and_then(|()| scratch::remove(&ciphertext)));
    result = result.and(mounts::detach(&jail));
    result.and_then(|()| scratch::gone(fs::remove_dir(jail)))
}

/// Ends what still runs as the user that a scratch was made for.
fn end_owner(config: &LauncherConfig, ciphertext: &Path, name: &str) -> io::Result<()> {
    match ciphertext.symlink_metadata().map(|found| found.uid()) {
        // Without root every scratch is our own user's, and that is not only for jobs.
        Ok(uid) if config.is_jobs(uid) && uid != syscall::effective_uid() => end_all_of(Users::only(uid), name),
        Ok(_) => Ok(()),
        Err(e) => scratch::gone(Err(e)),
    }
}

/// Removes what a launcher that was killed has left; the lock is held as long as the file is open.
///
/// Waits at most `tries` pauses for another launcher's: the one of a node that was just killed is still cleaning up.
///
/// # Errors
/// If another launcher keeps it, or the folder cannot be made.
pub(crate) fn claim(config: &LauncherConfig, cgroups: &Cgroups, tries: u32) -> io::Result<File> {
    make_parent(&config.jails)?;
    let lock = File::open(&config.jails)?;
    for left in (0..=tries).rev() {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if left == 0 => {
                return Err(io::Error::other(format!(
                    "another launcher holds {}; if its node was killed, it is still wiping: start again in a moment",
                    config.jails.display()
                )));
            }
            Err(TryLockError::WouldBlock) => syscall::poll(&[], PAUSE_MS).map(drop)?,
        }
    }
    for name in names(&config.jails).into_iter().chain(names(&config.scratch)) {
        // What stays is seen by `inspect`, and tried again when the node asks for it.
        let _ = remove(config, &name, &cgroups.everywhere(&name), PATIENCE);
    }
    Ok(lock)
}

/// Names of attempts in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_trace_name(name)).collect()
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
    fn only_empty_jails_and_scratches_of_our_own_names_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let config = LauncherConfig::in_home(home.path());
        let full = "job_0102030405060708090a0b0c0d0e0f10-2";
        for name in [NAME, full, "probe-17", "probe-x", "photos", "job_01-1"] {
            for folder in config.folders(name) {
                fs::create_dir_all(&folder).unwrap();
                if name != NAME && name != "probe-17" {
                    fs::write(folder.join("x"), "").unwrap();
                }
            }
            fs::write(config.scratch.join(name).join("ciphertext"), "").unwrap();
        }
        let _lock = claim(&config, &none(), 0).unwrap();
        let left = |folder: &Path| {
            let mut left: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
            left.sort();
            left
        };
        assert_eq!(left(&config.jails), ["job_01-1", full, "photos", "probe-x"]);
        assert_eq!(left(&config.scratch), ["job_01-1", "photos", "probe-x"]);
    }

    #[test]
    fn while_the_scratch_cannot_be_looked_at_the_jail_stays() {
        let home = tempfile::tempdir().unwrap();
        let config = LauncherConfig::in_home(home.path());
        let jail = make(&config.jails, NAME).unwrap();
        std::os::unix::fs::symlink(&config.scratch, &config.scratch).unwrap();
        assert!(remove(&config, NAME, &JobCgroup::default(), 1).is_err() && jail.exists());
        fs::remove_file(&config.scratch).unwrap();
        remove(&config, NAME, &JobCgroup::default(), 1).unwrap();
        assert!(!jail.exists());
    }

    #[test]
    fn beside_another_launcher_nothing_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let config = LauncherConfig::in_home(home.path());
        let first = claim(&config, &none(), 0).unwrap();
        make(&config.jails, NAME).unwrap();
        let refused = claim(&config, &none(), 0).unwrap_err().to_string();
        assert!(refused.contains("start again"), "{refused}");
        assert!(config.jails.join(NAME).exists());
        drop(first);
        assert!(claim(&config, &none(), 0).is_ok());
        assert!(!config.jails.join(NAME).exists());
    }
}
