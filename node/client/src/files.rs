//! Files that are whole or absent: written beside, flushed, renamed.

use crate::ClientError;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Permission bits of what only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Permission bits of ordinary files, before the umask.
pub const ORDINARY: u32 = 0o666;

/// A file that appears under its name when it is kept, and not at all otherwise.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    beside: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Opens a file beside `path`, with these permission bits.
    pub fn create(path: &Path, mode: u32) -> Result<Self, ClientError> {
        let name = path.file_name().ok_or_else(|| failed("write", path)(io::ErrorKind::IsADirectory.into()))?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}.new", std::process::id()));
        let beside = path.with_file_name(beside);
        // A file of this name is what a dead process of the same number left.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("write", &beside)(error)),
            _ => {}
        }
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&beside);
        let file = open.map_err(failed("write", path))?;
        Ok(Self { file, beside, path: path.to_owned(), kept: false })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it up as a name and hands it back to be read from its start.
    pub(crate) fn rewind(self) -> Result<File, ClientError> {
        let mut file = self.file.try_clone().map_err(failed("read", &self.path))?;
        io::Seek::rewind(&mut file).map_err(failed("read", &self.path))?;
        Ok(file)
    }

    /// Flushes it to the disk and gives it its name, in place of what was there.
    pub fn keep(mut self) -> Result<(), ClientError> {
        self.file.sync_all().map_err(failed("write", &self.path))?;
        std::fs::rename(&self.beside, &self.path).map_err(failed("write", &self.path))?;
        self.kept = true;
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(folder).and_then(|f| f.sync_all()).map_err(failed("write", folder))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // What stays behind is replaced by the next try.
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

/// Writes a whole file at once.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), ClientError> {
    let mut file = NewFile::create(path, mode)?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.keep()
}

/// Reads at most `max` bytes of a file; `None` if it is not there.
pub fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, ClientError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    read_open(file, path, max).map(Some)
}

/// As [`read`], and refuses a file that others can read.
pub fn read_private(path: &Path, max: u64) -> Result<Option<Vec<u8>>, ClientError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => Err(ClientError::Exposed(path.to_owned())),
        _ => read(path, max),
    }
}

fn read_open(file: File, path: &Path, max: u64) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    let read = io::Read::read_to_end(&mut io::Read::take(file, max.saturating_add(1)), &mut bytes);
    read.map_err(failed("read", path))?;
    if bytes.len() as u64 > max {
        let text = format!("{} has more than {max} bytes", path.display());
        return Err(ClientError::Input(text));
    }
    Ok(bytes)
}

/// Makes a folder, and those above it, that only its owner may enter.
pub fn private_folder(path: &Path) -> Result<(), ClientError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

/// Gives an I/O error its file.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClientError + use<> {
    let path = path.to_owned();
    move |source| ClientError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn private_files_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        replace(&path, PRIVATE, b"x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path, 10).unwrap().unwrap(), b"x");
    }

    #[test]
    fn private_files_that_others_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        replace(&path, PRIVATE, b"x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_private(&path, 10), Err(ClientError::Exposed(_))));
    }

    #[test]
    fn a_dropped_file_leaves_nothing_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        replace(&path, ORDINARY, b"old").unwrap();
        let mut half = NewFile::create(&path, ORDINARY).unwrap();
        half.write_all(b"ne").unwrap();
        drop(half);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_over_the_limit_are_refused_and_absent_ones_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        assert!(read(&path, 1).unwrap().is_none());
        std::fs::write(&path, b"12").unwrap();
        assert!(read(&path, 1).is_err());
        assert!(read(&path, 2).unwrap().is_some());
    }
}
