//! A stand-in for consumer and node: seals, starts the engine with its descriptors, opens what comes back.

use crate::pack::Image;
use crate::play::{self, Play};
use decores_keys::payload::{
    Head, JobBinding, ResultBinding, SectionKind, StreamOpener, StreamSealer, expect_end, seal_job,
};
use decores_keys::{Recipient, XWingKey};
use decores_sandbox::protocol::{EngineEvent, EngineJob, Finished};
use decores_types::bundle::{File as BundleFile, InputManifest, Item, Manifest, OutputManifest, PRELUDE, RelPath};
use decores_types::job::EngineKind;
use decores_types::{
    Attempt, CommitmentKey, ConsumerId, Digest, JobId, JobSpec, Limits, Protection, Random, Reason, canonical,
};
use rustix::io::{dup2, fcntl_dupfd_cloexec};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

/// The kernel's randomness.
pub struct Urandom;

impl Random for Urandom {
    fn fill(&self, out: &mut [u8]) {
        File::open("/dev/urandom").unwrap().read_exact(out).unwrap();
    }
}

/// What a job gets.
pub struct Order {
    pub program: Vec<u8>,
    pub args: Vec<&'static str>,
    pub env: Vec<(&'static str, &'static str)>,
    pub stdin: Vec<u8>,
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub limits: Limits,
    /// Alters the payload, given where the program's section begins, on its way to the engine.
    pub alter: fn(&mut Vec<u8>, usize),
    /// Whether the spec commits to another program.
    pub lie: bool,
}

impl Order {
    pub fn new(image: &Image) -> Self {
        Self::of(image.layout())
    }

    pub fn of(program: Vec<u8>) -> Self {
        let limits = Limits {
            memory_bytes: 16 << 20,
            wall_ms: 10_000,
            compile_ms: 20_000,
            output_bytes: 1 << 20,
            log_bytes: 4096,
            scratch_bytes: 8 << 20,
        };
        let (args, env, files) = (Vec::new(), Vec::new(), Vec::new());
        Self { program, args, env, stdin: Vec::new(), files, limits, alter: |_, _| {}, lie: false }
    }
}

/// What came back.
pub struct Outcome {
    pub events: Vec<EngineEvent>,
    pub status: ExitStatus,
    pub output: Option<(OutputManifest, Vec<Vec<u8>>)>,
    pub logs: Option<String>,
    pub commitment: CommitmentKey,
    pub asked: bool,
}

impl Outcome {
    pub fn finished(&self) -> &Finished {
        match self.events.last() {
            Some(EngineEvent::Finished(f)) => f,
            other => panic!("the engine was lost: last event {other:?}, {:?}", self.status),
        }
    }

    pub fn reason(&self) -> Reason {
        self.finished().reason
    }

    pub fn is_lost(&self) -> bool {
        !self.status.success() && !matches!(self.events.last(), Some(EngineEvent::Finished(_)))
    }

    pub fn logs(&self) -> &str {
        self.logs.as_deref().expect("there are logs")
    }
}

/// Runs a job, with a play in place of the container.
pub fn run(order: Order, play: impl FnOnce(&mut play::Container) -> Vec<u8> + Send + 'static) -> Outcome {
    let play: Play = Box::new(play);
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let (offer_key, output_key) = (XWingKey::generate(7, &Urandom).unwrap(), XWingKey::generate(1, &Urandom).unwrap());
    let (mut job, sealed, commitment) = seal(&order, &offer_key, &output_key);
    job.scratch = Some(scratch.to_str().unwrap().to_owned());
    let file = || tempfile::tempfile_in(folder.path()).unwrap();
    let (mut payload, output, logs) = (file(), file(), file());
    payload.write_all(&sealed).unwrap();
    payload.seek(SeekFrom::Start(0)).unwrap();
    let (job_read, mut job_write) = std::io::pipe().unwrap();
    let (mut events_read, events_write) = std::io::pipe().unwrap();
    let (engine_end, helper_end) = UnixStream::pair().unwrap();
    let descriptors: [OwnedFd; 6] = [
        job_read.into(),
        events_write.into(),
        payload.into(),
        output.try_clone().unwrap().into(),
        logs.try_clone().unwrap().into(),
        engine_end.into(),
    ];
    let mut engine = start(&scratch, descriptors);
    let helper = thread::spawn(move || play::serve(helper_end, scratch, play));
    let message = canonical::to_vec(&job).unwrap();
    job_write.write_all(&(message.len() as u32).to_be_bytes()).unwrap();
    job_write.write_all(&message).unwrap();
    job_write.write_all(offer_key.seed().expose()).unwrap();
    let mut text = String::new();
    events_read.read_to_string(&mut text).unwrap();
    let status = engine.wait().unwrap();
    let asked = helper.join().unwrap();
    let spec = job.spec.digest().unwrap();
    let binding = ResultBinding { attempt: job.attempt, consumer: job.consumer, job: job.job, spec }.digest().unwrap();
    let output = open(output, SectionKind::Output, &output_key, &binding).map(|b| parse_output(&b));
    let logs = open(logs, SectionKind::Logs, &output_key, &binding);
    let logs = logs.map(|l| String::from_utf8_lossy(&l).into_owned());
    let events = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    Outcome { events, status, output, logs, commitment, asked }
}

