//! A stand-in for consumer and node: seals, launches, opens what comes back.

use decores_keys::payload::{
    Head, JobBinding, ResultBinding, SectionKind, StreamOpener, StreamSealer, expect_end, seal_job,
};
use decores_keys::{Recipient, XWingKey};
use decores_launcher::{EngineDescriptors, Launched, Launcher, LauncherConfig, LauncherHandle, Leftovers};
use decores_sandbox::protocol::{EngineEvent, EngineJob, Exit, Finished, Given};
use decores_sandbox::{HostCapabilities, IsolationPlan, SandboxConfig};
use decores_types::Scratch;
use decores_types::bundle::{File as BundleFile, InputManifest, Item, Manifest, OutputManifest, PRELUDE, RelPath};
use decores_types::job::EngineKind;
use decores_types::{
    Attempt, CommitmentKey, ConsumerId, Digest, JobId, JobSpec, Limits, Protection, Random, Reason, canonical,
};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tempfile::TempDir;

/// The kernel's randomness.
pub struct Urandom;

impl Random for Urandom {
    fn fill(&self, out: &mut [u8]) {
        File::open("/dev/urandom").unwrap().read_exact(out).unwrap();
    }
}

/// The node's side of the tests.
pub struct Node {
    pub launcher: LauncherHandle,
    pub host: HostCapabilities,
    pub config: SandboxConfig,
    folder: TempDir,
}

/// What a job gets.
#[derive(Clone)]
pub struct Order {
    pub program: Vec<u8>,
    pub args: Vec<&'static str>,
    pub env: Vec<(&'static str, &'static str)>,
    pub stdin: Vec<u8>,
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub limits: Limits,
}

impl Order {
    pub fn new(program: Vec<u8>) -> Self {
        let limits = Limits {
            memory_bytes: 16 << 20,
            wall_ms: 10_000,
            compile_ms: 20_000,
            output_bytes: 4 << 20,
            log_bytes: 4096,
            scratch_bytes: 8 << 20,
        };
        Self { program, args: Vec::new(), env: Vec::new(), stdin: Vec::new(), files: Vec::new(), limits }
    }

    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }
}

/// Everything that can be falsified before the engine sees it.
pub struct Sent {
    pub job: EngineJob,
    pub payload: Vec<u8>,
    pub program_at: usize,
    pub input_at: usize,
    pub plan: IsolationPlan,
}

/// What came back.
pub struct Outcome {
    pub events: Vec<EngineEvent>,
    pub exit: Exit,
    pub given: Given,
    pub output: Option<(OutputManifest, Vec<Vec<u8>>)>,
    pub logs: Option<String>,
}

impl Outcome {
    pub fn finished(&self) -> &Finished {
        match self.events.last() {
            Some(EngineEvent::Finished(f)) => f,
            other => panic!("the engine was lost: last event {other:?}, {:?}", self.exit),
        }
    }

    pub fn reason(&self) -> Reason {
        self.finished().reason
    }

    pub fn stdout(&self) -> &[u8] {
        &self.output.as_ref().expect("there is output").1[0]
    }
}

