//! One layer: that it is what its digests say, and what it takes unpacked.

use super::archive;
use super::blob::{Blob, Hashing};
use super::document::Descriptor;
use super::error::ImageError;
use decores_types::Digest;
use decores_types::digest::Hasher;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

const BUFFER: usize = 64 << 10;
/// Most bytes that the layers of an image may have unpacked.
pub(super) const MAX_UNPACKED: u64 = 64 << 30;
/// A page of memory, of which a file takes whole ones.
const PAGE: u64 = 4096;
/// What a file takes beside its content.
const INODE: u64 = 1024;

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stored {
    Plain,
    Gzip,
    Zstd,
}

impl Stored {
    pub(super) fn of(descriptor: &Descriptor) -> Result<Self, ImageError> {
        match descriptor.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
                Ok(Self::Plain)
            }
            "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
                Ok(Self::Gzip)
            }
            "application/vnd.oci.image.layer.v1.tar+zstd" => Ok(Self::Zstd),
            other => Err(ImageError::Unfit(format!("a layer is `{}`, which is not taken", other.escape_debug()))),
        }
    }

    /// By its first bytes, where nothing else says it.
    pub(super) fn guess(blob: &Blob) -> Result<Self, ImageError> {
        let mut start = Vec::new();
        blob.part(0, 4).reader().read_to_end(&mut start).map_err(|e| blob.failed(e))?;
        Ok(match start.as_slice() {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
            _ => Self::Plain,
        })
    }
}

/// What a layer must be.
pub(super) struct Expected<'a> {
    /// What it is called in errors.
    pub(super) what: String,
    pub(super) stored: Stored,
    /// Its digest as it is stored, where that is known.
    pub(super) digest: Option<&'a Digest>,
    /// The digest of its content.
    pub(super) diff_id: &'a Digest,
}

/// The layers of one image, as they are read.
pub(super) struct Layers {
    /// Bytes that further ones may have unpacked.
    left: u64,
    /// What was read already: an image may name a layer many times.
    known: BTreeMap<(String, Stored, Digest), Takes>,
    /// Bytes that all of them take unpacked, about.
    pub(super) unpacked_bytes: u64,
}

/// What a layer takes unpacked.
#[derive(Clone, Copy)]
struct Takes {
    /// Bytes of its archive.
    size: u64,
    /// Bytes of what is made of it, about.
    files: u64,
}

impl Layers {
    /// None yet, which may have `most` bytes unpacked.
    pub(super) const fn new(most: u64) -> Self {
        Self { left: most, known: BTreeMap::new(), unpacked_bytes: 0 }
    }

    /// Takes one in, and reads all of it where it is new; tells `read` of every piece.
    pub(super) fn check(
        &mut self,
        blob: &Blob,
        expected: Expected<'_>,
        read: &mut dyn FnMut(u64),
    ) -> Result<(), ImageError> {
        let name = (expected.what, expected.stored, *expected.diff_id);
        let expected = Expected { what: name.0.clone(), ..expected };
        let takes = match self.known.get(&name) {
            Some(takes) => *takes,
            None => check(blob, &expected, self.left, read)?,
        };
        self.left = self.left.checked_sub(takes.size).ok_or_else(|| too_large(&expected.what))?;
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(takes.files);
        self.known.insert(name, takes);
        Ok(())
    }
}

fn too_large(what: &str) -> ImageError {
    ImageError::Unfit(format!("with {what} its layers have more than {MAX_UNPACKED} bytes unpacked"))
}

/// Reads all of a layer, which may have `most` bytes unpacked.
fn check(blob: &Blob, expected: &Expected<'_>, most: u64, read: &mut dyn FnMut(u64)) -> Result<Takes, ImageError> {
    let corrupt = |found: String| ImageError::Corrupt { what: expected.what.clone(), found };
    let mut stored = BufReader::with_capacity(BUFFER, Hashing::new(blob.reader()));
    let mut content = Content { most, ..Content::default() };
    let decoded = match expected.stored {
        Stored::Plain => content.take(&mut stored, read),
        Stored::Gzip => content.take(&mut MultiGzDecoder::new(&mut stored), read),
        Stored::Zstd => zstd(&mut stored, &mut content, read),
    };
    if let Err(error) = &decoded
        && error.kind() == io::ErrorKind::FileTooLarge
    {
        return Err(too_large(&expected.what));
    }
    let (_, digest) = stored.into_inner().finish().map_err(|e| blob.failed(e))?;
    if let Some(wanted) = expected.digest
        && digest != *wanted
    {
        return Err(ImageError::wrong_digest(&expected.what, &digest));
    }
    decoded.map_err(|e| corrupt(format!("no {} ({e})", expected.stored.name())))?;
    let (takes, digest) = content.finish();
    if digest == *expected.diff_id { Ok(takes) } else { Err(corrupt(format!("{digest} unpacked"))) }
}

