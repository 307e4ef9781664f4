//! A consumer: somebody with an API key.

use crate::job::{Job, Output, submission};
use crate::node::Node;
use crate::transport::Response;
use decores_api::admin::{ApiKeyCreated, ApiKeyRequest};
use decores_api::headers::{IDEMPOTENCY_KEY, SEALED, SUBMISSION};
use decores_api::jobs::Job as JobView;
use decores_api::node::Status;
use decores_api::offers::{OfferRequest, OfferResponse};
use decores_api::paths;
use decores_keys::{Requirements, VerifiedOffer, verify_offer};
use decores_system::SystemClock;
use decores_types::{Clock as _, ConsumerId, JobId, JobState, Limits, OfferId, Protection, Reason, canonical};

/// Somebody with an API key.
pub struct Consumer<'a> {
    node: &'a Node,
    key: String,
    id: ConsumerId,
}

/// An ended job.
#[derive(Clone, Debug)]
pub struct Ended {
    /// As the node shows it.
    pub view: JobView,
}

impl<'a> Consumer<'a> {
    /// Whoever this key stands for.
    pub fn new(node: &'a Node, key: &str) -> Self {
        let mut this = Self { node, key: key.to_owned(), id: ConsumerId::from_bytes([0; 16]) };
        this.id = this.status().consumer;
        this
    }

    /// Its id.
    pub const fn id(&self) -> ConsumerId {
        self.id
    }

    /// Its API key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A request with its key.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let bearer = format!("Bearer {}", self.key);
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        self.node.transport().request(method, path, &headers, body)
    }

    /// Reads.
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// Sends a document.
    pub fn post(&self, path: &str, document: &[u8]) -> Response {
        self.request("POST", path, &[("content-type", "application/json")], document)
    }

    /// What the node is doing.
    pub fn status(&self) -> Status {
        self.get(paths::STATUS).json()
    }

    /// Makes an API key.
    pub fn create_key(&self, role: &str, seconds: u64) -> ApiKeyCreated {
        let request = ApiKeyRequest { name: "test".to_owned(), role: role.to_owned(), expires_seconds: seconds };
        self.post(paths::API_KEYS, &serde_json::to_vec(&request).unwrap()).json()
    }

    /// Asks for an offer.
    pub fn ask_offer(&self) -> Response {
        self.ask_offer_of(Protection::Process)
    }

    fn ask_offer_of(&self, protection: Protection) -> Response {
        self.post(paths::OFFERS, &serde_json::to_vec(&OfferRequest { protection }).unwrap())
    }

    /// Asks for an offer and verifies it.
    pub fn offer(&self) -> VerifiedOffer {
        self.verified(&self.ask_offer(), Protection::Process)
    }

    fn verified(&self, answer: &Response, protection: Protection) -> VerifiedOffer {
        let answer: OfferResponse = answer.json();
        self.verify_as(&canonical::to_vec(&answer.envelope).unwrap(), protection).unwrap()
    }

    /// Verifies an offer as this consumer.
    pub fn verify(&self, envelope: &[u8]) -> Result<VerifiedOffer, decores_keys::OfferError> {
        self.verify_as(envelope, Protection::Process)
    }

    fn verify_as(&self, envelope: &[u8], protection: Protection) -> Result<VerifiedOffer, decores_keys::OfferError> {
        let identity = self.node.identity();
        let limits = Limits::default();
        let wanted = Requirements { identity: &identity, consumer: self.id, protection, limits: &limits };
        verify_offer(envelope, &wanted, SystemClock::new().now())
    }

    /// Submits a job as an honest client does; the answer that refuses an offer where there is none to be had.
    pub fn submit(&self, job: &Job) -> Response {
        let answer = self.ask_offer_of(job.spec.protection);
        if answer.status >= 300 {
            return answer;
        }
        let offer = self.verified(&answer, job.spec.protection);
        let payload = job.seal(offer.recipient(), &job.binding(self.id, &offer));
        self.send(job, offer.document().offer, &payload)
    }

    /// Submits any payload under any offer.
    pub fn send(&self, job: &Job, offer: OfferId, payload: &[u8]) -> Response {
        let headers = [("content-type", SUBMISSION), (IDEMPOTENCY_KEY, job.idempotency_key.as_str())];
        self.request("POST", paths::JOBS, &headers, &submission(offer, &job.spec, payload))
    }

    /// A job as the node shows it.
    pub fn show(&self, job: JobId) -> JobView {
        self.get(&path(paths::JOB, job)).json()
    }

    /// Waits until a job's state fits.
    pub fn wait_for(&self, job: JobId, fits: impl Fn(&JobView) -> bool) -> JobView {
        let mut seen = 0;
        for _ in 0..100 {
            let view: JobView = self.get(&format!("{}?after={seen}&wait=10", path(paths::JOB, job))).json();
            if fits(&view) {
                return view;
            }
            seen = view.steps.len();
            assert!(!view.state.is_final(), "the job ended as {} ({})", view.state, view.reason);
        }
        panic!("{job} does not get on: {:?}", self.show(job));
    }

    /// Waits for the end.
    pub fn wait(&self, job: JobId) -> Ended {
        Ended { view: self.wait_for(job, |view| view.state.is_final()) }
    }

    /// Submits a job and waits for its end.
    pub fn run(&self, job: &Job) -> Ended {
        let answer = self.submit(job);
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        self.wait(answer.json::<JobView>().job)
    }

    /// Fetches and opens an output.
    pub fn output(&self, job: &Job, ended: &Ended) -> Output {
        let answer = self.get(&path(paths::JOB_RESULT, ended.view.job));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(SEALED)), "{answer:?}");
        job.open_output(&ended.view, &answer.body)
    }

    /// Fetches and opens logs.
    pub fn logs(&self, job: &Job, ended: &Ended) -> String {
        let answer = self.get(&path(paths::JOB_LOGS, ended.view.job));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        job.open_logs(&ended.view, &answer.body)
    }

    /// Fetches a receipt, as the node hands it out.
    pub fn receipt(&self, job: JobId) -> Vec<u8> {
        let answer = self.get(&path(paths::JOB_RECEIPT, job));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.body
    }
}

impl Ended {
    /// Asserts how it ended.
    #[track_caller]
    pub fn is(&self, state: JobState, reason: Reason) -> &Self {
        assert_eq!((self.view.state, self.view.reason), (state, reason), "{:#?}", self.view.steps);
        self
    }

    /// Asserts that it failed, and why.
    #[track_caller]
    pub fn failed(&self, reason: Reason) -> &Self {
        self.is(JobState::Failed, reason)
    }
}

/// A path with a job's id in it.
pub fn path(template: &str, job: JobId) -> String {
    template.replace("{job}", &job.to_string())
}
