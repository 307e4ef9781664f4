//! Unpacking, in a process that does nothing else.
//!
//! It is forked before any key exists, gives up every descriptor of the job's, and may write below two folders only. It
//! alone sees the program's key and what the image holds; it answers with a digest and a few words.

use crate::program::Image;
use crate::refusal::Refusal;
use crate::unpack::{Bounds, Places, unpack};
use decores_attempt::{Child, EngineError, Inside, Stop, doing, now, since};
use decores_jail::{Links, Profile, close_files_but};
use decores_keys::payload::{SectionKey, StreamOpener};
use decores_sandbox::container::FD_RUNNER;
use decores_types::{Digest, Reason, canonical};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// The image's root, below the scratch.
pub(crate) const ROOTFS: &str = "rootfs";
/// Where its parts lie until they are unpacked.
pub(crate) const BLOBS: &str = "blobs";
/// Largest answer, in bytes; words may grow sixfold in JSON.
const MAX_ANSWER: u32 = 4 << 20;
const MAX_NOTE: usize = 2048;
const DIGEST: usize = 32;

/// First byte of the child's answer.
mod answer {
    /// Digest, length and the image follow.
    pub(super) const IMAGE: u8 = 0;
    /// Digest, length and a message follow.
    pub(super) const INVALID: u8 = 1;
    /// The same: it does not fit.
    pub(super) const FULL: u8 = 2;
    /// The same: the machine failed.
    pub(super) const FAILED: u8 = 3;
    /// The ciphertext was refused; nothing follows.
    pub(super) const REFUSED: u8 = 4;
}

/// The process that unpacks, waiting.
pub(crate) struct Unpacker(Child);

/// What it made.
pub(crate) struct Unpacked {
    /// Digest of the program: of the whole archive.
    pub(crate) digest: Digest,
    /// The image, or why there is none.
    pub(crate) image: Result<Image, Stop>,
}

impl Unpacker {
    /// Forks the process. To be called before any thread and any secret exists.
    pub(crate) fn fork(scratch: &Path) -> Result<Self, EngineError> {
        Child::fork(|inside| child(inside, &scratch.join(ROOTFS), &scratch.join(BLOBS))).map(Self)
    }

    /// Tells the child its limits; it locks itself before it answers.
    pub(crate) fn prepare(&mut self, address_space: u64, ms: u64) -> Result<(), EngineError> {
        self.0.prepare(address_space, ms)
    }

    /// Hands over key and ciphertext, and waits for the image.
    pub(crate) fn unpack(
        mut self,
        key: SectionKey,
        length: u64,
        payload: &mut File,
        ms: u64,
    ) -> Result<Unpacked, Stop> {
        let start = now();
        self.0.feed(key, length, payload)?;
        if !self.0.answers_within(ms.saturating_sub(since(start)))? {
            return Err(Stop::job(Reason::LimitCompile, "unpacking the image took longer than its limit"));
        }
        let answer = self.read_answer();
        // As long as it lives it can write to the image's root, of which the container is made.
        if !self.0.ends_within(ms.saturating_sub(since(start)))? {
            return Err(Stop::job(Reason::LimitCompile, "unpacking the image did not end within its limit"));
        }
        let exhausted = self.0.exhausted()?;
        match answer {
            Err(Stop::Engine(EngineError::Io(..))) => Err(lost(exhausted)),
            other => other,
        }
    }

    fn read_answer(&mut self) -> Result<Unpacked, Stop> {
        let failed = doing("reading about the unpacked image");
        let mut kind = [0];
        self.0.stream.read_exact(&mut kind).map_err(&failed)?;
        if kind == [answer::REFUSED] {
            return Err(Stop::job(Reason::PayloadInvalid, "the sealed image does not authenticate"));
        }
        let (mut digest, mut length) = ([0; DIGEST], [0; 4]);
        self.0.stream.read_exact(&mut digest).map_err(&failed)?;
        self.0.stream.read_exact(&mut length).map_err(&failed)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_ANSWER {
            return Err(EngineError::Protocol("the unpacking process answered too much").into());
        }
        let mut body = vec![0; length as usize];
        self.0.stream.read_exact(&mut body).map_err(&failed)?;
        let note = || String::from_utf8_lossy(&body);
        let image = match kind {
            [answer::IMAGE] => canonical::from_slice(&body, MAX_ANSWER as usize)
                .map_err(|_| EngineError::Protocol("the unpacking process gave no image").into()),
            [answer::INVALID] => Err(Stop::job(Reason::ProgramInvalid, format!("the image is refused: {}", note()))),
            [answer::FULL] => Err(Stop::job(Reason::LimitScratch, format!("the image is too large: {}", note()))),
            [answer::FAILED] => return Err(EngineError::Runtime(note().into_owned()).into()),
            _ => return Err(EngineError::Protocol("the unpacking process gave an unknown answer").into()),
        };
        Ok(Unpacked { digest: Digest::from_bytes(digest), image })
    }
}

/// Why the child ended without an answer: out of memory or time, or brought down by the image.
fn lost(exhausted: bool) -> Stop {
    if exhausted {
        Stop::job(Reason::LimitCompile, "unpacking the image took more time or memory than its limit")
    } else {
        Stop::job(Reason::ProgramInvalid, "the image could not be handled")
    }
}

/// The process that unpacks.
fn child(inside: Inside, root: &Path, blobs: &Path) -> Result<(), EngineError> {
    inside.close(FD_RUNNER)?;
    let places = Places::open(root, blobs).map_err(doing("opening the image's folders"))?;
    let (key, length, mut stream) = inside
        .lock(|| Ok(close_files_but(&[root, blobs], Links::Symbolic)?.close_calls(Profile::Unpack).map(drop)?))?;
    let source = stream.try_clone().map_err(doing("copying a descriptor"))?;
    let opened = StreamOpener::new(&key, Some(length), source).ok().and_then(|mut opener| {
        let (digest, image) = unpack(&mut opener, &places, &Bounds::default());
        Some((digest.filter(|_| opener.is_complete())?, image))
    });
    key.destroy();
    let failed = doing("answering");
    let Some((digest, image)) = opened else {
        return stream.write_all(&[answer::REFUSED]).map_err(failed);
    };
    let (kind, body) = match image {
        Ok(image) => match canonical::to_vec(&image) {
            Ok(body) => (answer::IMAGE, body),
            Err(_) => (answer::INVALID, b"the configuration has words that cannot be passed on".to_vec()),
        },
        Err(refusal @ Refusal::Full(_)) => (answer::FULL, note(&refusal)),
        Err(refusal @ Refusal::Image(_)) => (answer::INVALID, note(&refusal)),
        Err(refusal @ (Refusal::Machine(..) | Refusal::Source(_))) => (answer::FAILED, note(&refusal)),
    };
    let length = (body.len() as u32).to_be_bytes();
    stream.write_all(&[&[kind], digest.as_bytes().as_slice(), &length, &body].concat()).map_err(failed)
}

fn note(refusal: &Refusal) -> Vec<u8> {
    let mut text = refusal.to_string();
    if let Refusal::Machine(_, cause) = refusal {
        text = format!("{text}: {cause}");
    }
    let mut text = text.into_bytes();
    text.truncate(MAX_NOTE);
    text
}
