//! A node whose word and signature differ: what it shows unsigned is not believed.
//!
//! A small TLS server with a log and an identity of its own, which it uses as it likes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../../domains/audit/tests/common/mod.rs"]
mod audit;
mod server;

use decores_api::jobs::{Job, JobStep};
use decores_audit::receipt::{Predicate, Receipt};
use decores_audit::verify::{Claim, Status};
use decores_client::{Client, ClientError, ErrorKind, Home, JobInput, JobReceipt, Output, Source, Terms};
use decores_keys::Recipient;
use decores_keys::payload::{ResultBinding, SectionKind, StreamSealer, seal_single};
use decores_system::SystemRandom;
use decores_types::bundle::{Item, Manifest as _, OutputManifest};
use decores_types::{Attempt, Digest, JobId, JobState, Limits, Protection, Reason, Timestamp};
use server::{Fake, answer, serve};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

/// What the node answers, to be changed while it runs.
#[derive(Clone, Debug)]
struct Answers {
    job: Job,
    result: Vec<u8>,
    receipt: Vec<u8>,
}

/// A job that a client really drafted, and a node that can say anything of it.
struct Scene {
    client: Client,
    node: Fake,
    answers: Arc<Mutex<Answers>>,
    truth: Predicate,
    folder: tempfile::TempDir,
}

fn job() -> Job {
    let told = audit::predicate();
    let (job, attempt, state, reason) = (told.job, told.attempt, told.result.state, told.result.reason);
    Job {
        job,
        consumer: told.consumer,
        attempt,
        state,
        reason,
        explanation: reason.explain().to_owned(),
        steps: vec![JobStep { attempt, state, reason, time: audit::NOW }],
        result: true,
        logs: false,
        receipt: true,
        resubmit: false,
    }
}

fn manifest(stdout: &[u8]) -> OutputManifest {
    let stdout = Item { sha256: Digest::of(stdout).into(), size: stdout.len() as u64 };
    OutputManifest { exit: 0, files: Vec::new(), stdout }
}

/// What anybody can do who knows the output key: seal an output to it.
fn sealed(told: &Predicate, stdout: &[u8]) -> Vec<u8> {
    let mut bundle = manifest(stdout).prelude().unwrap();
    bundle.extend_from_slice(stdout);
    let (attempt, consumer, job) = (told.attempt, told.consumer, told.job);
    let binding = ResultBinding { attempt, consumer, job, spec: told.spec.digest().unwrap() }.digest().unwrap();
    let recipient = Recipient::of_output_key(&told.spec.output_key).unwrap();
    let length = Some(bundle.len() as u64);
    let single = seal_single(SectionKind::Output, &recipient, length, &binding, &SystemRandom).unwrap();
    let mut sealed = single.head;
    let mut sealer = StreamSealer::new(&single.key, length, &mut sealed).unwrap();
    sealer.write_all(&bundle).unwrap();
    sealer.finish().unwrap();
    sealed
}

async fn signed(told: Predicate) -> Vec<u8> {
    audit::receipt_of(told).await.to_bytes().unwrap()
}

impl Scene {
    async fn new() -> Self {
        let answers = Arc::new(Mutex::new(Answers { job: job(), result: Vec::new(), receipt: Vec::new() }));
        let said = Arc::clone(&answers);
        let node = serve(
            &[&rustls::version::TLS13],
            Arc::new(move |path: &str| {
                let said = said.lock().unwrap().clone();
                let path = path.split('?').next().unwrap_or_default();
                match path.rsplit('/').next() {
                    Some("receipt") => answer("200 OK", "", &said.receipt),
                    Some("result") => answer("200 OK", "", &said.result),
                    _ => answer("200 OK", "", serde_json::to_vec(&said.job).unwrap()),
                }
            }),
        )
        .await;
        let folder = tempfile::tempdir().unwrap();
        let (identity, consumer) = (audit::identity().public(), audit::predicate().consumer);
        let client = server::client(&folder, &node.url, &node.ca, identity, consumer);
        let stdin = Source::Bytes(Arc::from(b"in".as_slice()));
        let program = Source::Bytes(Arc::from(b"program".as_slice()));
        let input = JobInput { program, args: Vec::new(), env: BTreeMap::new(), stdin, files: BTreeMap::new() };
        let terms = Terms { protection: Protection::Process, limits: Limits::default(), cache_seconds: 0 };
        let mut record = client.draft(&input.prepare(&mut |_| {}).unwrap(), &terms).unwrap();
        record.job = Some(job().job);
        Home::new(folder.path().to_owned()).save_job(&record).unwrap();
        let digest = manifest(b"hello").digest().unwrap();
        let truth = Predicate {
            program: Some(record.spec.program),
            input: Some(record.spec.input),
            output: Some(record.commitment_key().unwrap().commit("output", &digest)),
            spec: record.spec,
            ..audit::predicate()
        };
        let scene = Self { client, node, answers, truth, folder };
        scene.answer(|a| a.result = sealed(&scene.truth, b"hello"));
        let receipt = signed(scene.truth.clone()).await;
        scene.answer(|a| a.receipt = receipt);
        scene
    }

