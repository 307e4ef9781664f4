//! The process that opens the program: forked before any key exists, and locked harder than the engine.
//!
//! It gives up every descriptor of the job's. Over one stream it gets its limits, the program's key,
//! and the program's ciphertext; what it answers is its engine's business.

use crate::descriptors::{self, Pump, pump};
use crate::error::{EngineError, Stop, doing};
use decores_keys::payload::{SectionKey, SectionKind, sealed_len};
use decores_secrets::Secret;
use decores_types::Reason;
use std::fs::File;
use std::io::{self, Read, Write};

const KEY: usize = 32;
const LOCKED: u8 = b'L';

/// The child, seen from the engine.
#[derive(Debug)]
pub struct Child {
    /// What it answers on.
    pub stream: File,
    pid: i32,
    /// Can be read once it has ended.
    end: File,
}

impl Child {
    /// Forks it. To be called before any thread and any secret exists.
    ///
    /// # Errors
    /// If the machine has no room for it.
    pub fn fork(body: impl FnOnce(Inside) -> Result<(), EngineError>) -> Result<Self, EngineError> {
        let (ours, theirs) = descriptors::stream_pair().map_err(doing("making a stream"))?;
        let parent = std::process::id();
        match descriptors::fork().map_err(doing("forking the process that opens the program"))? {
            Some(pid) => {
                let end = descriptors::end_of(pid).map_err(doing("watching the process that opens the program"))?;
                Ok(Self { stream: ours, pid, end })
            }
            None => {
                drop(ours);
                let code = i32::from(Inside::new(theirs, parent).and_then(body).is_err());
                descriptors::exit_now(code)
            }
        }
    }

    /// Tells it its limits; it locks itself before it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn prepare(&mut self, address_space: u64, cpu_ms: u64) -> Result<(), EngineError> {
        let mut message = address_space.to_be_bytes().to_vec();
        message.extend_from_slice(&cpu_ms.to_be_bytes());
        let failed = doing("preparing the process that opens the program");
        self.stream.write_all(&message).map_err(&failed)?;
        let mut locked = [0];
        self.stream.read_exact(&mut locked).map_err(&failed)?;
        if locked == [LOCKED] { Ok(()) } else { Err(EngineError::Protocol("the child did not lock itself")) }
    }

    /// Hands over key and ciphertext.
    ///
    /// # Errors
    /// If the payload ends early.
    pub fn feed(&mut self, key: SectionKey, length: u64, payload: &mut File) -> Result<(), Stop> {
        self.stream.write_all(key.expose()).map_err(doing("handing over the program's key"))?;
        key.destroy();
        self.stream.write_all(&length.to_be_bytes()).map_err(doing("handing over the program"))?;
        match pump(payload, &mut self.stream, sealed_len(length)) {
            // It may have refused before the end; its answer says why.
            Ok(()) | Err(Pump::Write(_)) => Ok(()),
            Err(Pump::Read(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Stop::job(Reason::PayloadInvalid, "the sealed program ends early"))
            }
            Err(Pump::Read(e)) => Err(doing("reading the payload")(e).into()),
        }
    }

    /// Whether it answers within this time.
    ///
    /// # Errors
    /// If that cannot be waited for.
    pub fn answers_within(&self, ms: u64) -> Result<bool, EngineError> {
        descriptors::readable_within(&self.stream, ms).map_err(doing("waiting for the child's answer"))
    }

    /// Whether it ends within this time: until then it can do all that its lock leaves it.
    ///
    /// # Errors
    /// If that cannot be waited for.
    pub fn ends_within(&self, ms: u64) -> Result<bool, EngineError> {
        descriptors::readable_within(&self.end, ms).map_err(doing("waiting for the child to end"))
    }

    /// Whether it was ended for want of time or memory; to be asked once, when it ends.
    ///
    /// # Errors
    /// If it is no child of this process.
    pub fn exhausted(&self) -> Result<bool, EngineError> {
        let signal = descriptors::ended_by_signal(self.pid).map_err(doing("waiting for the child to end"))?;
        Ok(matches!(signal, Some(libc::SIGABRT | libc::SIGKILL | libc::SIGXCPU)))
    }
}

/// The child, seen from within: nothing of the job's is open, nothing is locked yet.
#[derive(Debug)]
pub struct Inside {
    stream: File,
}

impl Inside {
    fn new(stream: File, parent: u32) -> Result<Self, EngineError> {
        descriptors::end_with(parent).map_err(doing("tying the child to the engine"))?;
        descriptors::close_all(&descriptors::JOBS).map_err(doing("closing the job's descriptors"))?;
        Ok(Self { stream })
    }

    /// Gives up one more descriptor of the engine's.
    ///
    /// # Errors
    /// If it is not open.
    pub fn close(&self, fd: i32) -> Result<(), EngineError> {
        descriptors::close_all(&[fd]).map_err(doing("closing a descriptor of the engine's"))
    }

    /// Takes its limits, locks itself with `lock`, and waits for the program: its key, its length, and
    /// the stream that its ciphertext is read from and the answer is written to.
    ///
    /// # Errors
    /// If a limit or the lock does not hold.
    pub fn lock(
        mut self,
        lock: impl FnOnce() -> Result<(), EngineError>,
    ) -> Result<(SectionKey, u64, File), EngineError> {
        let mut limits = [[0; 8]; 2];
        for limit in &mut limits {
            self.stream.read_exact(limit).map_err(doing("reading the limits"))?;
        }
        let [address_space, cpu_ms] = limits.map(u64::from_be_bytes);
        // Locked memory and everything else that needs a call from now on forbidden.
        let mut key = Secret::zeroed(KEY)?;
        descriptors::limit(libc::RLIMIT_AS, address_space).map_err(doing("limiting memory"))?;
        descriptors::limit(libc::RLIMIT_CPU, cpu_ms / 1000 + 1).map_err(doing("limiting time"))?;
        lock()?;
        self.stream.write_all(&[LOCKED]).map_err(doing("reporting"))?;
        self.stream.read_exact(key.expose_mut()).map_err(doing("reading the key"))?;
        let mut length = [0; 8];
        self.stream.read_exact(&mut length).map_err(doing("reading the length"))?;
        Ok((SectionKey::new(SectionKind::Program, key), u64::from_be_bytes(length), self.stream))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    #[expect(clippy::zombie_processes, reason = "what is tested reaps it")]
    fn a_child_that_has_answered_and_lives_on_has_not_ended() {
        let mut process = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        let (stream, mut theirs) = descriptors::stream_pair().unwrap();
        let child = Child { stream, pid, end: descriptors::end_of(pid).unwrap() };
        theirs.write_all(b"answer").unwrap();
        drop(theirs);
        assert!(child.answers_within(0).unwrap());
        assert!(!child.ends_within(0).unwrap());
        drop(process.stdin.take());
        assert!(child.ends_within(60_000).unwrap());
        assert!(!child.exhausted().unwrap());
        assert!(descriptors::end_of(pid).is_err(), "it is reaped");
    }
}
