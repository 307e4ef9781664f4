//! A log, a node and a receipt, made from fixed keys.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use decores_audit::checkpoint::{LogKey, LogSigner, SignerError};
use decores_audit::code::{Code, Version};
use decores_audit::event::{Entry, Event};
use decores_audit::memory::{MemoryStore, MemoryTiles};
use decores_audit::ports::{Batch, Store, TileStore};
use decores_audit::proof::InclusionProof;
use decores_audit::receipt::predicate::{
    Container, Isolation, Network, Node, Outcome, Predicate, Retained, Times, Usage, User, Wipe, WipeCheck, strengths,
};
use decores_audit::receipt::{Opening, PAYLOAD_TYPE, ReceiptFile, build};
use decores_audit::sequencer::Sequencer;
use decores_audit::trust::{Trust, TrustedNode};
use decores_audit::verify::OutputEvidence;
use decores_keys::{Envelope, RootSource};
use decores_types::bundle::{File, Item, Manifest as _, OutputManifest, RelPath};
use decores_types::job::{EngineKind, OutputKey};
use decores_types::{
    Attempt, Base64, CommitmentKey, ConsumerId, Digest, JobId, JobSpec, JobState, KeyId, Limits, OfferId, Protection,
    Reason, Scratch, Swap, Timestamp, WipeCategory,
};
use std::sync::Arc;

/// 2026-01-01T00:00:00.000Z.
pub const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);
pub const ORIGIN: &str = "node.example/log";
pub const LOG_KEY: [u8; 32] = [7; 32];

/// An Ed25519 key from a seed of one repeated byte.
pub struct TestKey {
    pair: Ed25519KeyPair,
    log: LogKey,
}

impl TestKey {
    pub fn new(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let log = LogKey::new(ORIGIN, pair.public_key().as_ref().try_into().unwrap()).unwrap();
        Self { pair, log }
    }

    pub fn public(&self) -> [u8; 32] {
        *self.log.public()
    }

    pub fn id(&self) -> KeyId {
        KeyId::of_public("ed25519", &self.public())
    }

    pub fn envelope(&self, payload: Vec<u8>) -> Envelope {
        Envelope::sign(PAYLOAD_TYPE, payload, self.id(), |m| Ok(self.pair.sign(m).as_ref().to_vec())).unwrap()
    }
}

impl LogSigner for TestKey {
    fn key(&self) -> &LogKey {
        &self.log
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        Ok(self.pair.sign(message).as_ref().try_into().unwrap())
    }
}

pub fn identity() -> TestKey {
    TestKey::new(1)
}

pub fn log_key() -> Arc<TestKey> {
    Arc::new(TestKey::new(2))
}

pub fn code(text: &str) -> Code {
    Code::parse(text).unwrap()
}

/// A small entry that differs by `n`.
pub fn entry(n: u64) -> Vec<u8> {
    let event = Event::AccessSummary { cause: code("no-key"), count: n, from: NOW, until: NOW };
    Entry::new(event, NOW).to_bytes().unwrap()
}

pub fn batch(entries: Vec<Vec<u8>>) -> Batch {
    Batch { changes: Vec::new(), entries }
}

/// A log in memory.
pub struct TestLog {
    pub store: Arc<MemoryStore>,
    pub tiles: Arc<MemoryTiles>,
    pub key: Arc<TestKey>,
}

impl TestLog {
    pub fn new() -> Self {
        Self { store: Arc::default(), tiles: Arc::default(), key: log_key() }
    }

    pub async fn sequencer(&self) -> Result<Sequencer, decores_audit::sequencer::SequencerError> {
        Sequencer::open(self.store.clone(), self.tiles.clone(), self.key.clone()).await
    }

    /// Appends and signs.
    pub async fn append(&self, entries: Vec<Vec<u8>>) {
        self.store.commit(batch(entries)).await.unwrap();
        let mut sequencer = self.sequencer().await.unwrap();
        while sequencer.integrate().await.unwrap().is_some() {}
    }

    pub fn prove(&self, index: u64) -> InclusionProof {
        let note = self.tiles.checkpoint().unwrap().unwrap();
        let head = decores_audit::Checkpoint::open_strict(&note, self.key.key()).unwrap().head();
        InclusionProof::make(&|p| self.tiles.get(p), head, note, index).unwrap()
    }
}

pub fn commitment_key() -> CommitmentKey {
    CommitmentKey::from_bytes([9; 32])
}

pub fn spec() -> JobSpec {
    let (key, public) = (commitment_key(), vec![5; 1216]);
    JobSpec {
        version: 1,
        engine: EngineKind::Wasm,
        protection: Protection::Process,
        limits: Limits::default(),
        program: key.commit("program", &Digest::of(b"program")),
        input: key.commit("input", &Digest::of(b"input")),
        key_check: key.check(),
        output_key: OutputKey { id: KeyId::of_public("x-wing", &public), public: Base64(public) },
        cache_seconds: 0,
        cache_id: None,
    }
}

fn item(content: &[u8]) -> Item {
    Item { sha256: Digest::of(content).into(), size: content.len() as u64 }
}

pub fn manifest() -> OutputManifest {
    let item = item(b"a file");
    let file = File { path: RelPath::parse("out/a.txt").unwrap(), sha256: item.sha256, size: item.size };
    OutputManifest { exit: 0, files: vec![file], stdout: self::item(b"hello") }
}

