//! The head: the header, the encapsulated key and the sealed data keys.

use super::header::{FIXED, Header, PER_SECTION, PayloadError};
use std::io::Read;

/// Bytes of an X-Wing encapsulated key.
pub(super) const ENCAPPED: usize = 1120;
/// Bytes of the HPKE ciphertext's tag.
pub(super) const TAG: usize = 16;

/// A head that was read, not yet opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    header: Header,
    bytes: Vec<u8>,
}

impl Head {
    /// The longest head, in bytes.
    pub const MAX_BYTES: usize = FIXED + 2 * PER_SECTION + ENCAPPED + 3 * 32 + TAG;

    /// Reads exactly the head; the first section follows.
    pub fn read(reader: &mut impl Read) -> Result<Self, PayloadError> {
        let mut fixed = [0; FIXED];
        reader.read_exact(&mut fixed).map_err(PayloadError::Read)?;
        let mut header = Header::read_fixed(&fixed)?;
        let mut bytes = fixed.to_vec();
        let sections = PER_SECTION * header.kind.sections().len();
        let list = read_more(reader, &mut bytes, sections)?;
        header.read_sections(list)?;
        read_more(reader, &mut bytes, ENCAPPED + header.kind.secret_bytes() + TAG)?;
        Ok(Self { header, bytes })
    }

    /// The clear part.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// All bytes, as they were read.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The header's bytes, the encapsulated key, the sealed keys without their tag, the tag.
    pub(super) fn parts(&self) -> (&[u8], &[u8], &[u8], &[u8]) {
        let (header, rest) = split(&self.bytes, FIXED + PER_SECTION * self.header.sections.len());
        let (encapped, rest) = split(rest, ENCAPPED);
        let (sealed, tag) = split(rest, self.header.kind.secret_bytes());
        (header, encapped, sealed, tag)
    }
}

fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(at).unwrap_or((bytes, &[]))
}

/// Appends exactly `count` bytes of `reader` to `bytes`; what was appended.
fn read_more<'a>(reader: &mut impl Read, bytes: &'a mut Vec<u8>, count: usize) -> Result<&'a [u8], PayloadError> {
    let start = bytes.len();
    bytes.resize(start + count, 0);
    let (_, new) = bytes.split_at_mut(start);
    reader.read_exact(new).map_err(PayloadError::Read)?;
    Ok(new)
}
