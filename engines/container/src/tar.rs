//! A strict reader of tar: headers of POSIX (ustar, pax) and GNU, each with a limit, and nothing that two readers
//! could read in two ways.

use std::io::{self, Read};

const BLOCK: usize = 512;
/// Longest path and link target, in bytes; Linux takes no longer ones.
pub(crate) const MAX_PATH: usize = 4095;
/// Largest extended header, in bytes.
const MAX_EXTENDED: u64 = 256 << 10;
/// Most extended headers before one entry.
const MAX_IN_A_ROW: usize = 8;

/// Why an archive is not read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// What it is read from failed.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is not an archive as it should be.
    #[error("{0}")]
    Bad(String),
}

fn bad(why: impl Into<String>) -> TarError {
    TarError::Bad(why.into())
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    SymLink,
    HardLink,
    /// A device or a pipe.
    Special,
}

/// One entry; its content is read from the [`Tar`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
}

/// An archive that is read entry by entry, to its very end.
pub(crate) struct Tar<R> {
    source: R,
    /// Bytes of the entry's content that were not read yet.
    left: u64,
    /// Bytes of padding after them.
    padding: u64,
}

/// What extended headers said of the entry that follows.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<i64>,
}

impl<R: Read> Tar<R> {
    pub(crate) const fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// What it was read from.
    pub(crate) fn into_source(self) -> R {
        self.source
    }

    /// The next entry; none at the end, after which nothing but zeros was found.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        for _ in 0..=MAX_IN_A_ROW {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.size()?;
            match header.flag() {
                b'L' => extended.path = Some(self.long_name(size)?),
                b'K' => extended.link = Some(self.long_name(size)?),
                b'x' => extended.records(&self.small(size)?)?,
                // Holds for all entries that follow: only what says nothing about them is let pass.
                b'g' => {
                    let mut all = Extended::default();
                    all.records(&self.small(size)?)?;
                    if all.path.is_some() || all.link.is_some() || all.size.is_some() {
                        return Err(bad("a global header names a path or a size"));
                    }
                }
                flag => {
                    let entry = header.entry(flag, size, extended)?;
                    (self.left, self.padding) = (entry.size, padding(entry.size));
                    return Ok(Some(entry));
                }
            }
        }
        Err(bad(format!("more than {MAX_IN_A_ROW} extended headers in a row")))
    }

    /// Reads over what is left of an entry.
    fn skip(&mut self) -> Result<(), TarError> {
        let (content, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        if self.pass_over(content)? < content {
            return Err(bad("it ends inside an entry"));
        }
        // Some writers leave out the very last padding.
        self.pass_over(padding).map(drop)
    }

    /// How much of this there was.
    fn pass_over(&mut self, length: u64) -> Result<u64, TarError> {
        let mut buffer = [0; 8192];
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match read(&mut self.source, buffer.get_mut(..most).unwrap_or_default())? {
                0 => break,
                n => left -= n as u64,
            }
        }
        Ok(length - left)
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK];
        match fill(&mut self.source, &mut block)? {
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(bad("it ends inside a header")),
        }
        if block.iter().all(|b| *b == 0) {
            return self.only_zeros().map(|()| None);
        }
        let header = Header(block);
        if header.checksum()? == header.sum() { Ok(Some(header)) } else { Err(bad("a header's checksum is wrong")) }
    }

    fn only_zeros(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 8192];
        loop {
            let n = read(&mut self.source, &mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            if buffer.iter().take(n).any(|b| *b != 0) {
                return Err(bad("bytes follow its end"));
            }
        }
    }

    /// The content of an extended header.
    fn small(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENDED {
            return Err(bad(format!("an extended header has more than {MAX_EXTENDED} bytes")));
        }
        let mut content = vec![0; size as usize];
        if fill(&mut self.source, &mut content)? < content.len() {
            return Err(bad("it ends inside an extended header"));
        }
        self.padding = padding(size);
        Ok(content)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.small(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

impl<R: Read> Read for Tar<R> {
    /// Content of the entry that came last.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let n = read(&mut self.source, into.get_mut(..most).unwrap_or_default())?;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Extended {
    /// Reads pax records: `LENGTH KEY=VALUE\n`, one after the other.
    fn records(&mut self, mut rest: &[u8]) -> Result<(), TarError> {
        let wrong = || bad("a pax header is not one");
        while !rest.is_empty() {
            let space = rest.iter().take(8).position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = decimal(rest.get(..space).unwrap_or_default()).ok_or_else(wrong)?;
            let length = usize::try_from(length).map_err(|_| wrong())?;
            let (record, after) = rest.split_at_checked(length).ok_or_else(wrong)?;
            let record = record.get(space + 1..).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(wrong)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = (record.get(..equals).unwrap_or_default(), record.get(equals + 1..).unwrap_or_default());
            self.record(key, value).ok_or_else(wrong)??;
            rest = after;
        }
        Ok(())
    }

    /// Takes what is known, refuses what changes how the content is laid out, lets the rest pass: owners, other
    /// times, and extended attributes are not kept.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<Result<(), TarError>> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(std::str::from_utf8(value).ok()?.split('.').next()?.parse().ok()?),
            key if key.starts_with(b"GNU.sparse") => return Some(Err(sparse())),
            _ => {}
        }
        Some(Ok(()))
    }
}

