//! The limit of a scratch that has none of its own: encrypted files on disk.
//!
//! What a guest's call may add at most is charged before the call is made. When the charges could have used the
//! limit up, the scratch is surveyed: what it really takes replaces them. So the limit is never passed, and a guest
//! far from it pays one addition a call.

use crate::run::{State, parts};
use decores_attempt::{EngineError, unnamed_bytes};
use decores_sandbox::plan::encrypted_bytes;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as library;
use wiggle::GuestMemory;

const MODULE: &str = "wasi_snapshot_preview1";
/// What a call adds at most beyond content: an entry, a longer name, blocks touched at both ends, a header.
const ENTRY: u64 = 5 * 4096;
/// What a file or folder takes beside its blocks.
const PER_FILE: u64 = 4096;
/// Bytes of one entry in a list of buffers: address and length.
const BUFFER: usize = 8;

/// What the scratch takes.
#[derive(Debug)]
pub(crate) struct Usage {
    scratch: PathBuf,
    limit: u64,
    /// At most this much is taken.
    taken: u64,
    /// Why the guest was stopped, if it was.
    pub(crate) stopped: Option<Stopped>,
}

/// Why a guest was stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// It reached the limit.
    Full,
    /// The scratch could not be surveyed.
    Failed(io::Error),
}

impl Usage {
    /// Of a scratch that a job may put this much in.
    pub(crate) fn of(scratch: &Path, scratch_bytes: u64) -> Self {
        // The first charge surveys it.
        Self { scratch: scratch.to_owned(), limit: encrypted_bytes(scratch_bytes), taken: u64::MAX, stopped: None }
    }

    /// Whether `bytes` more fit; if not, why is kept.
    pub(crate) fn charge(&mut self, bytes: u64) -> bool {
        let mut after = self.taken.saturating_add(bytes);
        if after > self.limit {
            match survey(&self.scratch) {
                Ok(taken) => after = taken.saturating_add(bytes),
                Err(e) => {
                    self.stopped = Some(match e.raw_os_error() {
                        // The guest's own doing: folders so deep, or so many open files, that they cannot be counted.
                        Some(libc::ENAMETOOLONG | libc::EMFILE) => Stopped::Full,
                        _ => Stopped::Failed(e),
                    });
                    return false;
                }
            }
        }
        if after > self.limit {
            self.stopped = Some(Stopped::Full);
            return false;
        }
        self.taken = after;
        true
    }
}

/// Bytes that the scratch takes on disk now; what is open and has no name any more included.
fn survey(scratch: &Path) -> io::Result<u64> {
    let mut bytes = unnamed_bytes(scratch.metadata()?.dev());
    let mut folders = vec![scratch.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            bytes = bytes.saturating_add(meta.blocks() * 512).saturating_add(PER_FILE);
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

/// Puts a version of a call that charges before the library's.
macro_rules! charge {
    ($linker:ident, $name:ident($($argument:ident: $kind:ty),*), $buffers:expr) => {
        $linker.func_wrap_async(
            MODULE,
            stringify!($name),
            move |mut caller: Caller<'_, State>, ($($argument,)*): ($($kind,)*)| {
                Box::new(async move {
                    let (mut memory, state) = parts(&mut caller)?;
                    let content = content(&memory, $buffers);
                    let most = content.saturating_add(content / 64).saturating_add(ENTRY);
                    if state.usage.as_mut().is_some_and(|usage| !usage.charge(most)) {
                        return Err(wasmtime::Error::msg("the scratch is full"));
                    }
                    library::$name(&mut state.wasi, &mut memory, $($argument),*).await
                })
            },
        )
    };
}

/// Charges every call that can make the scratch larger; links to elsewhere are refused, space is never set aside.
pub(crate) fn charge_calls(linker: &mut Linker<State>) -> Result<(), EngineError> {
    linker.allow_shadowing(true);
    let charged = (|| {
        charge!(linker, fd_write(fd: i32, at: i32, count: i32, done: i32), (at, count))?;
        charge!(linker, fd_pwrite(fd: i32, at: i32, count: i32, offset: i64, done: i32), (at, count))?;
        charge!(linker, fd_filestat_set_size(fd: i32, size: i64), (0, 0))?;
        charge!(linker, path_create_directory(fd: i32, path: i32, length: i32), (0, 0))?;
        charge!(linker, path_link(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32, g: i32), (0, 0))?;
        charge!(linker, path_rename(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32), (0, 0))?;
        charge!(
            linker,
            path_open(a: i32, b: i32, c: i32, d: i32, e: i32, f: i64, g: i64, h: i32, i: i32),
            (0, 0)
        )?;
        Ok(())
    })();
    linker.allow_shadowing(false);
    charged.map_err(|e: wasmtime::Error| EngineError::Runtime(e.to_string()))
}

/// Bytes in a list of buffers; 0 where the list is not in memory, which the library refuses.
fn content(memory: &GuestMemory<'_>, (at, count): (i32, i32)) -> u64 {
    let GuestMemory::Unshared(bytes) = memory else { return 0 };
    let (at, count) = (at.cast_unsigned() as usize, count.cast_unsigned() as usize);
    let end = count.saturating_mul(BUFFER).saturating_add(at);
    let (buffers, _) = bytes.get(at..end).unwrap_or_default().as_chunks::<BUFFER>();
    buffers.iter().map(|[.., a, b, c, d]| u64::from(u32::from_le_bytes([*a, *b, *c, *d]))).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write;
    use std::sync::Mutex;

    /// Files without a name are counted for the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn usage(scratch: &Path, room: u64) -> Usage {
        Usage { limit: survey(scratch).unwrap() + room, ..Usage::of(scratch, 0) }
    }

    #[test]
    fn what_was_charged_and_not_written_is_given_back() {
        let _alone = ALONE.lock();
        let scratch = tempfile::tempdir().unwrap();
        let mut usage = usage(scratch.path(), 1 << 20);
        for _ in 0..100 {
            assert!(usage.charge(1 << 19), "nothing was written");
        }
        fs::write(scratch.path().join("a"), vec![1; 900_000]).unwrap();
        assert!(!usage.charge(1 << 19));
        assert!(matches!(usage.stopped, Some(Stopped::Full)));
    }

    #[test]
    fn what_is_open_without_a_name_counts() {
        let _alone = ALONE.lock();
        let scratch = tempfile::tempdir().unwrap();
        let mut usage = usage(scratch.path(), 1 << 20);
        let mut file = fs::File::create(scratch.path().join("a")).unwrap();
        fs::remove_file(scratch.path().join("a")).unwrap();
        assert!(usage.charge(900_000));
        file.write_all(&vec![1; 900_000]).unwrap();
        assert!(!usage.charge(1 << 19));
        drop(file);
        assert!(usage.charge(1 << 19));
    }

    #[test]
    fn a_scratch_that_is_gone_is_told_as_such() {
        let scratch = tempfile::tempdir().unwrap();
        let mut usage = Usage::of(&scratch.path().join("absent"), 1 << 20);
        assert!(!usage.charge(1));
        assert!(matches!(usage.stopped, Some(Stopped::Failed(_))));
    }
}
