//! One attempt, from its first byte to its last event.

use crate::compile::Compiler;
use crate::descriptors::{self, Descriptors};
use crate::error::{EngineError, Stop, doing};
use crate::events::Events;
use crate::input::{self, Place};
use crate::limits;
use crate::output::{self, Output, seal_logs};
use crate::run::{Guest, load};
use crate::scratch::Usage;
use crate::streams::{Buffer, Capture, Stdin};
use decores_jail::{Profile, close_files};
use decores_keys::payload::{Head, JobBinding, JobKeys, ResultBinding};
use decores_keys::{Recipient, XWingKey};
use decores_sandbox::protocol::{EngineEvent, EngineJob, Finished, Locked};
use decores_secrets::{Arena, Secret, forbid_core_dumps};
use decores_types::bundle::InputManifest;
use decores_types::{CommitmentKey, Digest, Reason};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of an offer key's seed.
const SEED: usize = 32;

/// Locks this process in, runs the one job it was started for, and reports how that ended.
///
/// # Errors
/// What is no fault of the job's; the node finds the engine lost then.
pub fn serve(scratch: Option<&Path>) -> Result<(), EngineError> {
    forbid_core_dumps().map_err(doing("forbidding core dumps"))?;
    descriptors::ignore_file_size_signal();
    let descriptors = Descriptors::take().map_err(doing("taking the descriptors over"))?;
    // Before any thread, any secret, and any byte of the job's.
    let mut compiler = Compiler::fork()?;
    let machine = Machine::new(scratch)?;
    let closed = close_files(scratch)?;
    limits::start_ticker(&machine.engine)?;
    let report = closed.close_calls(Profile::Run)?;
    let mut events = Events(descriptors.events);
    events.send(&EngineEvent::Locked(Locked {
        engine: concat!("decores-engine-wasm ", env!("CARGO_PKG_VERSION")).to_owned(),
        seccomp: report.seccomp,
        landlock_abi: report.landlock_abi,
        secrets: machine.secrets,
    }))?;
    let mut source = descriptors.job;
    let job = read_job(&mut source, scratch)?;
    compiler.prepare(job.compile_address_space, job.spec.limits.compile_ms)?;
    let mut seed = Secret::zeroed(SEED)?;
    source.read_exact(seed.expose_mut()).map_err(doing("reading the offer key"))?;
    drop(source);
    let spec = job.spec.digest().map_err(|_| EngineError::Protocol("the spec has no digest"))?;
    let binding = ResultBinding { attempt: job.attempt, consumer: job.consumer, job: job.job, spec };
    let attempt = Attempt {
        engine: machine.engine,
        runtime: machine.runtime,
        events,
        payload: descriptors.payload,
        scratch,
        counted: machine.counted,
        spec,
        binding: binding.digest().map_err(|_| EngineError::Protocol("the binding has no digest"))?,
        finished: unfinished(),
        job,
    };
    let files =
        Files { stdin: machine.stdin, stdout: machine.stdout, output: descriptors.output, logs: descriptors.logs };
    attempt.run(seed, compiler, files)
}

/// What has to be made before the lock closes.
struct Machine {
    engine: wasmtime::Engine,
    runtime: tokio::runtime::Runtime,
    stdin: File,
    stdout: File,
    secrets: String,
    /// Whether the scratch has no limit of its own.
    counted: bool,
}

