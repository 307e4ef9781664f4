//! Jobs started by hand: launcher, engine, and nothing else of a node.

use crate::at;
use decores_keys::XWingKey;
use decores_keys::payload::{JobBinding, StreamSealer, seal_job};
use decores_launcher::{EngineDescriptors, Launcher, LauncherConfig, LauncherHandle};
use decores_sandbox::protocol::{EngineEvent, EngineJob, Finished, ModuleEnd, ModuleJob};
use decores_sandbox::{HostCapabilities, SandboxConfig};
use decores_system::SystemRandom;
use decores_tests::programs::program as path_of;
use decores_types::bundle::{InputManifest, Item, Manifest};
use decores_types::job::EngineKind;
use decores_types::{
    Attempt, Commitment, CommitmentKey, ConsumerId, Digest, JobId, JobSpec, Limits, Protection, Reason, Scratch,
    canonical,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;
use tempfile::TempDir;

const INPUT: &[u8] = b"hello";
/// What opens the kept program.
const KEY: [u8; 32] = [9; 32];
const CONSUMER: ConsumerId = ConsumerId::from_bytes([7; 16]);

pub(crate) struct Bare {
    launcher: LauncherHandle,
    host: HostCapabilities,
    config: SandboxConfig,
    folder: TempDir,
}

/// A job that is sealed and not started.
struct Ready {
    job: EngineJob,
    seed: XWingKey,
    payload: PathBuf,
}

impl Bare {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("decores-bare-").tempdir().unwrap();
        let config = SandboxConfig { first_uid: 0x6f00_0000, slots: 8, ..SandboxConfig::default() };
        let engine = path_of("decores-engine-wasm");
        let [jails, scratch] = ["jails", "scratch"].map(|name| folder.path().join(name));
        let launcher = LauncherConfig::of_node(&config, engine.parent().unwrap(), None, jails, scratch).unwrap();
        let launcher = Launcher::fork(launcher).unwrap().connect().unwrap();
        let host = launcher.probe().unwrap();
        Self { launcher, host, config, folder }
    }

    fn ready(&self, program: &[u8], module: ModuleJob) -> Ready {
        let random = &SystemRandom;
        let (offer, output) = (XWingKey::generate(1, random).unwrap(), XWingKey::generate(1, random).unwrap());
        let commitment = CommitmentKey::random(random);
        let stdin = Item { sha256: Digest::of(INPUT).into(), size: INPUT.len() as u64 };
        let manifest = InputManifest { args: Vec::new(), env: BTreeMap::new(), files: Vec::new(), stdin };
        let input = [manifest.prelude().unwrap().as_slice(), INPUT].concat();
        let spec = JobSpec {
            version: 1,
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            limits: Limits::default(),
            program: commitment.commit("program", &Digest::of(program)),
            input: commitment.commit("input", &manifest.digest().unwrap()),
            key_check: commitment.check(),
            output_key: output.recipient().to_output_key(),
            cache_seconds: 3600,
            cache_id: Some(Commitment::parse(&"5a".repeat(32)).unwrap()),
        };
        let digest = Digest::of(b"offer");
        let binding = JobBinding {
            consumer: CONSUMER,
            offer: digest,
            output_key: spec.output_key.id,
            spec: spec.digest().unwrap(),
        };
        let (length, binding) = (input.len() as u64, binding.digest().unwrap());
        let to = offer.recipient();
        let sealed = seal_job(to, &binding, program.len() as u64, Some(length), &commitment, random).unwrap();
        let mut payload = sealed.head;
        for (key, content) in [(&sealed.program, program), (&sealed.input, input.as_slice())] {
            let mut sealer = StreamSealer::new(key, Some(content.len() as u64), &mut payload).unwrap();
            sealer.write_all(content).unwrap();
            sealer.finish().unwrap();
        }
        let job = EngineJob {
            version: 1,
            job: JobId::random(random),
            attempt: Attempt(1),
            consumer: CONSUMER,
            offer: digest,
            offer_key: to.id(),
            offer_epoch: to.epoch(),
            spec,
            scratch: None,
            compile_address_space: 4 << 30,
            module: Some(module),
        };
        let path = self.folder.path().join(job.job.to_string());
        std::fs::write(&path, payload).unwrap();
        Ready { job, seed: offer, payload: path }
    }

    /// Milliseconds until the engine's program starts, until it is locked in, to its last word, and until nothing of
    /// its jail is left.
    fn run(&self, mut ready: Ready, module: File, slot: u32) -> ([f64; 4], Finished) {
        let (job, spec) = (ready.job.job, &ready.job.spec);
        let plan = decores_sandbox::plan::plan(job, Attempt(1), spec, &self.host, &self.config, slot).unwrap();
        let start = Instant::now();
        let file = || tempfile::tempfile_in(self.folder.path()).unwrap();
        let (job_read, mut job_write) = std::io::pipe().unwrap();
        let (mut events, events_write) = std::io::pipe().unwrap();
        let fds = EngineDescriptors {
            job: OwnedFd::from(job_read),
            events: OwnedFd::from(events_write),
            payload: File::open(&ready.payload).unwrap().into(),
            output: file().into(),
            logs: file().into(),
            module: Some(module.into()),
        };
        let launched = self.launcher.launch(&plan, fds).unwrap();
        let up = start.elapsed();
        ready.job.scratch = (launched.given.scratch != Scratch::None).then(|| "/scratch".to_owned());
        let message = canonical::to_vec(&ready.job).unwrap();
        let mut told = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
        told.extend([message.as_slice(), ready.seed.seed().expose(), &KEY].concat());
        let (mut text, mut locked, mut piece) = (Vec::new(), None, [0; 4096]);
        loop {
            let n = events.read(&mut piece).unwrap();
            if n == 0 {
                break;
            }
            if locked.is_none() {
                locked = Some(start.elapsed());
                job_write.write_all(&told).unwrap();
            }
            text.extend_from_slice(&piece[..n]);
        }
        let spoken = start.elapsed();
        launched.exit.blocking_recv().unwrap();
        let over = start.elapsed();
        std::fs::remove_file(ready.payload).unwrap();
        let last = text.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).unwrap();
        let EngineEvent::Finished(finished) = EngineEvent::parse(last).unwrap() else { panic!("the engine was lost") };
        assert_eq!(finished.reason, Reason::Completed);
        ([up, locked.unwrap(), spoken, over].map(|t| t.as_secs_f64() * 1e3), *finished)
    }

    /// Has the program compiled and kept; where.
    pub(crate) fn keep(&self, program: &[u8]) -> PathBuf {
        let path = self.folder.path().join("kept");
        let ready = self.ready(program, ModuleJob::Store { most: 1 << 30 });
        let (_, finished) = self.run(ready, File::create(&path).unwrap(), 0);
        assert_eq!(finished.module, Some(ModuleEnd::Stored));
        path
    }

    fn load(&self, ready: Ready, kept: &PathBuf, slot: u32) -> [f64; 4] {
        let (ms, finished) = self.run(ready, File::open(kept).unwrap(), slot);
        assert_eq!(finished.module, Some(ModuleEnd::Loaded));
        ms
    }

    pub(crate) fn one_by_one(&self, program: &[u8], kept: &PathBuf, jobs: usize) -> [f64; 4] {
        let one = |_| self.load(self.ready(program, ModuleJob::Load), kept, 0);
        let all: Vec<[f64; 4]> = (0..jobs).map(one).collect();
        [0, 1, 2, 3].map(|part| at(all.iter().map(|ms| ms[part]).collect(), 50))
    }

    /// Jobs a second; sealing them is not counted.
    pub(crate) fn at_once(&self, program: &[u8], kept: &PathBuf, jobs: usize, parallel: usize) -> f64 {
        let left: Vec<Ready> = (0..jobs).map(|_| self.ready(program, ModuleJob::Load)).collect();
        let left = &Mutex::new(left);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for slot in 0..u32::try_from(parallel).unwrap() {
                scope.spawn(move || {
                    loop {
                        let next = left.lock().unwrap().pop();
                        let Some(ready) = next else { return };
                        self.load(ready, kept, slot);
                    }
                });
            }
        });
        jobs as f64 / start.elapsed().as_secs_f64()
    }
}
