//! Sealed payloads, streamed in and out.

use crate::durable;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const TEMPORARY: &str = ".tmp-";
/// Most blobs that are listed.
const MAX_LISTED: usize = 1_000_000;

/// A blob's name: an id and a suffix, such as `job_0a…-1.payload`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName(String);

/// Why a blob was not written, read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Not an id and a suffix.
    #[error("`{0}` is not a blob's name: small letters, digits, `_` and `-`, a dot, and a suffix of small letters")]
    Name(String),
    /// There is one of this name.
    #[error("blob `{0}` exists")]
    Exists(BlobName),
    /// More than was allowed.
    #[error("blob `{name}` is larger than {max} bytes")]
    TooLarge {
        /// Which.
        name: BlobName,
        /// The most that was allowed.
        max: u64,
    },
    /// It is still there after it was deleted.
    #[error("blob `{0}` was deleted, but is still there")]
    StillThere(BlobName),
    /// The folder or a file in it cannot be used.
    #[error("failed to {doing} `{path}`")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl BlobName {
    /// Parses a name.
    ///
    /// # Errors
    /// If it could be anything but a plain file of ours.
    pub fn parse(text: &str) -> Result<Self, BlobError> {
        let stem_fits = |s: &str| {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
            !s.is_empty() && s.len() <= 100 && s.bytes().all(fits)
        };
        let suffix_fits = |s: &str| !s.is_empty() && s.len() <= 16 && s.bytes().all(|b| b.is_ascii_lowercase());
        match text.split_once('.') {
            Some((stem, suffix)) if stem_fits(stem) && suffix_fits(suffix) => Ok(Self(text.to_owned())),
            _ => Err(BlobError::Name(text.chars().take(120).collect::<String>().escape_debug().to_string())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for BlobName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    move |source| BlobError::Io { doing, path: path.to_owned(), source }
}

/// A folder of blobs. One process uses it.
#[derive(Clone, Debug)]
pub struct BlobStore {
    folder: PathBuf,
    stuck: Vec<BlobName>,
}

impl BlobStore {
    /// Takes or makes the folder; what a crash left half written is removed, and what cannot be is [`Self::stuck`].
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        durable::make_folder(folder).map_err(failed("create", folder))?;
        let mut stuck = Vec::new();
        for file in std::fs::read_dir(folder).map_err(failed("list", folder))? {
            let file = file.map_err(failed("list", folder))?;
            let name = file.file_name().to_string_lossy().strip_prefix(TEMPORARY).map(BlobName::parse);
            if let Some(Ok(name)) = name
                && durable::remove_if_there(&file.path()).is_err()
            {
                stuck.push(name);
            }
        }
        stuck.sort();
        Ok(Self { folder: folder.to_owned(), stuck })
    }

    /// Blobs that a crash left half written and that could not be removed when the store was opened.
    pub fn stuck(&self) -> &[BlobName] {
        &self.stuck
    }

    /// Starts a blob of at most `max` bytes; it is there once [`BlobWriter::commit`] returns.
    ///
    /// # Errors
    /// If there is one of this name, or one being written.
    pub fn create(&self, name: &BlobName, max: u64) -> Result<BlobWriter, BlobError> {
        let path = self.path(name);
        if path.try_exists().map_err(failed("look for", &path))? {
            return Err(BlobError::Exists(name.clone()));
        }
        let temporary = self.temporary(name);
        let file = match durable::create(&temporary) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(BlobError::Exists(name.clone())),
            Err(e) => return Err(failed("create", &temporary)(e)),
        };
        Ok(BlobWriter { file, temporary: Some(temporary), path, name: name.clone(), left: max, max, over: false })
    }

    /// Opens a blob for reading; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_blob(&self, name: &BlobName) -> Result<Option<File>, BlobError> {
        let path = self.path(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("open", &path)(e)),
        }
    }

    /// Deletes a blob, whole or half written by a writer that is gone, and looks that it is gone; whether there was a
    /// whole one.
    ///
    /// # Errors
    /// If it cannot be deleted, or is there still.
    pub fn delete(&self, name: &BlobName) -> Result<bool, BlobError> {
        let (path, temporary) = (self.path(name), self.temporary(name));
        let half = durable::remove_if_there(&temporary).map_err(failed("delete", &temporary));
        let was_there = durable::remove_if_there(&path).map_err(failed("delete", &path))?;
        half?;
        durable::sync_folder(&self.folder).map_err(failed("sync", &self.folder))?;
        for path in [path, temporary] {
            if path.try_exists().map_err(failed("look for", &path))? {
                return Err(BlobError::StillThere(name.clone()));
            }
        }
        Ok(was_there)
    }

    /// The names of all blobs, sorted. Files that are none of ours are left out.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<BlobName>, BlobError> {
        let files = std::fs::read_dir(&self.folder).map_err(failed("list", &self.folder))?;
        let mut names = Vec::new();
        for file in files.take(MAX_LISTED) {
            let file = file.map_err(failed("list", &self.folder))?;
            names.extend(file.file_name().to_str().and_then(|name| BlobName::parse(name).ok()));
        }
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &BlobName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    fn temporary(&self, name: &BlobName) -> PathBuf {
        self.folder.join(format!("{TEMPORARY}{name}"))
    }
}

/// A blob being written; dropped without [`Self::commit`], it never was.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    temporary: Option<PathBuf>,
    path: PathBuf,
    name: BlobName,
    left: u64,
    max: u64,
    over: bool,
}

impl BlobWriter {
    /// Makes the blob durable under its name.
    ///
    /// # Errors
    /// If more was written than allowed, or the disk does not take it.
    pub fn commit(mut self) -> Result<(), BlobError> {
        if self.over {
            return Err(BlobError::TooLarge { name: self.name.clone(), max: self.max });
        }
        if let Some(temporary) = &self.temporary {
            durable::finish(&self.file, temporary, &self.path).map_err(failed("write", &self.path))?;
        }
        self.temporary = None;
        Ok(())
    }

    /// Puts the blob under its name without waiting for the disk: a crash may take it.
    ///
    /// # Errors
    /// If more was written than allowed, or it cannot be renamed.
    pub fn commit_unsynced(mut self) -> Result<(), BlobError> {
        if self.over {
            return Err(BlobError::TooLarge { name: self.name.clone(), max: self.max });
        }
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.path).map_err(failed("rename", &self.path))?;
        }
        self.temporary = None;
        Ok(())
    }

    /// The file, for a program that writes by itself; what it writes is not counted against the limit.
    pub const fn file(&self) -> &File {
        &self.file
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.over = true;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the blob is larger than allowed"));
        }
        let written = self.file.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // If this fails, the next start removes it.
            let _ = durable::remove_if_there(&temporary);
        }
    }
}