impl Machine {
    fn new(scratch: Option<&Path>) -> Result<Self, EngineError> {
        let in_memory = scratch.map(descriptors::is_in_memory).transpose().map_err(doing("looking at the scratch"))?;
        // Where files lie on disk, these do too: they may be as large.
        let on_disk = scratch.filter(|_| in_memory == Some(false));
        let stream = |name: &CStr| match on_disk {
            Some(scratch) => {
                let path = scratch.join(OsStr::from_bytes(name.to_bytes()));
                File::options().read(true).write(true).create_new(true).open(path)
            }
            None => descriptors::memory_file(name),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Ok(Self {
            engine: limits::engine()?,
            runtime: runtime.map_err(doing("setting up the runtime"))?,
            stdin: stream(c"stdin").map_err(doing("making standard input"))?,
            stdout: stream(c"stdout").map_err(doing("making standard output"))?,
            counted: on_disk.is_some(),
            secrets: Arena::global()?.kind().to_string(),
        })
    }
}

fn read_job(source: &mut File, scratch: Option<&Path>) -> Result<EngineJob, EngineError> {
    let job = EngineJob::read(source).map_err(|_| EngineError::Protocol("not a job of this version"))?;
    if job.scratch.as_deref().map(Path::new) != scratch {
        return Err(EngineError::Protocol("the scratch is not the one the launcher made"));
    }
    Ok(job)
}

/// Overwritten as the attempt goes on.
const fn unfinished() -> Finished {
    Finished {
        reason: Reason::PayloadInvalid,
        exit: None,
        program: None,
        input: None,
        output: None,
        logs: None,
        wall_ms: 0,
        compile_ms: 0,
        memory_bytes: 0,
    }
}

struct Files {
    stdin: File,
    stdout: File,
    output: File,
    logs: File,
}

/// What the head of the payload held.
struct Opened {
    keys: JobKeys,
    commitment: CommitmentKey,
    recipient: Recipient,
    program_length: u64,
    input_length: Option<u64>,
}

struct Attempt<'a> {
    job: EngineJob,
    spec: Digest,
    binding: Digest,
    engine: wasmtime::Engine,
    runtime: tokio::runtime::Runtime,
    events: Events,
    payload: File,
    scratch: Option<&'a Path>,
    /// Whether the scratch has no limit of its own.
    counted: bool,
    finished: Finished,
}