impl Node {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = SandboxConfig { overhead_ms: 60_000, ..SandboxConfig::default() };
        let launcher = Launcher::fork(LauncherConfig {
            io_bytes: 1 << 30,
            owner: true,
            holes: Vec::new(),
            containers: Err("not needed here".to_owned()),
            engines: vec![(EngineKind::Wasm, PathBuf::from(env!("CARGO_BIN_EXE_decores-engine-wasm")))],
            jails: folder.path().join("jails"),
            scratch: folder.path().join("scratch"),
            first_uid: config.first_uid,
            slots: 2,
            max_limits: config.max_limits,
            max_deadline_ms: 10_000_000,
        });
        let launcher = launcher.unwrap().connect().unwrap();
        let host = launcher.probe().unwrap();
        println!("host: {host:?}");
        if !host.own_users {
            println!("not root: users of their own and control groups are not asserted");
        }
        Self { launcher, host, config, folder }
    }

    /// Where encrypted scratches lie.
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    pub fn run(&self, order: Order) -> Outcome {
        self.run_altered(order, |_| {})
    }

    /// Runs a job that was altered on its way to the engine.
    pub fn run_altered(&self, order: Order, alter: impl FnOnce(&mut Sent)) -> Outcome {
        self.run_watched(order, alter, |_| {})
    }

    /// As above, with something done while the engine runs.
    pub fn run_watched(&self, order: Order, alter: impl FnOnce(&mut Sent), watch: impl FnOnce(&Sent)) -> Outcome {
        let offer_key = XWingKey::generate(7, &Urandom).unwrap();
        let output_key = XWingKey::generate(1, &Urandom).unwrap();
        let mut sent = self.seal(&order, &offer_key, &output_key);
        let binding = ResultBinding {
            attempt: sent.job.attempt,
            consumer: sent.job.consumer,
            job: sent.job.job,
            spec: sent.job.spec.digest().unwrap(),
        };
        alter(&mut sent);
        let file = || tempfile::tempfile_in(self.folder.path()).unwrap();
        let (mut payload, output, logs) = (file(), file(), file());
        payload.write_all(&sent.payload).unwrap();
        payload.seek(SeekFrom::Start(0)).unwrap();
        let (job_read, mut job_write) = std::io::pipe().unwrap();
        let (mut events_read, events_write) = std::io::pipe().unwrap();
        let fds = EngineDescriptors {
            job: OwnedFd::from(job_read),
            events: OwnedFd::from(events_write),
            payload: payload.into(),
            output: output.try_clone().unwrap().into(),
            logs: logs.try_clone().unwrap().into(),
            module: None,
        };
        let Launched { given, exit, .. } = self.launcher.launch(&sent.plan, fds).unwrap();
        sent.job.scratch = (given.scratch != Scratch::None).then(|| "/scratch".to_owned());
        let message = canonical::to_vec(&sent.job).unwrap();
        job_write.write_all(&(message.len() as u32).to_be_bytes()).unwrap();
        job_write.write_all(&message).unwrap();
        job_write.write_all(offer_key.seed().expose()).unwrap();
        watch(&sent);
        let exit = exit.blocking_recv().unwrap();
        let left = self.launcher.inspect(sent.job.job, sent.job.attempt).unwrap();
        assert_eq!(left, Leftovers::default(), "the launcher left something");
        let mut text = String::new();
        events_read.read_to_string(&mut text).unwrap();
        let events: Vec<EngineEvent> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let binding = binding.digest().unwrap();
        let output = open(output, SectionKind::Output, &output_key, &binding).map(|b| parse_output(&b));
        let logs = open(logs, SectionKind::Logs, &output_key, &binding);
        let logs = logs.map(|l| String::from_utf8_lossy(&l).into_owned());
        Outcome { events, exit, given, output, logs }
    }

    fn seal(&self, order: &Order, offer_key: &XWingKey, output_key: &XWingKey) -> Sent {
        let commitment = CommitmentKey::random(&Urandom);
        let (input, manifest) = bundle(order);
        let spec = JobSpec {
            version: 1,
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            limits: order.limits,
            program: commitment.commit("program", &Digest::of(&order.program)),
            input: commitment.commit("input", &manifest.digest().unwrap()),
            key_check: commitment.check(),
            output_key: output_key.recipient().to_output_key(),
            cache_seconds: 0,
            cache_id: None,
        };
        let job = JobId::random(&Urandom);
        let plan = decores_sandbox::plan::plan(job, Attempt(1), &spec, &self.host, &self.config, 0).unwrap();
        let consumer = ConsumerId::random(&Urandom);
        let offer = Digest::of(b"offer");
        let binding = JobBinding { consumer, offer, output_key: spec.output_key.id, spec: spec.digest().unwrap() };
        let recipient: &Recipient = offer_key.recipient();
        let sealed =
            seal_job(recipient, &binding.digest().unwrap(), order.program.len() as u64, None, &commitment, &Urandom)
                .unwrap();
        let mut payload = sealed.head;
        let program_at = payload.len();
        let mut sealer = StreamSealer::new(&sealed.program, Some(order.program.len() as u64), &mut payload).unwrap();
        sealer.write_all(&order.program).unwrap();
        sealer.finish().unwrap();
        let input_at = payload.len();
        let mut sealer = StreamSealer::new(&sealed.input, None, &mut payload).unwrap();
        sealer.write_all(&input).unwrap();
        sealer.finish().unwrap();
        let job = EngineJob {
            version: 1,
            job,
            attempt: Attempt(1),
            consumer,
            offer,
            offer_key: recipient.id(),
            offer_epoch: recipient.epoch(),
            spec,
            scratch: None,
            compile_address_space: plan.compile_address_space,
            module: None,
        };
        Sent { job, payload, program_at, input_at, plan }
    }
}

fn bundle(order: &Order) -> (Vec<u8>, InputManifest) {
    let item = |b: &[u8]| Item { sha256: Digest::of(b).into(), size: b.len() as u64 };
    let mut files = order.files.clone();
    files.sort();
    let manifest = InputManifest {
        args: order.args.iter().map(|a| (*a).to_owned()).collect(),
        env: order.env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        files: files
            .iter()
            .map(|(p, c)| BundleFile {
                path: RelPath::parse(p).unwrap(),
                sha256: Digest::of(c).into(),
                size: c.len() as u64,
            })
            .collect(),
        stdin: item(&order.stdin),
    };
    let mut bytes = manifest.prelude().unwrap();
    bytes.extend_from_slice(&order.stdin);
    files.iter().for_each(|(_, c)| bytes.extend_from_slice(c));
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
    let contents: Vec<_> = contents.collect();
    assert_eq!(at, bytes.len());
    (manifest, contents)
}
