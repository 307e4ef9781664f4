//! One attempt, from its first byte to its last event.

use crate::child::{BLOBS, ROOTFS, Unpacker};
use crate::output::make_readable;
use crate::request::request;
use crate::runner::{self, Pipe, Written};
use decores_attempt::{
    Attempt, Descriptors, EngineError, Events, IN, OUT, Opened, Output, Place, Stop, doing, ignore_file_size_signal,
    memory_file, now, open_input, read_job, read_seed, since,
};
use decores_jail::{Links, Profile, close_files_but};
use decores_sandbox::container::FD_RUNNER;
use decores_sandbox::protocol::EngineEvent;
use decores_secrets::{Arena, forbid_core_dumps};
use decores_types::Reason;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The container's own folder for what it does not keep.
const TMP: &str = "tmp";

/// Locks this process in, runs the one job it was started for, and reports how that ended.
///
/// # Errors
/// What is no fault of the job's; the node finds the engine lost then.
pub fn serve(scratch: &Path) -> Result<(), EngineError> {
    forbid_core_dumps().map_err(doing("forbidding core dumps"))?;
    ignore_file_size_signal();
    let descriptors = Descriptors::take().map_err(doing("taking the descriptors over"))?;
    let helper = descriptors.take_also(FD_RUNNER).map_err(doing("taking the helper's socket over"))?;
    make_folders(scratch).map_err(doing("making the container's folders"))?;
    // Before any thread, any secret, and any byte of the job's.
    let mut unpacker = Unpacker::fork(scratch)?;
    let streams = Streams::new().map_err(doing("making the container's streams"))?;
    // Locked memory takes calls that the lock does not leave.
    let secrets = Arena::global()?.kind().to_string();
    // The image's root is not the engine's business: the process that unpacks has it, and then the container.
    let closed = close_files_but(&[&scratch.join(IN), &scratch.join(OUT)], Links::None)?;
    let report = closed.close_calls(Profile::Container)?;
    let mut events = Events::new(descriptors.events);
    events.locked(concat!("decores-engine-container ", env!("CARGO_PKG_VERSION")), report, secrets)?;
    let mut source = descriptors.job;
    let job = read_job(&mut source, Some(scratch))?;
    unpacker.prepare(job.compile_address_space, job.spec.limits.compile_ms)?;
    let seed = read_seed(source)?;
    // The scratch lies in memory and goes with its last mount: there is nothing to empty.
    let attempt = Attempt::new(job, descriptors.payload, events, None)?;
    attempt.run(seed, descriptors.logs, |attempt, opened| {
        let mut written = Written { stdout: streams.kept, stdout_bytes: 0, log: Vec::new() };
        let work = Work { scratch, helper, stdin: streams.stdin, pipes: streams.pipes, output: descriptors.output };
        let end = work.run(attempt, opened, unpacker, &mut written);
        (end, written.log)
    })
}

fn make_folders(scratch: &Path) -> io::Result<()> {
    for (name, mode) in [(ROOTFS, 0o755), (BLOBS, 0o700), (IN, 0o755), (OUT, 0o755), (TMP, 0o1777)] {
        let folder = scratch.join(name);
        fs::create_dir(&folder)?;
        fs::set_permissions(folder, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// What has to be made before the lock closes.
struct Streams {
    stdin: File,
    /// Where standard output is kept.
    kept: File,
    /// Standard output and standard error.
    pipes: (Pipe, Pipe),
}

impl Streams {
    fn new() -> io::Result<Self> {
        let (stdin, kept) = (memory_file(c"stdin")?, memory_file(c"stdout")?);
        Ok(Self { stdin, kept, pipes: (Pipe::new()?, Pipe::new()?) })
    }
}

/// Everything between the head and the logs.
struct Work<'a> {
    scratch: &'a Path,
    helper: File,
    stdin: File,
    pipes: (Pipe, Pipe),
    output: File,
}

impl Work<'_> {
    /// The program's exit code.
    fn run(
        mut self,
        attempt: &mut Attempt,
        opened: Opened,
        unpacker: Unpacker,
        written: &mut Written,
    ) -> Result<i32, Stop> {
        let limits = attempt.job.spec.limits;
        attempt.say(&EngineEvent::Compiling)?;
        let start = now();
        let unpacked = unpacker.unpack(opened.program, opened.program_length, &mut attempt.payload, limits.compile_ms);
        attempt.finished.compile_ms = since(start);
        let unpacked = unpacked?;
        attempt.check_program(&unpacked.digest, &opened.commitment)?;
        let image = unpacked.image?;
        attempt.finished.image = Some(opened.commitment.commit("image", &image.digest));

        let mut place = Place { stdin: &mut self.stdin, scratch: Some(self.scratch) };
        let (spec, payload) = (&attempt.job.spec, &mut attempt.payload);
        let manifest = open_input(&opened.input, opened.input_length, payload, spec, &opened.commitment, &mut place)?;
        attempt.finished.input = Some(attempt.job.spec.input);
        opened.input.destroy();

        let request = request(&image, &manifest)?;
        let started = EngineEvent::Started { compile_ms: attempt.finished.compile_ms };
        let (stdout, stderr) = self.pipes;
        let streams = (self.stdin, stdout, stderr);
        let ended = runner::run(self.helper, &request, streams, &limits, written, || attempt.say(&started))?;
        attempt.finished.wall_ms = ended.wall_ms;
        attempt.finished.exit = Some(ended.exit);

        attempt.say(&EngineEvent::Sealing)?;
        // The container's processes are all gone: nobody changes the output any more.
        if !make_readable(&self.scratch.join(OUT)).map_err(doing("looking at the output"))? {
            return Err(Stop::job(Reason::LimitOutput, "the program left too many files and folders"));
        }
        let kept = written.stdout.try_clone().map_err(doing("copying a descriptor"))?;
        let measured = Output::measure(ended.exit, kept, written.stdout_bytes, Some(self.scratch), &limits)?;
        let digest = measured.seal(&opened.recipient, &attempt.binding, self.output)?;
        attempt.finished.output = Some(opened.commitment.commit("output", &digest));
        Ok(ended.exit)
    }
}
