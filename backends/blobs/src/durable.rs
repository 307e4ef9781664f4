//! Files that are there whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder that only its owner enters, and its parents below `root`; each is synced into its parent.
pub(crate) fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|f| *f != root && !f.exists()).collect();
    for folder in missing.into_iter().rev() {
        make_folder(folder)?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

/// Makes one folder, or takes an existing one and closes it to others.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))
        }
        made => made,
    }
}

/// A new file that only its owner reads; refused where one exists.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes `bytes` to `temporary`, then puts it in the place of `path`.
pub(crate) fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a crash left behind under the temporary name was never part of anything.
    remove_if_there(temporary)?;
    let mut file = create(temporary)?;
    file.write_all(bytes)?;
    finish(&file, temporary, path)
}

/// Makes a written file durable under its name.
pub(crate) fn finish(file: &File, temporary: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether there was something to remove.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The content of a file, if there is one.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
