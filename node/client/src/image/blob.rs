//! Bytes in a file that stays open, and reading them with a digest.

use super::error::ImageError;
use crate::ClientError;
use crate::files::failed;
use decores_types::Digest;
use decores_types::digest::Hasher;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part of an open file, or all of it.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
    size: u64,
}

impl Blob {
    /// A whole file; it must be a regular one.
    pub(super) fn open(path: &Path) -> Result<Self, ClientError> {
        let file = File::open(path).map_err(failed("read", path))?;
        let meta = file.metadata().map_err(failed("read", path))?;
        if !meta.is_file() {
            return Err(ClientError::Input(format!("{} is not a regular file", path.display())));
        }
        Ok(Self::of(file, path, meta.len()))
    }

    /// The first `size` bytes of this file.
    pub(super) fn of(file: File, path: &Path, size: u64) -> Self {
        Self { file: Arc::new(file), path: path.to_owned(), offset: 0, size }
    }

    /// A part of it; the end is cut where it has none.
    pub(super) fn part(&self, offset: u64, size: u64) -> Self {
        let left = self.size.saturating_sub(offset);
        Self { offset: self.offset.saturating_add(offset), size: size.min(left), ..self.clone() }
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn reader(&self) -> BlobReader {
        BlobReader { blob: self.clone(), at: 0 }
    }

    /// Gives an I/O error the file.
    pub(super) fn failed(&self, error: io::Error) -> ClientError {
        failed("read", &self.path)(error)
    }

    /// All of a document.
    pub(super) fn document(&self, what: &str) -> Result<Vec<u8>, ImageError> {
        if self.size > super::document::MAX_DOCUMENT {
            return Err(ImageError::Unfit(format!("{what} has {} bytes, which is too many", self.size)));
        }
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes).map_err(|e| self.failed(e))?;
        Ok(bytes)
    }
}

/// Reads a blob from its start.
pub(super) struct BlobReader {
    blob: Blob,
    at: u64,
}

impl Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.blob.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = left.min(into.len());
        let into = into.get_mut(..most).unwrap_or_default();
        let n = self.blob.file.read_at(into, self.blob.offset.saturating_add(self.at))?;
        self.at = self.at.saturating_add(n as u64);
        Ok(n)
    }
}

/// Passes bytes on and makes their digest.
pub(super) struct Hashing<R> {
    source: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, hasher: Hasher::new(), size: 0 }
    }

    /// Reads to the end; the size and digest of all.
    pub(super) fn finish(mut self) -> io::Result<(u64, Digest)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.size, self.hasher.finish()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(into)?;
        self.hasher.update(into.get(..n).unwrap_or_default());
        self.size = self.size.saturating_add(n as u64);
        Ok(n)
    }
}
