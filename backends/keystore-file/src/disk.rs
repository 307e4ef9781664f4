//! Reading and replacing small private files.

use crate::error::FileError;
use decores_secrets::Zeroizing;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { action, path: path.to_owned(), source }
}

/// Reads a file of at most `max` bytes; one byte more is read of a longer one, for its reader to refuse.
pub(crate) fn read(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    read_from(file, path, max)
}

/// As [`read`], for files that nobody else may read.
pub(crate) fn read_private(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let mode = file.metadata().map_err(io_error("inspect", path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Permissions { path: path.to_owned(), mode });
    }
    read_from(file, path, max)
}

fn read_from(file: File, path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(max.min(4096) + 1));
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    Ok(bytes)
}

/// Replaces a file: write, fsync, rename, fsync of the folder. The file is private from its first byte on.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", new)(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(new).map_err(io_error("create", new))?;
    file.write_all(bytes).map_err(io_error("write", new))?;
    file.sync_all().map_err(io_error("sync", new))?;
    fs::rename(new, path).map_err(io_error("rename", new))?;
    sync_folder(path)
}

/// Overwrites a small file and removes it. What a disk keeps of overwritten blocks is out of reach.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(io_error("open", path))?;
    let len = file.metadata().map_err(io_error("inspect", path))?.len().min(4096);
    file.write_all(&vec![0; len as usize]).map_err(io_error("overwrite", path))?;
    file.sync_all().map_err(io_error("sync", path))?;
    fs::remove_file(path).map_err(io_error("remove", path))?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("sync", folder))
}
