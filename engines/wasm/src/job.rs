//! One attempt, from its first byte to its last event.

use crate::compile::{self, Compiler};
use crate::kept::Kept;
use crate::limits;
use crate::run::{Guest, load};
use crate::scratch::Usage;
use crate::streams::{Buffer, Capture, Stdin};
use decores_attempt::{
    Attempt, Descriptors, EngineError, Events, Opened, Output, Place, Stop, doing, ignore_file_size_signal,
    is_in_memory, memory_file, now, open_input, read_job, read_module_key, read_seed, since,
};
use decores_jail::{Profile, close_files};
use decores_keys::payload::SectionKey;
use decores_sandbox::protocol::{EngineEvent, FD_MODULE, ModuleEnd, ModuleJob};
use decores_secrets::{Arena, forbid_core_dumps};
use decores_types::bundle::InputManifest;
use decores_types::{CommitmentKey, Reason};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wasmtime::Module;

/// Locks this process in, runs the one job it was started for, and reports how that ended.
///
/// # Errors
/// What is no fault of the job's; the node finds the engine lost then.
pub fn serve(scratch: Option<&Path>) -> Result<(), EngineError> {
    forbid_core_dumps().map_err(doing("forbidding core dumps"))?;
    ignore_file_size_signal();
    let descriptors = Descriptors::take().map_err(doing("taking the descriptors over"))?;
    let module = descriptors.take_also(FD_MODULE).ok();
    // Before any thread, any secret, and any byte of the job's.
    let mut compiler = Compiler::fork()?;
    let machine = Machine::new(scratch)?;
    let closed = close_files(scratch)?;
    limits::start_ticker(&machine.engine)?;
    let report = closed.close_calls(Profile::Run)?;
    let mut events = Events::new(descriptors.events);
    let secrets = Arena::global()?.kind().to_string();
    events.locked(concat!("decores-engine-wasm ", env!("CARGO_PKG_VERSION")), report, secrets)?;
    let mut source = descriptors.job;
    let job = read_job(&mut source, scratch)?;
    if job.module != Some(ModuleJob::Load) {
        compiler.prepare(job.compile_address_space, job.spec.limits.compile_ms)?;
    }
    let seed = read_seed(&mut source)?;
    let module_key = job.module.map(|_| read_module_key(&mut source)).transpose()?;
    drop(source);
    let attempt = Attempt::new(job, descriptors.payload, events, scratch)?;
    let kept = Kept::new(&attempt, module, module_key)?;
    attempt.run(seed, descriptors.logs, |attempt, opened| {
        let log = Buffer::default();
        let work = Work { machine, scratch, log: log.clone(), output: descriptors.output };
        (work.run(attempt, opened, compiler, kept), log.take())
    })
}

/// What has to be made before the lock closes.
struct Machine {
    engine: wasmtime::Engine,
    runtime: tokio::runtime::Runtime,
    stdin: File,
    stdout: File,
    /// Whether the scratch has no limit of its own.
    counted: bool,
}

impl Machine {
    fn new(scratch: Option<&Path>) -> Result<Self, EngineError> {
        // Locked memory takes calls that the lock does not leave.
        Arena::global()?;
        let in_memory = scratch.map(is_in_memory).transpose().map_err(doing("looking at the scratch"))?;
        // Where files lie on disk, these do too: they may be as large.
        let on_disk = scratch.filter(|_| in_memory == Some(false));
        let stream = |name: &CStr| match on_disk {
            Some(scratch) => {
                let path = scratch.join(OsStr::from_bytes(name.to_bytes()));
                File::options().read(true).write(true).create_new(true).open(path)
            }
            None => memory_file(name),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Ok(Self {
            engine: limits::engine()?,
            runtime: runtime.map_err(doing("setting up the runtime"))?,
            stdin: stream(c"stdin").map_err(doing("making standard input"))?,
            stdout: stream(c"stdout").map_err(doing("making standard output"))?,
            counted: on_disk.is_some(),
        })
    }
}

/// The program, sealed, and what it is compared with.
struct Program<'a> {
    key: SectionKey,
    length: u64,
    commitment: &'a CommitmentKey,
}

/// Everything between the head and the logs.
struct Work<'a> {
    machine: Machine,
    scratch: Option<&'a Path>,
    log: Buffer,
    output: File,
}