/// What a verifier finds who reads these as standard output and file.
pub fn evidence(stdout: &[u8], file: &[u8]) -> OutputEvidence {
    let item = item(file);
    let file = File { path: RelPath::parse("out/a.txt").unwrap(), sha256: item.sha256, size: item.size };
    OutputEvidence { stdout: self::item(stdout), files: vec![file] }
}

pub fn opening() -> Opening {
    Opening::new(&commitment_key(), Digest::of(b"program"), Digest::of(b"input"), Some(manifest()))
}

/// An attempt that went well.
pub fn predicate() -> Predicate {
    let check = |what: &str, category| WipeCheck { what: code(what), category, passed: true };
    Predicate {
        node: Node { identity: identity().id(), version: Version::parse("0.1.0").unwrap(), log: ORIGIN.to_owned() },
        consumer: ConsumerId::from_bytes([0xc0; 16]),
        job: JobId::from_bytes([0xa0; 16]),
        attempt: Attempt(1),
        offer: OfferId::from_bytes([0xf0; 16]),
        spec: spec(),
        program: Some(spec().program),
        image: None,
        input: Some(spec().input),
        output: Some(commitment_key().commit("output", &manifest().digest().unwrap())),
        logs: None,
        protection: Some(Protection::Process),
        isolation: Some(Isolation {
            user: User::Own,
            namespaces: ["ipc", "mount", "net", "pid"].map(code).to_vec(),
            seccomp: true,
            landlock: 3,
            cgroup: vec![code("memory"), code("pids")],
            swap: Swap::None,
            network: Network::None,
            engine: "decores-engine-wasm 0.1.0".to_owned(),
            scratch: Scratch::TmpfsNoswap,
            container: None,
        }),
        limits: Some(Limits::default()),
        result: Outcome {
            state: JobState::Done,
            reason: Reason::Completed,
            exit: Some(0),
            usage: Some(Usage { wall_ms: Some(20), compile_ms: Some(30), cpu_ms: 40, memory_bytes: 1 << 20 }),
        },
        wipe: Wipe {
            standard: "NIST SP 800-88 Rev. 2".to_owned(),
            category: Some(WipeCategory::Clear),
            checks: vec![
                check("processes", WipeCategory::Clear),
                check("cgroup", WipeCategory::Clear),
                check("mounts", WipeCategory::Clear),
                check("scratch", WipeCategory::Clear),
                check("offer-key", WipeCategory::Clear),
                check("sealed-input", WipeCategory::PurgeCryptographicErase),
            ],
            complete: true,
            not_covered: vec!["remanence of memory chips".to_owned()],
        },
        retained: vec![Retained { what: code("sealed-output"), until: Some(NOW.plus_ms(86_400_000)) }],
        insecure: Vec::new(),
        root_source: RootSource::Passphrase,
        times: Times { queued: NOW, started: Some(NOW.plus_ms(10)), ended: NOW.plus_ms(90) },
        strength: strengths(EngineKind::Wasm),
        log_key: LOG_KEY.as_slice().into(),
    }
}

/// The digest of the image in [`contained`]'s program.
pub fn image() -> Digest {
    Digest::of(b"image")
}

/// A container's attempt that went well.
pub fn contained() -> Predicate {
    let mut told = predicate();
    (told.spec.engine, told.spec.protection) = (EngineKind::Container, Protection::Container);
    told.protection = Some(Protection::Container);
    told.image = Some(commitment_key().commit("image", &image()));
    told.strength = strengths(EngineKind::Container);
    told.isolation.as_mut().unwrap().container = Some(Container {
        runtime: code("libcontainer"),
        version: "0.6.0".to_owned(),
        namespaces: ["cgroup", "ipc", "mount", "net", "pid", "user", "uts"].map(code).to_vec(),
        seccomp: true,
        powerless: true,
        own_ids: true,
        cgroup: vec![code("memory"), code("pids")],
    });
    told
}

/// Its receipt, opened.
pub async fn contained_opened() -> ReceiptFile {
    let opening = Opening { image: Some(image().into()), ..opening() };
    ReceiptFile { opening: Some(opening), ..receipt_of(contained()).await }
}

/// An attempt whose time in the queue ran out.
pub fn never_ran() -> Predicate {
    let mut told = predicate();
    (told.result.state, told.result.reason) = (JobState::Failed, Reason::QueueExpired);
    (told.program, told.input, told.output, told.result.exit, told.result.usage) = (None, None, None, None, None);
    (told.protection, told.isolation, told.limits, told.times.started) = (None, None, None, None);
    told.wipe.checks.drain(..4);
    told
}

/// Signs, logs and joins a receipt; the log has a few other entries.
pub async fn receipt_of(predicate: Predicate) -> ReceiptFile {
    receipt_in(&TestLog::new(), &identity(), predicate).await
}

pub async fn receipt_in(log: &TestLog, identity: &TestKey, predicate: Predicate) -> ReceiptFile {
    let payload = build::payload(predicate.clone()).unwrap();
    let event = build::ended(&predicate, &LOG_KEY, &payload);
    let ended = Entry::new(event, predicate.times.ended).to_bytes().unwrap();
    log.append(vec![entry(1), entry(2), ended.clone(), entry(3), entry(4)]).await;
    ReceiptFile::new(identity.envelope(payload), ended, &log.prove(2))
}

pub async fn opened() -> ReceiptFile {
    ReceiptFile { opening: Some(opening()), ..receipt_of(predicate()).await }
}

pub fn trust() -> Trust {
    let node = TrustedNode::new("example", identity().public(), log_key().key());
    Trust { nodes: vec![node], ..Trust::default() }
}
