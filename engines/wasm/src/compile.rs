//! Compiling, in a process that never runs what it makes.
//!
//! The child is forked before any key exists, gives up every descriptor of the job's, and locks
//! itself harder than the engine: it opens nothing and makes nothing executable. Over one stream it
//! gets its limits, the program's key, and the program's ciphertext; it answers with the program's
//! digest and the code.

use crate::limits;
use decores_attempt::{Child, EngineError, Inside, Stop, doing, now, since};
use decores_jail::{Profile, lock};
use decores_keys::payload::{SectionKey, StreamOpener};
use decores_secrets::Zeroizing;
use decores_types::digest::Hasher;
use decores_types::{Digest, Reason};
use std::fs::File;
use std::io::{self, Read, Write};

/// The largest program, in bytes.
const MAX_PROGRAM: u64 = 128 << 20;
/// The largest compiled program, in bytes.
pub(crate) const MAX_CODE: u64 = 1 << 30;
const MAX_NOTE: usize = 2048;
/// Bytes of a program that are hashed at a time.
const PIECE: usize = 64 << 10;

/// First byte of the child's answer.
mod answer {
    /// Digest, length and code follow.
    pub(super) const CODE: u8 = 0;
    /// Digest, length and a message follow.
    pub(super) const INVALID: u8 = 1;
    /// The ciphertext was refused; nothing follows.
    pub(super) const REFUSED: u8 = 2;
}

/// The compile process, waiting.
pub(crate) struct Compiler(Child);

/// What it made.
pub(crate) struct Compiled {
    /// Digest of the program.
    pub(crate) digest: Digest,
    /// The code, or why there is none.
    pub(crate) code: Result<Vec<u8>, Stop>,
}

impl Compiler {
    /// Forks the process. To be called before any thread and any secret exists.
    pub(crate) fn fork() -> Result<Self, EngineError> {
        Child::fork(child).map(Self)
    }

    /// Tells the child its limits; it locks itself before it answers.
    pub(crate) fn prepare(&mut self, address_space: u64, compile_ms: u64) -> Result<(), EngineError> {
        self.0.prepare(address_space, compile_ms)
    }

    /// Hands over key and ciphertext, and waits for the code.
    pub(crate) fn compile(
        mut self,
        key: SectionKey,
        length: u64,
        payload: &mut File,
        compile_ms: u64,
    ) -> Result<Compiled, Stop> {
        if length > MAX_PROGRAM {
            return Err(Stop::job(Reason::ProgramInvalid, format!("the program has more than {MAX_PROGRAM} bytes")));
        }
        let start = now();
        self.0.feed(key, length, payload)?;
        if !self.0.answers_within(compile_ms.saturating_sub(since(start)))? {
            return Err(Stop::job(Reason::LimitCompile, "compiling took longer than its limit"));
        }
        match self.read_answer() {
            Err(Stop::Engine(EngineError::Io(..))) => Err(self.lost()),
            other => other,
        }
    }

    fn read_answer(&mut self) -> Result<Compiled, Stop> {
        let failed = doing("reading the compiled program");
        let mut kind = [0];
        self.0.stream.read_exact(&mut kind).map_err(&failed)?;
        if kind == [answer::REFUSED] {
            return Err(Stop::job(Reason::PayloadInvalid, "the sealed program does not authenticate"));
        }
        let (mut digest, mut length) = ([0; 32], [0; 8]);
        self.0.stream.read_exact(&mut digest).map_err(&failed)?;
        self.0.stream.read_exact(&mut length).map_err(&failed)?;
        let length = u64::from_be_bytes(length);
        if length > MAX_CODE {
            return Err(Stop::job(Reason::LimitCompile, "the compiled program is too large"));
        }
        let mut body = Vec::new();
        body.try_reserve_exact(length as usize)
            .map_err(|_| Stop::job(Reason::LimitCompile, "the compiled program is too large"))?;
        (&mut self.0.stream).take(length).read_to_end(&mut body).map_err(&failed)?;
        if body.len() as u64 != length {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()).into());
        }
        let digest = Digest::from_bytes(digest);
        let code = match kind {
            [answer::CODE] => Ok(body),
            [answer::INVALID] => Err(Stop::job(Reason::ProgramInvalid, String::from_utf8_lossy(&body))),
            _ => return Err(EngineError::Protocol("the compile process gave an unknown answer").into()),
        };
        Ok(Compiled { digest, code })
    }

    /// The child ended without an answer: out of memory or time, or brought down by the program.
    fn lost(&self) -> Stop {
        match self.0.exhausted() {
            Ok(true) => Stop::job(Reason::LimitCompile, "compiling took more time or memory than its limit"),
            Ok(false) => Stop::job(Reason::ProgramInvalid, "the compiler could not handle the program"),
            Err(e) => e.into(),
        }
    }
}

/// The compile process.
fn child(inside: Inside) -> Result<(), EngineError> {
    // Made only when there is something to compile: a kept program needs no compiler.
    let mut engine = None;
    let (key, length, mut stream) = inside.lock(|| {
        engine = Some(limits::engine()?);
        Ok(lock(Profile::Compile, None).map(drop)?)
    })?;
    let engine = engine.ok_or(EngineError::Protocol("the compile process has no engine"))?;
    let Some(program) = open(&key, length, &mut stream) else {
        return stream.write_all(&[answer::REFUSED]).map_err(doing("answering"));
    };
    key.destroy();
    let digest = Digest::of(&program);
    let (kind, body) = match engine.precompile_module(&program) {
        Ok(code) => (answer::CODE, code),
        Err(e) => (answer::INVALID, note(&e)),
    };
    let mut head = vec![kind];
    head.extend_from_slice(digest.as_bytes());
    head.extend_from_slice(&(body.len() as u64).to_be_bytes());
    stream.write_all(&head).and_then(|()| stream.write_all(&body)).map_err(doing("answering"))
}

/// The digest of a program that is not compiled; `None` where it does not authenticate.
pub(crate) fn digest(key: &SectionKey, length: u64, payload: &mut File) -> Option<Digest> {
    let mut opener = StreamOpener::new(key, Some(length), payload).ok()?;
    let mut hasher = Hasher::new();
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    loop {
        match opener.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => hasher.update(piece.get(..read)?),
            Err(_) => return None,
        }
    }
    opener.finish().ok()?;
    Some(hasher.finish())
}

/// The whole program, once its last chunk has authenticated.
fn open(key: &SectionKey, length: u64, stream: &mut File) -> Option<Zeroizing<Vec<u8>>> {
    let mut opener = StreamOpener::new(key, Some(length), stream).ok()?;
    let mut program = Zeroizing::new(Vec::with_capacity(usize::try_from(length).ok()?));
    opener.read_to_end(&mut program).ok()?;
    opener.finish().ok()?;
    Some(program)
}

fn note(error: &wasmtime::Error) -> Vec<u8> {
    let mut text = format!("{error:#}").into_bytes();
    text.truncate(MAX_NOTE);
    text
}
