//! A consumer that does not give up, and a book of everything that a node ever acknowledged or showed to it.

use super::nest::Nest;
use super::plan::Program;
use super::{Finding, Wrong};
use decores_api::admin::{ApiKeyCreated, ApiKeyRequest};
use decores_api::headers::{IDEMPOTENCY_KEY, SUBMISSION};
use decores_api::jobs::{Job as JobView, JobStep};
use decores_api::node::Status;
use decores_api::offers::{OfferRequest, OfferResponse};
use decores_api::paths;
use decores_audit::Checkpoint;
use decores_audit::receipt::Receipt;
use decores_audit::trust::TrustedNode;
use decores_audit::{LogKey, Trust};
use decores_keys::{Ed25519Public, Requirements, verify_offer};
use decores_system::SystemClock;
use decores_tests::consumer::path;
use decores_tests::job::{Input, Job, submission};
use decores_tests::oci::Layout;
use decores_tests::transport::{Response, Transport, tls};
use decores_tests::wait::within;
use decores_tests::wasm;
use decores_types::{ApiKeyId, Clock as _, ConsumerId, Digest, JobId, JobState, Limits, canonical};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// Seconds of silence after which a request has failed.
const SILENCE: u64 = 5;
/// Functions and loops of a program that takes a second or two to compile.
const HARD: (usize, usize) = (10, 100);
/// Bytes of a large input.
const LARGE: usize = 3 << 20;

/// A job, and what is known of it.
pub struct Watched {
    /// What is submitted, again and again if need be.
    pub job: Job,
    /// Its id, once the node has acknowledged it.
    pub id: Option<JobId>,
    /// Every step that was ever shown.
    pub steps: Vec<JobStep>,
    /// The attempt whose cancellation was answered.
    pub cancelled: Option<u32>,
    /// Receipts, by attempt.
    pub receipts: BTreeMap<u32, Vec<u8>>,
    /// The sealed output, as it was fetched.
    pub output: Option<Vec<u8>>,
    expected: Vec<u8>,
    to_file: bool,
}

impl Watched {
    /// A job whose input holds the secret.
    pub fn new(program: Program, secret: &[u8], ms: u64) -> Self {
        let files = || Input { files: [("a".to_owned(), secret.to_vec())].into(), ..Input::default() };
        let large = || Input::stdin(&secret.repeat(LARGE / secret.len()));
        let file = |limits| (wasm::patient_files(ms), files(), limits);
        let contained = |script: String, input: Input, limits| {
            let args = ["sh", "-c", &script].map(str::to_owned).to_vec();
            (busybox().to_vec(), Input { args, ..input }, limits)
        };
        let seconds = ms.div_ceil(1000);
        let roomy = Limits { memory_bytes: 96 << 20, scratch_bytes: 32 << 20, ..Limits::default() };
        let small = Limits { memory_bytes: 16 << 20, scratch_bytes: 4 << 20, ..Limits::default() };
        let make: fn(&[u8], Input, Limits) -> Job = match program {
            Program::Contained | Program::ContainedPatient => Job::contained,
            _ => Job::limited,
        };
        let (program, input, limits) = match program {
            Program::Quick => (wasm::cat(), Input::stdin(secret), small),
            Program::Patient => (wasm::patient(ms), Input::stdin(secret), small),
            Program::Files => file(small),
            Program::LargeScratch => file(Limits { memory_bytes: 1 << 20, scratch_bytes: 24 << 20, ..small }),
            Program::Heavy => (wasm::hard_to_compile(HARD.0, HARD.1), Input::stdin(secret), small),
            Program::Large => (wasm::cat(), large(), small),
            Program::Contained => contained("cat".to_owned(), large(), roomy),
            Program::ContainedPatient => {
                contained(format!("cp /in/a /tmp/b && sleep {seconds} && cp /tmp/b /out/c"), files(), roomy)
            }
        };
        let to_file = !input.files.is_empty();
        let expected = if to_file { secret.to_vec() } else { input.stdin.clone() };
        let job = make(&program, input, limits);
        let this = Self {
            job,
            id: None,
            steps: Vec::new(),
            cancelled: None,
            receipts: BTreeMap::new(),
            output: None,
            expected,
            to_file,
        };
        // The one that is slow to compile reads and writes nothing.
        if program == wasm::hard_to_compile(HARD.0, HARD.1) { Self { expected: Vec::new(), ..this } } else { this }
    }

