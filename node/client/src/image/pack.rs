//! The tar that an image becomes: headers made here, contents read where they are.

use super::blob::Blob;
use super::error::ImageError;
use decores_types::Digest;
use std::io::{self, Read};
use std::sync::Arc;

const BLOCK: u64 = 512;
/// Largest file of a tar whose header says its size in octal.
const MAX_FILE: u64 = (8 << 30) - 1;

/// A tar whose parts lie in memory and in open files.
#[derive(Clone, Debug)]
pub struct Packed {
    name: Arc<str>,
    digest: Digest,
    parts: Arc<[Part]>,
}

#[derive(Clone, Debug)]
enum Part {
    Bytes(Arc<[u8]>),
    Blob(Blob),
}

/// A tar that is being put together.
#[derive(Default)]
pub(super) struct Packing {
    parts: Vec<Part>,
    size: u64,
}

impl Packing {
    fn push(&mut self, part: Part) {
        self.size = self.size.saturating_add(part.size());
        self.parts.push(part);
    }

    fn pad(&mut self, size: u64) {
        let padding = size.next_multiple_of(BLOCK) - size;
        if padding > 0 {
            self.push(Part::Bytes(vec![0; padding as usize].into()));
        }
    }

    pub(super) fn bytes(&mut self, name: &str, content: &[u8]) -> Result<(), ImageError> {
        self.push(Part::Bytes(header(name, content.len() as u64)?.as_slice().into()));
        self.push(Part::Bytes(content.into()));
        self.pad(content.len() as u64);
        Ok(())
    }

    pub(super) fn blob(&mut self, name: &str, content: Blob) -> Result<(), ImageError> {
        let size = content.size();
        self.push(Part::Bytes(header(name, size)?.as_slice().into()));
        self.push(Part::Blob(content));
        self.pad(size);
        Ok(())
    }

    /// Ends it; its size too.
    pub(super) fn finish(mut self, name: &str, digest: Digest) -> (Packed, u64) {
        self.push(Part::Bytes(vec![0; 2 * BLOCK as usize].into()));
        (Packed { name: name.into(), digest, parts: self.parts.into() }, self.size)
    }
}

/// The header of a regular file, mode 0644, of nobody and no time.
fn header(name: &str, size: u64) -> Result<[u8; BLOCK as usize], ImageError> {
    if name.len() > 100 || size > MAX_FILE {
        return Err(ImageError::Unfit(format!("{name} has {size} bytes, at most {MAX_FILE} are sent")));
    }
    let mut header = [0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| {
        let to = header.iter_mut().skip(at);
        to.zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    let sum = format!("{sum:06o}\0 ");
    header.iter_mut().skip(148).zip(sum.as_bytes()).for_each(|(to, from)| *to = *from);
    Ok(header)
}

impl Part {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(blob) => blob.size(),
        }
    }

    fn reader(&self) -> Box<dyn Read + Send> {
        match self {
            Self::Bytes(bytes) => Box::new(io::Cursor::new(Arc::clone(bytes))),
            Self::Blob(blob) => Box::new(blob.reader()),
        }
    }
}

impl Packed {
    /// The digest that pins the image.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How the image was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it, from its start.
    pub(crate) fn reader(&self) -> impl Read + Send + use<> {
        Reader { parts: Arc::clone(&self.parts), next: 0, now: Box::new(io::empty()) }
    }
}

struct Reader {
    parts: Arc<[Part]>,
    next: usize,
    now: Box<dyn Read + Send>,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.now.read(into)? {
                0 if into.is_empty() => return Ok(0),
                0 => {}
                n => return Ok(n),
            }
            let Some(part) = self.parts.get(self.next) else { return Ok(0) };
            self.now = part.reader();
            self.next += 1;
        }
    }
}
