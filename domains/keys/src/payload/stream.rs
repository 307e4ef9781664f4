//! One section: AES-256-GCM in chunks, with the place and the end in each nonce (STREAM).
//!
//! Memory is constant: one chunk. A sealer holds a chunk back until it knows whether it is the last;
//! an opener releases nothing of a chunk before it authenticates. What the reader has from earlier
//! chunks is authentic but may yet turn out cut short: make no use of it before the end is reached.

use super::header::SectionKind;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use decores_secrets::{Secret, Zeroizing};
use std::io::{self, Read, Write};

/// Plaintext bytes in every chunk but the last.
pub const CHUNK_BYTES: usize = 65_536;
/// Bytes that sealing adds to a chunk.
pub const TAG_BYTES: usize = 16;

/// Why a section was refused; inside the [`io::Error`] that reading or writing gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The input ends inside the section.
    #[error("the sealed data ends early")]
    Truncated,
    /// A chunk was altered, moved, repeated or left out, or the section was cut or lengthened.
    #[error("chunk {0} of the sealed data does not authenticate")]
    Chunk(u32),
    /// An empty chunk after others: every section has one form only.
    #[error("an empty chunk ends sealed data that is not empty")]
    EmptyChunk,
    /// Something follows the last section.
    #[error("bytes follow the end of the sealed data")]
    Trailing,
    /// More or fewer bytes were written than the header says.
    #[error("the data has not the length that was announced")]
    Length,
    /// More chunks than the counter can number (256 TiB).
    #[error("the data is too long for one section")]
    TooLong,
    /// An error came before.
    #[error("the sealed data was refused before")]
    Ended,
    /// The key has not 32 bytes.
    #[error("the key has not 32 bytes")]
    Key,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Truncated => io::ErrorKind::UnexpectedEof,
            StreamError::Length | StreamError::TooLong | StreamError::Key => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// The sealed length of a section with this plaintext's length.
pub const fn sealed_len(plain: u64) -> u64 {
    let chunks = if plain == 0 { 1 } else { plain.div_ceil(CHUNK_BYTES as u64) };
    plain.saturating_add(chunks * TAG_BYTES as u64)
}

/// Refuses any byte that follows the last section.
pub fn expect_end(reader: &mut impl Read) -> io::Result<()> {
    match read_up_to(reader, &mut [0])? {
        0 => Ok(()),
        _ => Err(StreamError::Trailing.into()),
    }
}

/// A section's data key.
#[derive(Debug)]
pub struct SectionKey {
    section: SectionKind,
    key: Secret,
}

impl SectionKey {
    /// The data key of a section, as it was drawn, opened or handed over.
    pub const fn new(section: SectionKind, key: Secret) -> Self {
        Self { section, key }
    }

    /// The 32 bytes, to hand over to another process.
    pub fn expose(&self) -> &[u8] {
        self.key.expose()
    }

    /// The section it is for.
    pub const fn section(&self) -> SectionKind {
        self.section
    }

    /// Zeroes the key and reads it back: evidence for a wipe.
    pub fn destroy(self) -> bool {
        self.key.destroy()
    }

    /// The cipher; AWS-LC holds its expanded key until it is dropped, and wipes it then.
    fn cipher(&self) -> Result<Chunks, StreamError> {
        let key = UnboundKey::new(&AES_256_GCM, self.key.expose()).map_err(|_| StreamError::Key)?;
        Ok(Chunks { key: LessSafeKey::new(key), section: self.section.number(), next: Some(0) })
    }
}

/// The key and the place of the next chunk.
struct Chunks {
    key: LessSafeKey,
    section: u8,
    next: Option<u32>,
}

impl Chunks {
    /// The next chunk's number and nonce: section, zeroes, counter, whether it is the last.
    fn advance(&mut self, last: bool) -> Result<(u32, Nonce), StreamError> {
        let number = self.next.ok_or(StreamError::TooLong)?;
        self.next = number.checked_add(1);
        let [a, b, c, d] = number.to_be_bytes();
        let nonce = [self.section, 0, 0, 0, 0, 0, 0, a, b, c, d, u8::from(last)];
        Ok((number, Nonce::assume_unique_for_key(nonce)))
    }

    /// Seals in place and appends the tag.
    fn seal(&mut self, last: bool, chunk: &mut Vec<u8>) -> Result<(), StreamError> {
        let (number, nonce) = self.advance(last)?;
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), chunk).map_err(|_| StreamError::Chunk(number))
    }

    /// Opens in place; the plaintext's length.
    fn open(&mut self, last: bool, chunk: &mut [u8]) -> Result<usize, StreamError> {
        let (number, nonce) = self.advance(last)?;
        let plain = self.key.open_in_place(nonce, Aad::empty(), chunk).map_err(|_| StreamError::Chunk(number))?;
        if plain.is_empty() && number > 0 {
            return Err(StreamError::EmptyChunk);
        }
        Ok(plain.len())
    }
}

/// Seals what is written to it; [`Self::finish`] writes the last chunk, without which it does not open.
pub struct StreamSealer<W> {
    writer: W,
    chunks: Chunks,
    buffer: Zeroizing<Vec<u8>>,
    left: Option<u64>,
    failed: bool,
}