fn sparse() -> TarError {
    bad("an entry is sparse, which is not unpacked")
}

struct Header([u8; BLOCK]);

impl Header {
    fn field(&self, at: usize, length: usize) -> &[u8] {
        self.0.get(at..at + length).unwrap_or_default()
    }

    fn flag(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    fn size(&self) -> Result<u64, TarError> {
        number(self.field(124, 12)).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| bad("a size is no number"))
    }

    fn checksum(&self) -> Result<i64, TarError> {
        number(self.field(148, 8)).ok_or_else(|| bad("a header has no checksum"))
    }

    /// The sum over the header, with spaces in place of the checksum.
    fn sum(&self) -> i64 {
        let stored: i64 = self.field(148, 8).iter().map(|b| i64::from(*b)).sum();
        self.0.iter().map(|b| i64::from(*b)).sum::<i64>() - stored + 8 * i64::from(b' ')
    }

    fn path(&self) -> Vec<u8> {
        let name = until_zero(self.field(0, 100));
        // GNU keeps other things where POSIX has the first part of a long path.
        let prefix = if self.field(257, 6) == b"ustar\0" { until_zero(self.field(345, 155)) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    fn entry(&self, flag: u8, size: u64, extended: Extended) -> Result<Entry, TarError> {
        let path = extended.path.unwrap_or_else(|| self.path());
        let kind = match flag {
            // The oldest archives mark folders by their names alone.
            0 if path.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymLink,
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Folder,
            b'S' => return Err(sparse()),
            _ => return Err(bad(format!("an entry is of the unknown kind {:?}", char::from(flag)))),
        };
        if extended.size.is_some_and(|other| other != size) {
            return Err(bad("an entry has two sizes"));
        }
        if kind != Kind::File && size != 0 {
            return Err(bad("an entry that is no file has content"));
        }
        let link = extended.link.unwrap_or_else(|| until_zero(self.field(157, 100)).to_vec());
        for name in [&path, &link] {
            if name.len() > MAX_PATH {
                return Err(bad(format!("a path has more than {MAX_PATH} bytes")));
            }
            if name.contains(&0) {
                return Err(bad("a path has a zero byte in it"));
            }
        }
        let mode = number(self.field(100, 8)).and_then(|n| u32::try_from(n).ok());
        Ok(Entry {
            kind,
            path,
            link,
            mode: mode.ok_or_else(|| bad("a mode is no number"))?,
            size,
            mtime: extended.mtime.or_else(|| number(self.field(136, 12))).ok_or_else(|| bad("a time is no number"))?,
        })
    }
}

/// A number in octal digits, or in binary after a set first bit.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign; what does not fit is no number that anything here could have.
        let wide = if first & 0x40 == 0 { [0; 8] } else { [0xff; 8] };
        let (high, low) = field.split_at_checked(field.len().checked_sub(8)?)?;
        let marker = if first & 0x40 == 0 { 0x80 } else { 0xff };
        let rest_is_sign = high.first().is_none_or(|b| *b == marker)
            && high.get(1..).unwrap_or_default().iter().all(|b| *b == wide.first().copied().unwrap_or_default());
        let value = i64::from_be_bytes(low.try_into().ok()?);
        return (!high.is_empty() && rest_is_sign && (value < 0) == (first & 0x40 != 0)).then_some(value);
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    if text.is_empty() {
        return Some(0);
    }
    text.bytes().all(|b| b.is_ascii_digit()).then(|| i64::from_str_radix(text, 8).ok()).flatten()
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

const fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

/// One read that no signal interrupts.
fn read(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(into) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Reads as much as fits or is there.
fn fill(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
        match read(source, rest)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}