impl Attempt<'_> {
    fn run(mut self, seed: Secret, compiler: Compiler, files: Files) -> Result<(), EngineError> {
        let opened = match self.open_head(seed) {
            Ok(opened) => opened,
            // Without the commitment key there is nothing that logs could be tied to.
            Err(Stop::Job { reason, .. }) => return self.finish(reason),
            Err(Stop::Engine(e)) => return Err(e),
        };
        let (commitment, recipient) = (opened.commitment.clone(), opened.recipient.clone());
        let log = Buffer::default();
        let (reason, note) = match self.work(opened, compiler, files.stdin, files.stdout, files.output, &log) {
            Ok(0) => (Reason::Completed, None),
            Ok(_) => (Reason::ExitNonzero, None),
            Err(Stop::Job { reason, note }) => (reason, Some(note)),
            Err(Stop::Engine(e)) => return Err(e),
        };
        let logs = with_note(log.take(), note, self.job.spec.limits.log_bytes);
        let digest = seal_logs(&logs, &recipient, &self.binding, files.logs)?;
        self.finished.logs = Some(commitment.commit("logs", &digest));
        self.finish(reason)
    }

    /// Removes what the guest had and says how it ended.
    fn finish(&mut self, reason: Reason) -> Result<(), EngineError> {
        if let Some(scratch) = self.scratch {
            output::empty(scratch).map_err(doing("emptying the scratch"))?;
        }
        self.finished.reason = reason;
        self.events.send(&EngineEvent::Finished(Box::new(self.finished.clone())))
    }

    /// Opens the data keys and destroys the seed.
    fn open_head(&mut self, seed: Secret) -> Result<Opened, Stop> {
        let invalid = |note: &str| Stop::job(Reason::PayloadInvalid, note);
        let (job, spec) = (&self.job, &self.job.spec);
        let binding =
            JobBinding { consumer: job.consumer, offer: job.offer, output_key: spec.output_key.id, spec: self.spec };
        let binding = binding.digest().map_err(|_| invalid("the spec has no digest"))?;
        let key = XWingKey::from_seed(seed, job.offer_epoch)
            .map_err(|_| EngineError::Protocol("the offer key is not one"))?;
        if key.recipient().id() != job.offer_key {
            return Err(EngineError::Protocol("the offer key has another id").into());
        }
        let recipient =
            Recipient::of_output_key(&spec.output_key).ok_or_else(|| invalid("the output key is not one"))?;
        let head = Head::read(&mut self.payload).map_err(|_| invalid("the payload has no head"));
        let keys = head.and_then(|head| {
            let keys = head.open_job(&key, &binding).map_err(|_| invalid("the payload does not open"))?;
            Ok((head, keys))
        });
        key.destroy();
        let (head, keys) = keys?;
        let commitment = keys.commitment_key().ok_or_else(|| invalid("the payload has no commitment key"))?;
        if commitment.check() != spec.key_check {
            return Err(invalid("the commitment key is not the spec's"));
        }
        let lengths: Vec<Option<u64>> = head.header().sections.iter().map(|s| s.length).collect();
        let [Some(program_length), input_length] = lengths.as_slice() else {
            return Err(invalid("the payload has other sections"));
        };
        Ok(Opened { program_length: *program_length, input_length: *input_length, keys, commitment, recipient })
    }

    /// Everything between the head and the logs; the program's exit code.
    fn work(
        &mut self,
        opened: Opened,
        compiler: Compiler,
        mut stdin: File,
        stdout: File,
        output: File,
        log: &Buffer,
    ) -> Result<i32, Stop> {
        let limits = self.job.spec.limits;
        let JobKeys { program, input, commitment } = opened.keys;
        commitment.destroy();
        let commitment = opened.commitment;
        self.events.send(&EngineEvent::Compiling)?;
        let start = limits::now();
        let compiled = compiler.compile(program, opened.program_length, &mut self.payload, limits.compile_ms);
        self.finished.compile_ms = limits::since(start);
        let compiled = compiled?;
        let program = commitment.commit("program", &compiled.digest);
        self.finished.program = Some(program);
        if program != self.job.spec.program {
            return Err(Stop::job(Reason::PayloadInvalid, "the program is not the one that the spec commits to"));
        }
        let module = load(&self.engine, compiled.code?)?;

        let mut place = Place { stdin: &mut stdin, scratch: self.scratch };
        let spec = &self.job.spec;
        let manifest = input::open(&input, opened.input_length, &mut self.payload, spec, &commitment, &mut place)?;
        self.finished.input = Some(self.job.spec.input);
        input.destroy();

        self.events.send(&EngineEvent::Started { compile_ms: self.finished.compile_ms })?;
        let captured = stdout.try_clone().map_err(doing("copying a descriptor"))?;
        let written = Capture::stopping(captured, limits.output_bytes);
        let exit = self.guest(&module, &manifest, stdin, &written, log)?;
        self.finished.exit = Some(exit);

        self.events.send(&EngineEvent::Sealing)?;
        let measured = Output::measure(exit, stdout, written.written(), self.scratch, &limits)?;
        let digest = measured.seal(&opened.recipient, &self.binding, output)?;
        self.finished.output = Some(commitment.commit("output", &digest));
        Ok(exit)
    }

    fn guest(
        &mut self,
        module: &wasmtime::Module,
        manifest: &InputManifest,
        stdin: File,
        stdout: &Capture,
        log: &Buffer,
    ) -> Result<i32, Stop> {
        let guest = Guest {
            engine: &self.engine,
            runtime: &self.runtime,
            limits: &self.job.spec.limits,
            manifest,
            scratch: self.scratch,
            usage: self.scratch.filter(|_| self.counted).map(|s| Usage::of(s, self.job.spec.limits.scratch_bytes)),
            stdin: Stdin::new(stdin),
            stdout: stdout.clone(),
            stderr: Capture::dropping(log.clone(), self.job.spec.limits.log_bytes),
        };
        let ran = guest.run(module)?;
        self.finished.wall_ms = ran.wall_ms;
        self.finished.memory_bytes = ran.memory_bytes;
        ran.end
    }
}

/// The logs with the engine's own last line, which the guest's make room for.
fn with_note(mut logs: Vec<u8>, note: Option<String>, most: u64) -> Vec<u8> {
    let Some(note) = note else { return logs };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut line = format!("engine: {note}\n").into_bytes();
    line.truncate(most);
    logs.truncate(most - line.len());
    if logs.last().is_some_and(|b| *b != b'\n') && logs.len() + line.len() < most {
        logs.push(b'\n');
    }
    logs.extend_from_slice(&line);
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_line_comes_last_and_within_the_limit() {
        let note = || Some("why".to_owned());
        assert_eq!(with_note(b"a".to_vec(), note(), 100), b"a\nengine: why\n");
        assert_eq!(with_note(b"abcdef".to_vec(), note(), 14), b"abengine: why\n");
        assert_eq!(with_note(b"abc".to_vec(), note(), 4), b"engi");
        assert_eq!(with_note(b"abc".to_vec(), note(), 0), b"");
        assert_eq!(with_note(b"abc".to_vec(), None, 0), b"abc");
    }
}
