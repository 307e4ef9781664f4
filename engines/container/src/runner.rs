//! The helper's end of a container: one request, its three streams, and what becomes of it.

use decores_attempt::{EngineError, Stop, doing};
use decores_sandbox::container::{MAX_ANSWER, RunAnswer, RunRequest};
use decores_types::{Limits, Reason, canonical};
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes that are read of a stream at once.
const AT_ONCE: usize = 64 << 10;

/// A pipe to the container; made before the lock closes.
#[derive(Debug)]
pub(crate) struct Pipe {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        // Ours alone: the other end is the program's.
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        Ok(Self { ours, theirs })
    }
}

/// How a container ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The exit code; where a signal ended it, 128 and the signal's number.
    pub(crate) exit: i32,
    pub(crate) wall_ms: u64,
}

/// What the container writes, as far as its limits go.
#[derive(Debug)]
pub(crate) struct Written {
    /// Where standard output goes.
    pub(crate) stdout: File,
    /// How much there is of it.
    pub(crate) stdout_bytes: u64,
    /// Standard error; what is beyond its limit is dropped.
    pub(crate) log: Vec<u8>,
}

/// A container that runs.
struct Running<'a> {
    helper: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    limits: &'a Limits,
    written: &'a mut Written,
    /// The part of a line that the helper has answered so far.
    line: Vec<u8>,
}

/// Has a program run to its end; `started` is called once it runs.
pub(crate) fn run(
    helper: File,
    request: &RunRequest,
    (stdin, stdout, stderr): (File, Pipe, Pipe),
    limits: &Limits,
    written: &mut Written,
    mut started: impl FnMut() -> Result<(), EngineError>,
) -> Result<Ended, Stop> {
    let helper = OwnedFd::from(helper);
    ask(&helper, request, [&stdin.into(), &stdout.theirs, &stderr.theirs]).map_err(doing("asking the helper"))?;
    // Their ends are the program's alone now: where it closes them, ours end.
    drop((stdout.theirs, stderr.theirs));
    let (stdout, stderr) = (Some(stdout.ours), Some(stderr.ours));
    let mut running = Running { helper, stdout, stderr, limits, written, line: Vec::new() };
    loop {
        match running.next_answer()? {
            RunAnswer::Started => started()?,
            RunAnswer::Ended { late: true, .. } => {
                return Err(Stop::job(Reason::LimitTime, "the program ran longer than its limit"));
            }
            RunAnswer::Ended { code, signal, wall_ms, .. } => {
                // The last of its processes is gone; what they wrote last may still be in the pipes.
                while running.take_output()? | running.take_log()? {}
                let exit = code.or(signal.map(|s| s.saturating_add(128)));
                let exit = exit.ok_or(EngineError::Protocol("the helper says no end"))?;
                return Ok(Ended { exit, wall_ms });
            }
            RunAnswer::Refused { why } => {
                return Err(Stop::job(Reason::ProgramInvalid, format!("the container is refused: {why}")));
            }
            RunAnswer::Failed { why } => return Err(EngineError::Runtime(why).into()),
        }
    }
}

/// Sends length and request; the streams go with the first byte.
fn ask(helper: &OwnedFd, request: &RunRequest, streams: [&OwnedFd; 3]) -> io::Result<()> {
    let document = serde_json::to_vec(request)?;
    let length = u32::try_from(document.len()).map_err(io::Error::other)?;
    let message = [length.to_be_bytes().as_slice(), &document].concat();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let streams = streams.map(AsFd::as_fd);
    if !control.push(SendAncillaryMessage::ScmRights(&streams)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let sent = sendmsg(helper, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
    File::from(helper.try_clone()?).write_all(message.get(sent..).unwrap_or_default())
}

impl Running<'_> {
    /// Listens to everything until the helper has said something.
    fn next_answer(&mut self) -> Result<RunAnswer, Stop> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                return canonical::from_json(line.trim_ascii_end(), MAX_ANSWER)
                    .map_err(|_| EngineError::Protocol("the helper said what is no answer").into());
            }
            if self.line.len() > MAX_ANSWER {
                return Err(EngineError::Protocol("the helper said too much").into());
            }
            self.wait().map_err(|e| doing("waiting for the container")(e.into()))?;
            self.take_output()?;
            self.take_log()?;
        }
    }

    /// Waits until there is something to read; what the helper says is taken at once.
    fn wait(&mut self) -> Result<(), Errno> {
        let streams = [&self.stdout, &self.stderr].into_iter().flatten();
        let mut waiting: Vec<PollFd<'_>> =
            [&self.helper].into_iter().chain(streams).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut waiting, None) {
            Err(Errno::INTR) => return Ok(()),
            other => other?,
        };
        if waiting.first().is_some_and(|helper| helper.revents().is_empty()) {
            return Ok(());
        }
        let mut buffer = [0; 1024];
        match rustix::io::read(&self.helper, &mut buffer)? {
            0 => Err(Errno::CONNRESET),
            n => {
                self.line.extend_from_slice(buffer.get(..n).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Takes some standard output; false if there is none.
    fn take_output(&mut self) -> Result<bool, Stop> {
        let part = take(&mut self.stdout)?;
        self.written.stdout_bytes += part.len() as u64;
        if self.written.stdout_bytes > self.limits.output_bytes {
            // Dropping our end of the socket ends the container.
            return Err(Stop::job(Reason::LimitOutput, "the program wrote more output than its limit"));
        }
        self.written.stdout.write_all(&part).map_err(doing("keeping standard output"))?;
        Ok(!part.is_empty())
    }

    /// Takes some standard error; false if there is none.
    fn take_log(&mut self) -> Result<bool, Stop> {
        let part = take(&mut self.stderr)?;
        let most = usize::try_from(self.limits.log_bytes).unwrap_or(usize::MAX);
        let fits = most.saturating_sub(self.written.log.len()).min(part.len());
        self.written.log.extend_from_slice(part.get(..fits).unwrap_or_default());
        Ok(!part.is_empty())
    }
}

/// What a pipe holds, up to a limit; nothing if there is nothing now, or its end was reached.
fn take(pipe: &mut Option<OwnedFd>) -> Result<Vec<u8>, EngineError> {
    let Some(fd) = pipe else { return Ok(Vec::new()) };
    let mut buffer = vec![0; AT_ONCE];
    match rustix::io::read(fd, &mut buffer) {
        Ok(0) => *pipe = None,
        Ok(n) => {
            buffer.truncate(n);
            return Ok(buffer);
        }
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(e) => return Err(doing("reading the container's streams")(e.into())),
    }
    Ok(Vec::new())
}
