//! Sections as streams: what a hostile or unlucky reader and writer meet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use aead_stream::EncryptorBE32;
use aes_gcm::{Aes256Gcm, KeyInit};
use decores_keys::payload::{CHUNK_BYTES, SectionKey, SectionKind, StreamError, StreamOpener, StreamSealer};
use decores_secrets::Secret;
use std::io::{self, ErrorKind, Read, Write};

fn key() -> SectionKey {
    SectionKey::new(SectionKind::Input, Secret::from_slice(&[7; 32]).unwrap())
}

fn seal(plain: &[u8]) -> Vec<u8> {
    let mut sealer = StreamSealer::new(&key(), None, Vec::new()).unwrap();
    sealer.write_all(plain).unwrap();
    sealer.finish().unwrap()
}

fn open(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut opened = Vec::new();
    StreamOpener::new(&key(), None, reader).unwrap().read_to_end(&mut opened)?;
    Ok(opened)
}

#[test]
fn an_empty_chunk_after_a_full_one_is_refused_though_it_authenticates() {
    let prefix = [SectionKind::Input.number(), 0, 0, 0, 0, 0, 0].into();
    let mut encryptor = EncryptorBE32::from_aead(Aes256Gcm::new(&[7; 32].into()), &prefix);
    let mut sealed = encryptor.encrypt_next([1; CHUNK_BYTES].as_slice()).unwrap();
    sealed.extend(encryptor.encrypt_last([].as_slice()).unwrap());
    let refused = open(sealed.as_slice()).unwrap_err();
    assert_eq!(refused.get_ref().unwrap().downcast_ref(), Some(&StreamError::EmptyChunk));
}

#[test]
fn a_section_is_complete_once_its_last_chunk_is_open_and_finished_once_all_was_read() {
    let sealed = seal(&[1; CHUNK_BYTES + 9]);
    let mut opener = StreamOpener::new(&key(), None, sealed.as_slice()).unwrap();
    assert!(!opener.is_complete(), "nothing was read");
    opener.read_exact(&mut [0; CHUNK_BYTES]).unwrap();
    assert!(!opener.is_complete(), "the last chunk is missing");
    opener.read_exact(&mut [0; 8]).unwrap();
    assert!(opener.is_complete());
    let refused = opener.finish().unwrap_err();
    assert_eq!(refused.get_ref().unwrap().downcast_ref(), Some(&StreamError::Length), "a byte was not read");
}

#[test]
fn refusals_have_the_kind_that_readers_go_by() {
    let sealed = seal(b"four");
    assert_eq!(open(&sealed[..9]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(open([&sealed[..19], b"x"].concat().as_slice()).unwrap_err().kind(), ErrorKind::InvalidData);
    let mut sealer = StreamSealer::new(&key(), Some(3), Vec::new()).unwrap();
    assert_eq!(sealer.write_all(b"four").unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Fails once before it reads on.
struct Interrupted<'a>(Option<ErrorKind>, &'a [u8]);

impl Read for Interrupted<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.take() {
            Some(kind) => Err(kind.into()),
            None => self.1.read(out),
        }
    }
}

#[test]
fn an_interrupted_read_goes_on_and_a_failed_one_does_not() {
    let sealed = seal(b"four");
    assert_eq!(open(Interrupted(Some(ErrorKind::Interrupted), &sealed)).unwrap(), b"four");
    let mut opener = StreamOpener::new(&key(), None, Interrupted(Some(ErrorKind::TimedOut), &sealed)).unwrap();
    assert_eq!(opener.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::TimedOut);
}

/// Counts flushes.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn a_flush_reaches_the_writer() {
    let flushes = |flush: bool| {
        let mut sealer = StreamSealer::new(&key(), None, Counted(0)).unwrap();
        sealer.write_all(b"four").unwrap();
        if flush {
            sealer.flush().unwrap();
        }
        sealer.finish().unwrap().0
    };
    assert_eq!(flushes(true), flushes(false) + 1);
}