impl Work<'_> {
    /// The program's exit code.
    fn run(
        mut self,
        attempt: &mut Attempt,
        opened: Opened,
        compiler: Compiler,
        kept: Option<Kept>,
    ) -> Result<i32, Stop> {
        let limits = attempt.job.spec.limits;
        let program = Program { key: opened.program, length: opened.program_length, commitment: &opened.commitment };
        let module = self.module(attempt, program, compiler, kept)?;

        let mut place = Place { stdin: &mut self.machine.stdin, scratch: self.scratch };
        let (spec, payload) = (&attempt.job.spec, &mut attempt.payload);
        let manifest = open_input(&opened.input, opened.input_length, payload, spec, &opened.commitment, &mut place)?;
        attempt.finished.input = Some(attempt.job.spec.input);
        opened.input.destroy();

        attempt.say(&EngineEvent::Started { compile_ms: attempt.finished.compile_ms })?;
        let captured = self.machine.stdout.try_clone().map_err(doing("copying a descriptor"))?;
        let written = Capture::stopping(captured, limits.output_bytes);
        let exit = self.guest(attempt, &module, &manifest, &written)?;
        attempt.finished.exit = Some(exit);

        attempt.say(&EngineEvent::Sealing)?;
        let measured = Output::measure(exit, self.machine.stdout, written.written(), self.scratch, &limits)?;
        let digest = measured.seal(&opened.recipient, &attempt.binding, self.output)?;
        attempt.finished.output = Some(opened.commitment.commit("output", &digest));
        Ok(exit)
    }

    /// The kept code where there is some, and it is this program's; else what the compile process makes.
    fn module(
        &self,
        attempt: &mut Attempt,
        program: Program<'_>,
        mut compiler: Compiler,
        kept: Option<Kept>,
    ) -> Result<Module, Stop> {
        let kept = match kept {
            Some(kept) if kept.is_there() => kept,
            other => return self.compiled(attempt, program, compiler, other),
        };
        let engine = &self.machine.engine;
        let start = attempt.payload.stream_position().map_err(doing("reading the payload"))?;
        let digest = compile::digest(&program.key, program.length, &mut attempt.payload)
            .ok_or_else(|| Stop::job(Reason::PayloadInvalid, "the sealed program does not authenticate"))?;
        attempt.check_program(&digest, program.commitment)?;
        attempt.finished.module = Some(match kept.load(engine, attempt, &digest)? {
            Ok(code) => match load(engine, code) {
                Ok(module) => {
                    program.key.destroy();
                    attempt.finished.module = Some(ModuleEnd::Loaded);
                    return Ok(module);
                }
                Err(_) => ModuleEnd::Foreign,
            },
            Err(why) => why,
        });
        attempt.payload.seek(SeekFrom::Start(start)).map_err(doing("reading the payload again"))?;
        compiler.prepare(attempt.job.compile_address_space, attempt.job.spec.limits.compile_ms)?;
        self.compiled(attempt, program, compiler, None)
    }

    fn compiled(
        &self,
        attempt: &mut Attempt,
        program: Program<'_>,
        compiler: Compiler,
        kept: Option<Kept>,
    ) -> Result<Module, Stop> {
        attempt.say(&EngineEvent::Compiling)?;
        let (start, engine) = (now(), &self.machine.engine);
        let most = attempt.job.spec.limits.compile_ms;
        let compiled = compiler.compile(program.key, program.length, &mut attempt.payload, most);
        attempt.finished.compile_ms = since(start);
        let compiled = compiled?;
        attempt.check_program(&compiled.digest, program.commitment)?;
        let code = compiled.code?;
        if let Some(kept) = kept {
            attempt.finished.module = kept.store(engine, attempt, &compiled.digest, &code)?;
        }
        load(engine, code)
    }

    fn guest(
        &self,
        attempt: &mut Attempt,
        module: &Module,
        manifest: &InputManifest,
        stdout: &Capture,
    ) -> Result<i32, Stop> {
        let limits = attempt.job.spec.limits;
        let stdin = self.machine.stdin.try_clone().map_err(doing("copying a descriptor"))?;
        let guest = Guest {
            engine: &self.machine.engine,
            runtime: &self.machine.runtime,
            limits: &limits,
            manifest,
            scratch: self.scratch,
            usage: self.scratch.filter(|_| self.machine.counted).map(|s| Usage::of(s, limits.scratch_bytes)),
            stdin: Stdin::new(stdin),
            stdout: stdout.clone(),
            stderr: Capture::dropping(self.log.clone(), limits.log_bytes),
        };
        let ran = guest.run(module)?;
        attempt.finished.wall_ms = ran.wall_ms;
        attempt.finished.memory_bytes = ran.memory_bytes;
        ran.end
    }
}