    /// The state that was shown last.
    pub fn state(&self) -> Option<JobState> {
        self.steps.last().map(|step| step.state)
    }

    /// Whether what came out of it is what should have.
    fn is_right(&self, view: &JobView, sealed: &[u8]) -> bool {
        let output = self.job.open_output(view, sealed);
        let found = if self.to_file { output.files.get("c").cloned().unwrap_or_default() } else { output.stdout };
        found == self.expected
    }
}

/// Everything that a node on one home ever acknowledged or showed.
#[derive(Default)]
pub struct Book {
    /// API keys that it made.
    pub keys: BTreeSet<ApiKeyId>,
    /// Jobs.
    pub jobs: Vec<Watched>,
    /// Roots, by size.
    pub checkpoints: BTreeMap<u64, Digest>,
    /// What was seen to be wrong while writing it.
    pub findings: Vec<Finding>,
}

impl Book {
    /// Writes down a checkpoint.
    pub fn saw(&mut self, checkpoint: &Checkpoint) {
        self.saw_root(checkpoint.size, checkpoint.root);
    }

    /// Writes down a root; a second one for a size is a fork.
    pub fn saw_root(&mut self, size: u64, root: Digest) {
        if *self.checkpoints.entry(size).or_insert(root) != root {
            self.findings.push(Finding::new(Wrong::Fork, format!("two roots for {size} entries")));
        }
    }

    fn saw_steps(&mut self, at: usize, view: &JobView) {
        let seen = &mut self.jobs[at].steps;
        if view.steps.len() < seen.len() || view.steps[..seen.len()] != seen[..] {
            let what = format!("{} was shown as {seen:?}, and then as {:?}", view.job, view.steps);
            self.findings.push(Finding::new(Wrong::Loss, what));
        }
        seen.clone_from(&view.steps);
    }
}

/// A way to a node for whoever holds a key. Every answer may be missing.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    key: String,
    identity: Ed25519Public,
    log: LogKey,
    consumer: ConsumerId,
}

impl Client {
    /// The operator of the node in this nest.
    pub fn of(nest: &Nest) -> Result<Self, String> {
        let statement = nest.statement();
        let mut this = Self {
            transport: Transport::new(nest.address(), tls(Some(&statement.tls_ca.0))).patient(SILENCE),
            key: nest.operator().to_owned(),
            identity: Ed25519Public::from_base64(&statement.identity_public).ok_or("a damaged identity key")?,
            log: LogKey::parse(&statement.log_key).map_err(|e| e.to_string())?,
            consumer: ConsumerId::from_bytes([0; 16]),
        };
        this.consumer = this.get::<Status>(paths::STATUS)?.consumer;
        Ok(this)
    }

    /// A trust file that pins the node.
    pub fn trust(&self) -> Trust {
        let node = TrustedNode::new("node", *self.identity.as_bytes(), &self.log);
        Trust { nodes: vec![node], ..Trust::default() }
    }

    /// The log's key.
    pub const fn log(&self) -> &LogKey {
        &self.log
    }

