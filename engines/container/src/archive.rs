//! The archive an image comes in: its files, each in a file of ours that no name of the archive's chooses.

use crate::layer::parts;
use crate::refusal::{Refusal, doing, doing_io, shown};
use crate::root::Folder;
use crate::tar::{Entry, Kind, Tar, TarError};
use decores_types::Digest;
use decores_types::digest::Hasher;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

/// Most files of an archive.
const MAX_FILES: usize = 4096;
/// Largest index, manifest or configuration, in bytes.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// One file of the archive.
#[derive(Debug)]
pub(crate) struct Stored {
    number: usize,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// All files of the archive, by name.
pub(crate) struct Store<'a> {
    folder: &'a Folder,
    files: BTreeMap<String, Stored>,
    /// Files that are links to others.
    links: BTreeMap<String, String>,
}

impl<'a> Store<'a> {
    /// Takes everything in.
    pub(crate) fn fill<R: Read>(archive: &mut Tar<R>, folder: &'a Folder) -> Result<Self, Refusal> {
        let mut store = Self { folder, files: BTreeMap::new(), links: BTreeMap::new() };
        while let Some(entry) = archive.next().map_err(broken)? {
            store.take(&entry, archive).map_err(|e| e.within(&shown(&entry.path)))?;
        }
        Ok(store)
    }

    fn take<R: Read>(&mut self, entry: &Entry, archive: &mut Tar<R>) -> Result<(), Refusal> {
        if entry.path.starts_with(b"/") {
            return Err(Refusal::image("its path is absolute"));
        }
        let name = name(&parts(&entry.path)?)?;
        match entry.kind {
            Kind::Folder => return Ok(()),
            Kind::File => {}
            Kind::SymLink | Kind::HardLink => return self.link(name, entry),
            Kind::Special => return Err(Refusal::image("it is a device or a pipe")),
        }
        let number = self.files.len();
        if number == MAX_FILES {
            return Err(Refusal::image(format!("the archive has more than {MAX_FILES} files")));
        }
        self.expect_new(&name)?;
        let mut file = self.folder.make_file(number.to_string().as_bytes()).map_err(doing("making a file"))?;
        let digest = copy(archive, &mut file, entry.size)?;
        self.files.insert(name, Stored { number, digest, size: entry.size });
        Ok(())
    }

    /// A layer that stands in an older archive twice is a link the second time.
    fn link(&mut self, name: String, entry: &Entry) -> Result<(), Refusal> {
        if self.links.len() == MAX_FILES {
            return Err(Refusal::image(format!("the archive has more than {MAX_FILES} links")));
        }
        self.expect_new(&name)?;
        let link = std::str::from_utf8(&entry.link).map_err(|_| Refusal::image("its target is not UTF-8"))?;
        if link.starts_with('/') {
            return Err(Refusal::image("its target is absolute"));
        }
        // A symbolic link leads on from its own folder, a hard link from the top.
        let base = name.rsplit_once('/').filter(|_| entry.kind == Kind::SymLink).map_or("", |(above, _)| above);
        let mut target: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
        for part in link.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(target.pop().ok_or_else(|| Refusal::image("its target lies outside of the archive"))?),
                part => target.push(part),
            }
        }
        let target = target.join("/");
        self.links.insert(name, target);
        Ok(())
    }

    fn expect_new(&self, name: &str) -> Result<(), Refusal> {
        if self.files.contains_key(name) || self.links.contains_key(name) {
            return Err(Refusal::image("it stands in the archive twice"));
        }
        Ok(())
    }

    /// The file of this name, or that a link of this name leads to.
    pub(crate) fn find(&self, name: &str) -> Option<&Stored> {
        self.files.get(name).or_else(|| self.files.get(self.links.get(name)?))
    }

    /// Opens a file.
    pub(crate) fn open(&self, stored: &Stored) -> Result<File, Refusal> {
        self.folder.open_file(stored.number.to_string().as_bytes()).map_err(doing("opening a file"))
    }

    /// A whole document, if it is not too large.
    pub(crate) fn document(&self, stored: &Stored) -> Result<Vec<u8>, Refusal> {
        if stored.size > MAX_DOCUMENT {
            return Err(Refusal::image(format!("it has more than {MAX_DOCUMENT} bytes")));
        }
        let mut document = Vec::new();
        self.open(stored)?.read_to_end(&mut document).map_err(doing_io("reading a file"))?;
        Ok(document)
    }

    /// Removes everything.
    pub(crate) fn empty(self) -> Result<(), Refusal> {
        for stored in self.files.values() {
            self.folder.remove_file(stored.number.to_string().as_bytes()).map_err(doing("removing a file"))?;
        }
        Ok(())
    }
}

fn name(parts: &[&[u8]]) -> Result<String, Refusal> {
    String::from_utf8(parts.join(&b'/')).map_err(|_| Refusal::image("its name is not UTF-8"))
}

/// Copies a file's content; its digest.
fn copy<R: Read>(archive: &mut Tar<R>, file: &mut File, size: u64) -> Result<Digest, Refusal> {
    let (mut hasher, mut left, mut buffer) = (Hasher::new(), size, vec![0; 65_536]);
    while left > 0 {
        let n = archive.read(&mut buffer).map_err(|e| broken(e.into()))?;
        if n == 0 {
            return Err(Refusal::image("the archive ends inside it"));
        }
        let part = buffer.get(..n).unwrap_or_default();
        hasher.update(part);
        file.write_all(part).map_err(doing_io("writing a file"))?;
        left = left.saturating_sub(n as u64);
    }
    Ok(hasher.finish())
}

fn broken(e: TarError) -> Refusal {
    match e {
        TarError::Read(e) => Refusal::Source(e),
        TarError::Bad(why) => Refusal::image(format!("the archive is not one: {why}")),
    }
}

/// Reads and hashes all that passes.
pub(crate) struct Hashed<R> {
    source: R,
    hasher: Hasher,
    /// How much more may pass.
    left: u64,
}

impl<R: Read> Hashed<R> {
    /// Gives no more than `most` bytes; the next one is an error of the kind `StorageFull`.
    pub(crate) fn new(source: R, most: u64) -> Self {
        Self { source, hasher: Hasher::new(), left: most }
    }

    /// How much more may pass.
    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    /// The digest of what passed, which is everything if it was read to its end.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(into)?;
        self.left = self.left.checked_sub(n as u64).ok_or(io::ErrorKind::StorageFull)?;
        self.hasher.update(into.get(..n).unwrap_or_default());
        Ok(n)
    }
}