    fn answer(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    async fn output(&self) -> Output {
        self.client.output(job().job, &mut |_| {}).await.unwrap()
    }

    /// Asks for the receipt of what the node shows now.
    async fn receipt(&self, output: Option<&Output>) -> Result<JobReceipt, ClientError> {
        let shown = self.client.job(job().job).await.unwrap();
        self.client.receipt(&shown, output, &audit::trust(), &[]).await
    }

    async fn refused(&self, output: Option<&Output>) -> String {
        let error = self.receipt(output).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        error.to_string()
    }
}

#[tokio::test]
async fn an_honest_node_is_believed_and_its_output_opens_the_receipt() {
    let scene = Scene::new().await;
    let output = scene.output().await;
    for output in [Some(&output), None] {
        let receipt = scene.receipt(output).await.unwrap();
        assert!(receipt.report.is_accepted() && receipt.is_authentic(), "{:?}", receipt.report.verdict);
        let opening = Receipt::parse(&receipt.bytes).unwrap().file.opening.unwrap();
        assert_eq!(opening.output.as_ref(), Some(&manifest(b"hello")));
    }
}

#[tokio::test]
async fn an_output_that_the_receipt_does_not_name_is_refused_and_forgotten() {
    let scene = Scene::new().await;
    scene.answer(|a| a.result = sealed(&scene.truth, b"something else"));
    let foreign = scene.output().await;
    assert!(scene.refused(Some(&foreign)).await.contains("another output"));
    assert_eq!(scene.client.record(job().job).unwrap().output, None);
    let without = signed(Predicate { output: None, ..scene.truth.clone() }).await;
    scene.answer(|a| a.receipt = without);
    assert!(scene.refused(Some(&foreign)).await.contains("another output"));
}

#[tokio::test]
async fn the_receipt_of_another_job_attempt_consumer_or_spec_is_refused() {
    let scene = Scene::new().await;
    let changes: [(&str, fn(&mut Predicate)); 4] = [
        ("attempt 1", |p| p.job = JobId::from_bytes([0xb0; 16])),
        ("attempt 2", |p| p.attempt = Attempt(2)),
        ("another node or consumer", |p| p.consumer = decores_types::ConsumerId::from_bytes([1; 16])),
        ("another spec", |p| p.spec.limits.wall_ms += 1),
    ];
    for (why, change) in changes {
        let mut told = scene.truth.clone();
        change(&mut told);
        let receipt = signed(told).await;
        scene.answer(|a| a.receipt = receipt);
        let text = scene.refused(None).await;
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn a_state_or_reason_that_the_node_did_not_sign_is_refused() {
    let scene = Scene::new().await;
    let mut failed = scene.truth.clone();
    (failed.result.state, failed.result.reason, failed.result.exit) = (JobState::Failed, Reason::Trap, None);
    let receipt = signed(failed).await;
    let done = scene.answers.lock().unwrap().receipt.clone();
    scene.answer(|a| a.receipt = receipt);
    assert!(scene.refused(None).await.contains("told us `done` for `completed`, and signed `failed` for `trap`"));
    scene.answer(|a| (a.receipt, a.job.state, a.job.reason) = (done, JobState::Cancelled, Reason::ByConsumer));
    assert!(scene.refused(None).await.contains("signed `done`"));
    scene.answer(|a| a.job.state = JobState::Running);
    assert_eq!(scene.receipt(None).await.unwrap_err().kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn a_receipt_of_an_unpinned_signer_is_not_authentic_and_its_output_not_remembered() {
    let scene = Scene::new().await;
    let output = scene.output().await;
    let log = audit::TestLog::new();
    let forged = audit::receipt_in(&log, &audit::TestKey::new(3), scene.truth.clone()).await.to_bytes().unwrap();
    scene.answer(|a| a.receipt = forged);
    let receipt = scene.receipt(Some(&output)).await.unwrap();
    assert_eq!(receipt.report.status(Claim::Issuer), Status::DoesNotHold);
    assert!(!receipt.is_authentic());
    assert_eq!(scene.client.record(job().job).unwrap().output, None);
}

/// It answers at once, again and again, that nothing is new.
#[tokio::test]
async fn a_node_without_news_does_not_make_the_client_spin() {
    let scene = Scene::new().await;
    scene.answer(|a| (a.job.state, a.job.reason) = (JobState::Running, Reason::Started));
    let mut seen = 0;
    let waiting = scene.client.wait(job().job, &mut seen, &|_| {});
    assert!(tokio::time::timeout(std::time::Duration::from_millis(1_800), waiting).await.is_err());
    let asked = scene.node.heard();
    assert!((2..=5).contains(&asked.matches("GET ").count()), "{asked}");
}

/// A clock on which ten minutes pass with every question.
#[derive(Debug, Default)]
struct FastClock(std::sync::atomic::AtomicU64);

impl decores_types::Clock for FastClock {
    fn now(&self) -> Timestamp {
        audit::NOW
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.fetch_add(600_000, std::sync::atomic::Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_job_that_never_ends_is_given_up() {
    let scene = Scene::new().await;
    scene.answer(|a| (a.job.state, a.job.reason) = (JobState::Running, Reason::Started));
    let home = Home::new(scene.folder.path().to_owned());
    let client = Client::open(home, None, None, Arc::new(FastClock::default()), Arc::new(SystemRandom)).unwrap();
    let error = client.wait(job().job, &mut 0, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ClientError::Overdue { seconds: 7_320, .. }), "{error}");
}