impl<W: Write> StreamSealer<W> {
    /// A section of `length` bytes of plaintext, or to the end.
    pub fn new(key: &SectionKey, length: Option<u64>, writer: W) -> Result<Self, StreamError> {
        let buffer = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + TAG_BYTES));
        Ok(Self { writer, chunks: key.cipher()?, buffer, left: length, failed: false })
    }

    /// Writes the last chunk; the writer, for what follows.
    pub fn finish(mut self) -> io::Result<W> {
        if self.failed {
            return Err(StreamError::Ended.into());
        }
        if self.left.is_some_and(|left| left > 0) {
            return Err(StreamError::Length.into());
        }
        self.emit(true)?;
        Ok(self.writer)
    }

    fn emit(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.chunks.seal(last, &mut self.buffer).map_err(io::Error::from);
        let result = sealed.and_then(|()| self.writer.write_all(&self.buffer));
        self.failed = result.is_err();
        self.buffer.clear();
        result
    }
}

impl<W: Write> Write for StreamSealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(StreamError::Ended.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        if let Some(left) = self.left {
            self.left = Some(left.checked_sub(bytes.len() as u64).ok_or(StreamError::Length)?);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // Only now is it known that the full chunk is not the last.
            if self.buffer.len() == CHUNK_BYTES {
                self.emit(false)?;
            }
            let count = rest.len().min(CHUNK_BYTES - self.buffer.len());
            let (now, later) = rest.split_at(count);
            self.buffer.extend_from_slice(now);
            rest = later;
        }
        Ok(bytes.len())
    }

    /// Flushes the writer; a chunk that is not full stays until [`StreamSealer::finish`].
    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Opens what it reads; gives an error of kind `InvalidData` or `UnexpectedEof` for what is refused.
pub struct StreamOpener<R> {
    reader: R,
    chunks: Chunks,
    buffer: Zeroizing<Vec<u8>>,
    /// The part of `buffer` that is open and not yet read.
    open: std::ops::Range<usize>,
    /// Plaintext yet to come; `None` goes to the end.
    left: Option<u64>,
    /// A byte of the next chunk, read to know that there is one.
    ahead: Option<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Complete,
    Failed,
}

impl<R: Read> StreamOpener<R> {
    /// A section of `length` bytes of plaintext, or to the end; `reader` stands at its first chunk.
    pub fn new(key: &SectionKey, length: Option<u64>, reader: R) -> Result<Self, StreamError> {
        Ok(Self {
            reader,
            chunks: key.cipher()?,
            buffer: Zeroizing::new(vec![0; CHUNK_BYTES + TAG_BYTES]),
            open: 0..0,
            left: length,
            ahead: None,
            state: State::Reading,
        })
    }

    /// Whether the last chunk was opened: the section is whole.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// The reader, behind the section; refuses one that was not read to its end.
    pub fn finish(self) -> io::Result<R> {
        match self.state {
            State::Complete if self.open.is_empty() => Ok(self.reader),
            State::Failed => Err(StreamError::Ended.into()),
            State::Complete | State::Reading => Err(StreamError::Length.into()),
        }
    }

    /// Reads and opens the next chunk.
    fn next_chunk(&mut self) -> io::Result<()> {
        let (len, last) = match self.left {
            Some(left) => self.read_measured(left)?,
            None => self.read_to_end()?,
        };
        let Some(chunk) = self.buffer.get_mut(..len) else { return Err(StreamError::Truncated.into()) };
        let plain = self.chunks.open(last, chunk)?;
        self.open = 0..plain;
        self.left = self.left.map(|left| left.saturating_sub(plain as u64));
        if last {
            self.state = State::Complete;
        }
        Ok(())
    }

    /// Reads the next of the chunks that hold `left` bytes of plaintext; its length, whether it is the last.
    fn read_measured(&mut self, left: u64) -> io::Result<(usize, bool)> {
        let last = left <= CHUNK_BYTES as u64;
        let len = if last { left as usize } else { CHUNK_BYTES } + TAG_BYTES;
        let Some(chunk) = self.buffer.get_mut(..len) else { return Err(StreamError::Truncated.into()) };
        if read_up_to(&mut self.reader, chunk)? < len {
            return Err(StreamError::Truncated.into());
        }
        Ok((len, last))
    }

    /// Reads the next chunk, and one byte more to learn whether it is the last.
    fn read_to_end(&mut self) -> io::Result<(usize, bool)> {
        let mut len = 0;
        if let (Some(byte), Some(first)) = (self.ahead.take(), self.buffer.first_mut()) {
            *first = byte;
            len = 1;
        }
        if let Some(rest) = self.buffer.get_mut(len..) {
            len += read_up_to(&mut self.reader, rest)?;
        }
        if len < TAG_BYTES {
            return Err(StreamError::Truncated.into());
        }
        let mut next = [0];
        if len == CHUNK_BYTES + TAG_BYTES && read_up_to(&mut self.reader, &mut next)? == 1 {
            self.ahead = Some(next[0]);
        }
        Ok((len, self.ahead.is_none()))
    }
}

impl<R: Read> Read for StreamOpener<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.open.is_empty() {
            match self.state {
                State::Complete => return Ok(0),
                State::Failed => return Err(StreamError::Ended.into()),
                State::Reading => self.next_chunk().inspect_err(|_| self.state = State::Failed)?,
            }
        }
        let count = out.len().min(self.open.len());
        let plain = self.buffer.get(self.open.start..self.open.start + count);
        let (Some(plain), Some(out)) = (plain, out.get_mut(..count)) else { return Ok(0) };
        out.copy_from_slice(plain);
        self.open.start += count;
        Ok(count)
    }
}

/// Reads until `out` is full or the input ends; how much was read.
fn read_up_to(reader: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
