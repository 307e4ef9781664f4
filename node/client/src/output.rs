//! Where an output goes on this machine.
//!
//! A folder gets `stdout` and `files/…`; it appears whole or not at all, and takes the place of an
//! earlier output only if nothing else lies in it.

use crate::ClientError;
use crate::files::{NewFile, ORDINARY, failed};
use crate::sealed::{Output, Part};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Name of the standard output in a folder.
pub const STDOUT: &str = "stdout";
/// Name of the folder of files.
pub const FILES: &str = "files";

impl Output {
    /// Copies standard output to a writer.
    pub fn write_stdout(&mut self, to: &mut (dyn Write + Send)) -> Result<(), ClientError> {
        self.each(&mut |part, bytes| match part {
            Part::Stdout => copy(bytes, to, Path::new("standard output")),
            Part::File(_) => Ok(()),
        })
    }

    /// Writes standard output to a file, which appears when it is whole.
    pub fn save_stdout(&mut self, path: &Path) -> Result<(), ClientError> {
        let mut file = NewFile::create(path, ORDINARY)?;
        self.write_stdout(&mut file)?;
        file.keep()
    }

    /// Writes everything to a folder.
    pub fn save_folder(&mut self, folder: &Path) -> Result<(), ClientError> {
        check_replaceable(folder)?;
        let beside = beside(folder)?;
        let result = self.fill(&beside).and_then(|()| put_in_place(&beside, folder));
        if result.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&beside);
        }
        result
    }

    fn fill(&mut self, folder: &Path) -> Result<(), ClientError> {
        let files = folder.join(FILES);
        fs::create_dir_all(&files).map_err(failed("create", &files))?;
        self.each(&mut |part, bytes| {
            let path = match part {
                Part::Stdout => folder.join(STDOUT),
                Part::File(path) => files.join(path.as_str()),
            };
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(failed("create", parent))?;
            }
            let mut file = NewFile::create(&path, ORDINARY)?;
            copy(bytes, &mut file, &path)?;
            file.keep()
        })
    }
}

/// Refuses a folder that holds anything but an earlier output: standard output and files, both.
fn check_replaceable(folder: &Path) -> Result<(), ClientError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", folder)(error)),
    };
    let mut seen = 0;
    for entry in entries {
        let entry = entry.map_err(failed("read", folder))?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(failed("read", folder))?);
        let ours = (name == STDOUT && kind.is_file()) || (name == FILES && kind.is_dir());
        seen += 1;
        if !ours {
            let text = format!(
                "{} holds `{}`, which is no earlier output; name an empty folder",
                folder.display(),
                name.display()
            );
            return Err(ClientError::Input(text));
        }
    }
    if seen == 1 {
        let text = format!("{} holds only half of an output, so it is none; name an empty folder", folder.display());
        return Err(ClientError::Input(text));
    }
    Ok(())
}

fn beside(folder: &Path) -> Result<PathBuf, ClientError> {
    let name = folder.file_name().ok_or_else(|| {
        ClientError::Input(format!("{} cannot be replaced; name a folder below it", folder.display()))
    })?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.new", std::process::id()));
    let beside = folder.with_file_name(beside);
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &beside)(error)),
        _ => Ok(beside),
    }
}

fn put_in_place(beside: &Path, folder: &Path) -> Result<(), ClientError> {
    let mut old = beside.as_os_str().to_owned();
    old.push(".old");
    let old = PathBuf::from(old);
    // Aside first, so that there is always an old output or a new one.
    match fs::rename(folder, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("replace", folder)(error)),
        moved => {
            fs::rename(beside, folder).map_err(failed("write", folder))?;
            if moved.is_ok() {
                fs::remove_dir_all(&old).map_err(failed("remove", &old))?;
            }
            Ok(())
        }
    }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, path: &Path) -> Result<(), ClientError> {
    io::copy(from, to).and_then(|_| to.flush()).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_folder_with_other_things_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        check_replaceable(&folder.path().join("absent")).unwrap();
        check_replaceable(folder.path()).unwrap();
        fs::write(folder.path().join(STDOUT), "").unwrap();
        assert!(check_replaceable(folder.path()).is_err(), "half an output is somebody's own folder");
        fs::create_dir(folder.path().join(FILES)).unwrap();
        check_replaceable(folder.path()).unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(check_replaceable(folder.path()), Err(ClientError::Input(_))));
    }
}
