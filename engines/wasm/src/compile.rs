//! Compiling, in a process that never runs what it makes.
//!
//! The child is forked before any key exists, gives up every descriptor of the job's, and locks
//! itself harder than the engine: it opens nothing and makes nothing executable. Over one stream it
//! gets its limits, the program's key, and the program's ciphertext; it answers with the program's
//! digest and the code.

use crate::descriptors::{self, Pump};
use crate::error::{EngineError, Stop, doing};
use crate::limits;
use decores_jail::{Profile, lock};
use decores_keys::payload::{SectionKey, SectionKind, StreamOpener, sealed_len};
use decores_secrets::{Secret, Zeroizing};
use decores_types::{Digest, Reason};
use std::fs::File;
use std::io::{self, Read, Write};

/// The largest program, in bytes.
const MAX_PROGRAM: u64 = 128 << 20;
/// The largest compiled program, in bytes.
const MAX_CODE: u64 = 1 << 30;
const MAX_NOTE: usize = 2048;
const LOCKED: u8 = b'L';

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
pub(crate) struct Compiler {
    stream: File,
    pid: i32,
}

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
        let (ours, theirs) = descriptors::stream_pair().map_err(doing("making a stream"))?;
        let parent = std::process::id();
        match descriptors::fork().map_err(doing("forking the compile process"))? {
            Some(pid) => Ok(Self { stream: ours, pid }),
            None => {
                drop(ours);
                let code = i32::from(child(theirs, parent).is_err());
                descriptors::exit_now(code)
            }
        }
    }

    /// Tells the child its limits; it locks itself before it answers.
    pub(crate) fn prepare(&mut self, address_space: u64, compile_ms: u64) -> Result<(), EngineError> {
        let mut message = address_space.to_be_bytes().to_vec();
        message.extend_from_slice(&compile_ms.to_be_bytes());
        let failed = doing("preparing the compile process");
        self.stream.write_all(&message).map_err(&failed)?;
        let mut locked = [0];
        self.stream.read_exact(&mut locked).map_err(&failed)?;
        if locked == [LOCKED] { Ok(()) } else { Err(EngineError::Protocol("the compile process did not lock itself")) }
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
        let start = limits::now();
        self.stream.write_all(key.expose()).map_err(doing("handing over the program's key"))?;
        key.destroy();
        self.stream.write_all(&length.to_be_bytes()).map_err(doing("handing over the program"))?;
        match descriptors::pump(payload, &mut self.stream, sealed_len(length)) {
            // The child may have refused before the end; its answer says why.
            Ok(()) | Err(Pump::Write(_)) => {}
            Err(Pump::Read(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Stop::job(Reason::PayloadInvalid, "the sealed program ends early"));
            }
            Err(Pump::Read(e)) => return Err(doing("reading the payload")(e).into()),
        }
        let left = compile_ms.saturating_sub(limits::since(start));
        if !descriptors::readable_within(&self.stream, left).map_err(doing("waiting for the compile process"))? {
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
        self.stream.read_exact(&mut kind).map_err(&failed)?;
        if kind == [answer::REFUSED] {
            return Err(Stop::job(Reason::PayloadInvalid, "the sealed program does not authenticate"));
        }
        let (mut digest, mut length) = ([0; 32], [0; 8]);
        self.stream.read_exact(&mut digest).map_err(&failed)?;
        self.stream.read_exact(&mut length).map_err(&failed)?;
        let length = u64::from_be_bytes(length);
        if length > MAX_CODE {
            return Err(Stop::job(Reason::LimitCompile, "the compiled program is too large"));
        }
        let mut body = Vec::new();
        body.try_reserve_exact(length as usize)
            .map_err(|_| Stop::job(Reason::LimitCompile, "the compiled program is too large"))?;
        (&mut self.stream).take(length).read_to_end(&mut body).map_err(&failed)?;
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
        match descriptors::ended_by_signal(self.pid) {
            Ok(Some(libc::SIGABRT | libc::SIGKILL | libc::SIGXCPU)) => {
                Stop::job(Reason::LimitCompile, "compiling took more time or memory than its limit")
            }
            Ok(_) => Stop::job(Reason::ProgramInvalid, "the compiler could not handle the program"),
            Err(e) => doing("waiting for the compile process")(e).into(),
        }
    }
}

/// The compile process.
fn child(mut stream: File, parent: u32) -> Result<(), EngineError> {
    descriptors::end_with(parent).map_err(doing("tying the compile process to the engine"))?;
    descriptors::close_jobs().map_err(doing("closing the job's descriptors"))?;
    let failed = doing("reading the limits");
    let mut limits = [[0; 8]; 2];
    for limit in &mut limits {
        stream.read_exact(limit).map_err(&failed)?;
    }
    let [address_space, compile_ms] = limits.map(u64::from_be_bytes);
    let engine = limits::engine()?;
    // Locked memory and everything else that needs a call from now on forbidden.
    let mut key = Secret::zeroed(32)?;
    descriptors::limit(libc::RLIMIT_AS, address_space).map_err(doing("limiting memory"))?;
    descriptors::limit(libc::RLIMIT_CPU, compile_ms / 1000 + 1).map_err(doing("limiting time"))?;
    lock(Profile::Compile, None)?;
    stream.write_all(&[LOCKED]).map_err(doing("reporting"))?;
    stream.read_exact(key.expose_mut()).map_err(doing("reading the key"))?;
    let mut length = [0; 8];
    stream.read_exact(&mut length).map_err(doing("reading the length"))?;
    let key = SectionKey::new(SectionKind::Program, key);
    let Some(program) = open(&key, u64::from_be_bytes(length), &mut stream) else {
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