impl Stored {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "file",
            Self::Gzip => "gzip stream",
            Self::Zstd => "zstd stream",
        }
    }
}

/// All frames of a stream; those that hold no content are passed over.
fn zstd(stored: &mut impl BufRead, content: &mut Content, read: &mut dyn FnMut(u64)) -> io::Result<()> {
    while !stored.fill_buf()?.is_empty() {
        match StreamingDecoder::new(&mut *stored) {
            Ok(mut frame) => content.take(&mut frame, read)?,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let skipped = io::copy(&mut stored.by_ref().take(u64::from(length)), &mut io::sink())?;
                if skipped < u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
    Ok(())
}

/// The content of a layer: its digest, and what its files take. What is no tar is counted wrongly, and refused later.
#[derive(Default)]
struct Content {
    hasher: Hasher,
    size: u64,
    /// As many bytes as it may have.
    most: u64,
    unpacked: u64,
    header: Vec<u8>,
    /// Bytes up to the next header.
    skip: u64,
}

impl Content {
    fn take(&mut self, from: &mut impl Read, read: &mut dyn FnMut(u64)) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            self.hasher.update(bytes);
            self.size = self.size.saturating_add(n as u64);
            if self.size > self.most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.count(bytes);
            read(n as u64);
        }
    }

    fn count(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let most = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= most as u64;
                bytes = bytes.get(most..).unwrap_or_default();
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(512 - self.header.len()));
            self.header.extend_from_slice(part);
            bytes = rest;
            if let Ok(header) = <[u8; 512]>::try_from(self.header.as_slice()) {
                self.header.clear();
                let size = archive::size(&header).unwrap_or(0);
                self.skip = size.checked_next_multiple_of(512).unwrap_or(u64::MAX);
                if header.iter().any(|b| *b != 0) {
                    let takes = size.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
                    self.unpacked = self.unpacked.saturating_add(takes).saturating_add(INODE);
                }
            }
        }
    }

    fn finish(self) -> (Takes, Digest) {
        (Takes { size: self.size, files: self.unpacked }, self.hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write as _;

    const LAYER: usize = 1 << 20;

    /// A layer of zeros, packed, and its digest unpacked.
    fn bomb() -> (tempfile::TempDir, Blob, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let zeros = vec![0; LAYER];
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&zeros).unwrap();
        std::fs::write(folder.path().join("layer"), packed.finish().unwrap()).unwrap();
        let blob = Blob::open(&folder.path().join("layer")).unwrap();
        (folder, blob, Digest::of(&zeros))
    }

    #[test]
    fn layers_that_have_too_much_only_together_are_refused() {
        let (_folder, blob, diff_id) = bomb();
        let expected =
            |what: &str| Expected { what: what.to_owned(), stored: Stored::Gzip, digest: None, diff_id: &diff_id };
        for second in ["one", "two"] {
            let mut layers = Layers::new(LAYER as u64 + 1000);
            layers.check(&blob, expected("one"), &mut |_| {}).unwrap();
            let error = layers.check(&blob, expected(second), &mut |_| {}).unwrap_err();
            assert!(matches!(&error, ImageError::Unfit(why) if why.contains(second)), "{error}");
        }
        assert!(Layers::new(LAYER as u64 - 1).check(&blob, expected("one"), &mut |_| {}).is_err());
    }

    #[test]
    fn a_layer_that_is_named_many_times_is_read_once() {
        let (_folder, blob, diff_id) = bomb();
        let expected = || Expected { what: "one".to_owned(), stored: Stored::Gzip, digest: None, diff_id: &diff_id };
        let (mut layers, mut inflated) = (Layers::new(u64::MAX), 0);
        for _ in 0..127 {
            layers.check(&blob, expected(), &mut |n| inflated += n).unwrap();
        }
        assert_eq!(inflated, LAYER as u64);
        let other = Digest::of(b"other");
        let lie = Expected { diff_id: &other, ..expected() };
        assert!(matches!(layers.check(&blob, lie, &mut |_| {}), Err(ImageError::Corrupt { .. })), "another content");
    }
}