    /// A request with its key.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String> {
        let bearer = format!("Bearer {}", self.key);
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        self.transport.try_request(method, path, &headers, body).map_err(|e| format!("{method} {path}: {e}"))
    }

    /// Bytes that must come with status 200.
    pub fn fetch(&self, path: &str) -> Result<Vec<u8>, String> {
        let answer = self.ask("GET", path, &[], b"")?;
        if answer.status == 200 { Ok(answer.body) } else { Err(refusal("GET", path, &answer)) }
    }

    /// A document that must come with status 200.
    pub fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        serde_json::from_slice(&self.fetch(path)?).map_err(|e| format!("GET {path}: {e}"))
    }

    fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, String> {
        let body = serde_json::to_vec(body).map_err(|e| e.to_string())?;
        let answer = self.ask("POST", path, &[("content-type", "application/json")], &body)?;
        if answer.status >= 300 {
            return Err(refusal("POST", path, &answer));
        }
        serde_json::from_slice(&answer.body).map_err(|e| format!("POST {path}: {e}"))
    }

    /// Makes an API key.
    pub fn make_key(&self, book: &mut Book) -> Result<(), String> {
        let request = ApiKeyRequest { name: "campaign".to_owned(), role: "consumer".to_owned(), expires_seconds: 3600 };
        let made: ApiKeyCreated = self.post(paths::API_KEYS, &request)?;
        book.keys.insert(made.record.id);
        Ok(())
    }

    /// Reads the newest checkpoint.
    pub fn checkpoint(&self, book: &mut Book) -> Result<Checkpoint, String> {
        let note = self.fetch(paths::LOG_CHECKPOINT)?;
        let checkpoint = Checkpoint::open(&note, &self.log).map_err(|e| e.to_string())?;
        book.saw(&checkpoint);
        Ok(checkpoint)
    }

    /// Submits a job, or submits it again: always under the same idempotency key.
    pub fn submit(&self, book: &mut Book, at: usize) -> Result<(), String> {
        let protection = book.jobs[at].job.spec.protection;
        let offer: OfferResponse = self.post(paths::OFFERS, &OfferRequest { protection })?;
        let envelope = canonical::to_vec(&offer.envelope).map_err(|e| e.to_string())?;
        let limits = Limits::default();
        let (identity, consumer) = (&self.identity, self.consumer);
        let wanted = Requirements { identity, consumer, protection, limits: &limits };
        let offer = verify_offer(&envelope, &wanted, SystemClock::new().now()).map_err(|e| e.to_string())?;
        let watched = &book.jobs[at];
        let payload = watched.job.seal(offer.recipient(), &watched.job.binding(self.consumer, &offer));
        let headers = [("content-type", SUBMISSION), (IDEMPOTENCY_KEY, watched.job.idempotency_key.as_str())];
        let body = submission(offer.document().offer, &watched.job.spec, &payload);
        let answer = self.ask("POST", paths::JOBS, &headers, &body)?;
        if answer.status != 201 && answer.status != 200 {
            return Err(refusal("POST", paths::JOBS, &answer));
        }
        let view: JobView = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
        let before = *book.jobs[at].id.get_or_insert(view.job);
        if before != view.job {
            let what = format!("{before} was acknowledged; the same idempotency key now gives {}", view.job);
            book.findings.push(Finding::new(Wrong::Loss, what));
        }
        book.saw_steps(at, &view);
        Ok(())
    }

    /// Looks at a job, waiting some seconds for news.
    pub fn look(&self, book: &mut Book, at: usize, wait: u64) -> Result<JobView, String> {
        let job = book.jobs[at].id.ok_or("the job was never acknowledged")?;
        let after = book.jobs[at].steps.len();
        let address = path(paths::JOB, job);
        let answer = self.ask("GET", &format!("{address}?after={after}&wait={wait}"), &[], b"")?;
        if answer.status == 404 {
            book.findings.push(Finding::new(Wrong::Loss, format!("{job} was acknowledged, and does not exist")));
        }
        if answer.status != 200 {
            return Err(refusal("GET", &address, &answer));
        }
        let view: JobView = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
        book.saw_steps(at, &view);
        Ok(view)
    }

    /// Cancels a job.
    pub fn cancel(&self, book: &mut Book, at: usize) -> Result<(), String> {
        let job = book.jobs[at].id.ok_or("the job was never acknowledged")?;
        let view: JobView = self.post(&path(paths::JOB_CANCEL, job), &serde_json::json!({}))?;
        book.jobs[at].cancelled = Some(view.attempt.0);
        Ok(())
    }

    /// Does what a waiting client does: asks until the job has ended, takes its receipt, submits it again where
    /// that is said to help, and takes its output. Errors on the way are waited out, but not for ever.
    pub fn pursue(&self, book: &mut Book, at: usize, ms: u64) -> Result<(), String> {
        let mut last = String::new();
        let ended = within(ms, || match self.step(book, at) {
            Ok(over) => over.then_some(true),
            Err(error) => {
                last = error;
                // What is lost does not come back.
                (!book.findings.is_empty()).then_some(false)
            }
        });
        let ended = ended.filter(|ended| *ended);
        ended.map(drop).ok_or_else(|| format!("a job does not get on: {:?}; {last}", book.jobs[at].steps.last()))
    }

    fn step(&self, book: &mut Book, at: usize) -> Result<bool, String> {
        if book.jobs[at].id.is_none() {
            self.submit(book, at)?;
        }
        // Of a job that has ended there is no news to wait for.
        let wait = if book.jobs[at].state().is_some_and(JobState::is_final) { 0 } else { 2 };
        let view = self.look(book, at, wait)?;
        if !view.state.is_final() {
            return Ok(false);
        }
        self.receipt(book, at, &view)?;
        if view.resubmit && book.jobs[at].cancelled.is_none() {
            self.submit(book, at)?;
            return Ok(false);
        }
        if view.state == JobState::Done && book.jobs[at].output.is_none() {
            if !view.result {
                book.findings.push(Finding::new(Wrong::Loss, format!("{} is done, and has no output", view.job)));
                return Ok(true);
            }
            let sealed = self.fetch(&path(paths::JOB_RESULT, view.job))?;
            if !book.jobs[at].is_right(&view, &sealed) {
                book.findings.push(Finding::new(Wrong::Failure, format!("the output of {} is not right", view.job)));
            }
            book.jobs[at].output = Some(sealed);
        }
        Ok(true)
    }

    fn receipt(&self, book: &mut Book, at: usize, view: &JobView) -> Result<(), String> {
        if !book.jobs[at].receipts.contains_key(&view.attempt.0) {
            let receipt = self.fetch(&path(paths::JOB_RECEIPT, view.job))?;
            let proof = Receipt::parse(&receipt).map_err(|e| e.to_string())?.file.proof;
            let note = proof.split_once("\n\n").map_or("", |(_, note)| note);
            book.saw(&Checkpoint::open(note.as_bytes(), &self.log).map_err(|e| e.to_string())?);
            book.jobs[at].receipts.insert(view.attempt.0, receipt);
        }
        Ok(())
    }
}

