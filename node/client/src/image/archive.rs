//! Where the files of a tar lie in it. Only plain names are read: those that images are written with.

use super::blob::Blob;
use super::error::ImageError;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

const BLOCK: u64 = 512;
/// Most entries of an archive that holds images.
const MAX_ENTRIES: usize = 65_536;
/// Links that are followed to a file.
const MAX_LINKS: usize = 4;

/// A tar, by its files' names.
pub(super) struct Archive {
    file: Blob,
    members: BTreeMap<String, Member>,
}

enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

fn unfit(why: impl std::fmt::Display) -> ImageError {
    ImageError::Unfit(format!("it is no archive of images: {why}"))
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, ImageError> {
        let file = Blob::open(path)?;
        let mut members = BTreeMap::new();
        let mut offset = 0;
        while let Some(header) = header(&file, offset)? {
            let size = size(&header).ok_or_else(|| unfit("an entry has no size"))?;
            offset = offset.saturating_add(BLOCK);
            if size > file.size().saturating_sub(offset) {
                return Err(unfit("it ends inside an entry"));
            }
            let member = match header.get(156) {
                Some(0 | b'0') => Some(Member::File { offset, size }),
                Some(b'2') => Some(Member::Link(text(&header, 157..257)?)),
                Some(b'x') => only_harmless(&file.part(offset, size)).map(|()| None)?,
                Some(b'L' | b'K') => return Err(unfit("an entry's name is longer than 100 bytes")),
                _ => None,
            };
            if let Some(member) = member
                && members.insert(plain(&name(&header)?), member).is_some()
            {
                return Err(unfit("an entry stands twice"));
            }
            if members.len() > MAX_ENTRIES {
                return Err(unfit(format!("it has more than {MAX_ENTRIES} files")));
            }
            offset = offset.saturating_add(size.next_multiple_of(BLOCK));
        }
        Ok(Self { file, members })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The file of this name.
    pub(super) fn get(&self, name: &str) -> Option<Blob> {
        let mut name = plain(name);
        for _ in 0..=MAX_LINKS {
            match self.members.get(&name)? {
                Member::File { offset, size } => return Some(self.file.part(*offset, *size)),
                Member::Link(target) => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    name = plain(&format!("{folder}/{target}"));
                }
            }
        }
        None
    }
}

/// The header at this place; none at the end.
fn header(file: &Blob, offset: u64) -> Result<Option<[u8; 512]>, ImageError> {
    if offset >= file.size() {
        return Ok(None);
    }
    let mut block = [0; BLOCK as usize];
    let read = file.part(offset, BLOCK).reader().read_exact(&mut block);
    read.map_err(|_| unfit("it ends inside a header"))?;
    if block.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    if block.get(257..262) != Some(b"ustar") {
        return Err(unfit("it is no tar"));
    }
    Ok(Some(block))
}

fn text(header: &[u8; 512], place: std::ops::Range<usize>) -> Result<String, ImageError> {
    let field = header.get(place).unwrap_or_default();
    let field = field.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8(field.to_vec()).map_err(|_| unfit("an entry's name is not UTF-8"))
}

fn name(header: &[u8; 512]) -> Result<String, ImageError> {
    let name = text(header, 0..100)?;
    // GNU's archives, with a space after `ustar`, keep other things where the prefix would be.
    let prefix = if header.get(262) == Some(&0) { text(header, 345..500)? } else { String::new() };
    Ok(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
}

/// The size of an entry: octal, or for large ones binary.
pub(super) fn size(header: &[u8; 512]) -> Option<u64> {
    let field = header.get(124..136)?;
    if field.first()? & 0x80 != 0 {
        return (field.first() == Some(&0x80) && field.get(1..4) == Some(&[0; 3]))
            .then(|| field.iter().skip(4).fold(0, |sum, b| sum << 8 | u64::from(*b)));
    }
    let digits = field.split(|b| *b == 0 || *b == b' ').find(|digits| !digits.is_empty()).unwrap_or_default();
    digits.iter().try_fold(0_u64, |sum, b| b.is_ascii_digit().then(|| sum << 3 | u64::from(b - b'0')))
}

/// Extended headers may say when a file was made, not what it is called or how long it is.
fn only_harmless(header: &Blob) -> Result<(), ImageError> {
    let text = header.document("an extended header")?;
    let says = |key: &[u8]| text.windows(key.len()).any(|part| part == key);
    if [b" path=".as_slice(), b" linkpath=", b" size="].into_iter().any(says) {
        return Err(unfit("an entry's name is longer than 100 bytes"));
    }
    Ok(())
}

/// A path without `.`, `..` and empty parts.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
