//! One process owns a store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILE: &str = "store.lock";

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another node (process {pid}) is using `{folder}`; stop it, or choose another home")]
    Taken {
        /// Its process id, as it wrote it down.
        pid: String,
        /// The folder.
        folder: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("failed to lock `{path}`")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The lock, held as long as this lives; the kernel drops it when the process ends.
#[derive(Debug)]
pub(crate) struct HomeLock(#[expect(dead_code, reason = "an open file is what holds the lock")] File);

impl HomeLock {
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(FILE);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Who has it is a courtesy; that someone has it is certain.
                let _ = file.take(20).read_to_string(&mut pid);
                let pid = if pid.is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
                return Err(LockError::Taken { pid, folder: folder.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }
}