/// Starts the engine with descriptors 3 to 8 and no others.
fn start(scratch: &std::path::Path, descriptors: [OwnedFd; 6]) -> std::process::Child {
    // Out of the way of the numbers they are to have.
    let high = descriptors.map(|fd| fcntl_dupfd_cloexec(fd, 100).unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_decores-engine-container"));
    command.arg(scratch).stdin(Stdio::null()).env_clear();
    let place = move || {
        for (number, fd) in (3..).zip(&high) {
            // SAFETY: whatever has this number in the new process, it is replaced and never dropped.
            let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            dup2(fd, &mut target)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(place) };
    command.spawn().unwrap()
}

fn seal(order: &Order, offer_key: &XWingKey, output_key: &XWingKey) -> (EngineJob, Vec<u8>, CommitmentKey) {
    let commitment = CommitmentKey::random(&Urandom);
    let (input, manifest) = bundle(order);
    let program = if order.lie { Digest::of(b"another") } else { Digest::of(&order.program) };
    let spec = JobSpec {
        version: 1,
        engine: EngineKind::Container,
        protection: Protection::Container,
        limits: order.limits,
        program: commitment.commit("program", &program),
        input: commitment.commit("input", &manifest.digest().unwrap()),
        key_check: commitment.check(),
        output_key: output_key.recipient().to_output_key(),
        cache_seconds: 0,
        cache_id: None,
    };
    let consumer = ConsumerId::random(&Urandom);
    let offer = Digest::of(b"offer");
    let binding = JobBinding { consumer, offer, output_key: spec.output_key.id, spec: spec.digest().unwrap() };
    let recipient: &Recipient = offer_key.recipient();
    let length = order.program.len() as u64;
    let sealed = seal_job(recipient, &binding.digest().unwrap(), length, None, &commitment, &Urandom).unwrap();
    let mut payload = sealed.head;
    let program_at = payload.len();
    for (key, length, content) in [(&sealed.program, Some(length), &order.program), (&sealed.input, None, &input)] {
        let mut sealer = StreamSealer::new(key, length, &mut payload).unwrap();
        sealer.write_all(content).unwrap();
        sealer.finish().unwrap();
    }
    (order.alter)(&mut payload, program_at);
    let job = EngineJob {
        version: 1,
        job: JobId::random(&Urandom),
        attempt: Attempt(1),
        consumer,
        offer,
        offer_key: recipient.id(),
        offer_epoch: recipient.epoch(),
        spec,
        scratch: None,
        compile_address_space: 1 << 30,
        module: None,
    };
    (job, payload, commitment)
}

fn bundle(order: &Order) -> (Vec<u8>, InputManifest) {
    let item = |b: &[u8]| Item { sha256: Digest::of(b).into(), size: b.len() as u64 };
    let file = |(path, content): &(&str, Vec<u8>)| {
        let Item { sha256, size } = item(content);
        BundleFile { path: RelPath::parse(path).unwrap(), sha256, size }
    };
    let manifest = InputManifest {
        args: order.args.iter().map(|a| (*a).to_owned()).collect(),
        env: order.env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        files: order.files.iter().map(file).collect(),
        stdin: item(&order.stdin),
    };
    let mut bytes = manifest.prelude().unwrap();
    bytes.extend_from_slice(&order.stdin);
    order.files.iter().for_each(|(_, c)| bytes.extend_from_slice(c));
    (bytes, manifest)
}

/// The plaintext of a result; `None` where the engine wrote none.
fn open(mut file: File, section: SectionKind, key: &XWingKey, binding: &Digest) -> Option<Vec<u8>> {
    if file.metadata().unwrap().len() == 0 {
        return None;
    }
    file.seek(SeekFrom::Start(0)).unwrap();
    let head = Head::read(&mut file).unwrap();
    let section_key = head.open_single(section, key, binding).unwrap();
    let mut opener = StreamOpener::new(&section_key, head.header().sections[0].length, &mut file).unwrap();
    let mut plain = Vec::new();
    opener.read_to_end(&mut plain).unwrap();
    opener.finish().unwrap();
    expect_end(&mut file).unwrap();
    Some(plain)
}

fn parse_output(bytes: &[u8]) -> (OutputManifest, Vec<Vec<u8>>) {
    let length = decores_types::bundle::manifest_len(bytes[..PRELUDE].try_into().unwrap()).unwrap();
    let manifest = OutputManifest::parse(&bytes[PRELUDE..PRELUDE + length]).unwrap();
    let mut at = PRELUDE + length;
    let contents = manifest.sizes().into_iter().map(|size| {
        at += size as usize;
        bytes[at - size as usize..at].to_vec()
    });
    (manifest.clone(), contents.collect())
}