/// An image of busybox, made once.
fn busybox() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Layout::busybox(&folder.path().join("image")).packed("busybox")
    })
}

fn refusal(method: &str, path: &str, answer: &Response) -> String {
    format!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use decores_types::{Attempt, Reason, Timestamp};

    fn view(states: &[JobState]) -> JobView {
        let step = |state: &JobState| JobStep {
            attempt: Attempt(1),
            state: *state,
            reason: Reason::Accepted,
            time: Timestamp::from_ms(1),
        };
        JobView {
            job: JobId::from_bytes([1; 16]),
            consumer: ConsumerId::from_bytes([2; 16]),
            attempt: Attempt(1),
            state: *states.last().unwrap(),
            reason: Reason::Accepted,
            explanation: String::new(),
            steps: states.iter().map(step).collect(),
            result: false,
            logs: false,
            receipt: false,
            resubmit: false,
        }
    }

    #[test]
    fn a_step_that_was_shown_and_is_gone_is_a_loss() {
        use JobState::{Attesting, Queued, Wiping};
        let mut book = Book::default();
        book.jobs.push(Watched::new(Program::Quick, &[7; 64], 0));
        for states in [&[Queued][..], &[Queued, Attesting], &[Queued, Attesting]] {
            book.saw_steps(0, &view(states));
        }
        assert_eq!(book.findings, []);
        for states in [&[Queued][..], &[Queued, Wiping], &[Attesting, Wiping]] {
            book.saw_steps(0, &view(states));
        }
        assert_eq!(book.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Wrong::Loss, Wrong::Loss]);
    }

    #[test]
    fn a_second_root_for_a_size_is_a_fork() {
        let mut book = Book::default();
        for (size, root) in [(1, 1), (2, 2), (1, 1), (1, 3)] {
            book.saw_root(size, Digest::of(&[root]));
        }
        assert_eq!(book.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Wrong::Fork]);
    }
}
