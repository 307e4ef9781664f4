//! Requests, from their head to the last byte of their body, through the node's own router to a node that only looks.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use decores_access::{ApiKeyRecord, ApiKeyText, Permit, Principal, Refusal, Role, action, authenticate};
use decores_api::admin::{Alert, ApiKey, ApiKeyCreated, ApiKeyRequest, Key, Mended};
use decores_api::headers::{IDEMPOTENCY_KEY, MAX_JSON, MAX_PAGE, MAX_WAIT_SECONDS, PROBLEM, SUBMISSION};
use decores_api::jobs::{Job, Submission};
use decores_api::log::LogEntries;
use decores_api::node::{NodeResponse, Status};
use decores_api::offers::{OfferRequest, OfferResponse, PlanRequest, PlanResponse};
use decores_api::{Code, Page, Problem, paths};
use decores_http::router::router;
use decores_http::{HttpLimits, LogBytes, PayloadStream, SealedFile, Service, Submitted};
use decores_types::canonical::from_json;
use decores_types::{AlertId, ApiKeyId, Attempt, ConsumerId, JobId, JobState, Reason, Timestamp};
use futures_util::stream;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);
/// An operator's key: `dck_`, 32 times `0`, its checksum.
pub(crate) const API_KEY: &str = "dck_00000000000000000000000000000000_";

/// The key with its checksum.
pub(crate) fn api_key() -> String {
    struct Zeros;
    impl decores_types::Random for Zeros {
        fn fill(&self, out: &mut [u8]) {
            out.fill(0);
        }
    }
    let key = ApiKeyText::generate(&Zeros).expose().to_owned();
    assert!(key.starts_with(API_KEY));
    key
}

/// Looks at what the handlers pass on, and at how much payload came.
#[derive(Default)]
struct Looker {
    payload: Mutex<Vec<u8>>,
}

fn absent<T>() -> Result<T, Problem> {
    Err(Problem::new(Code::NotFound, "not found"))
}

/// What a handler passes on can be written and read again.
fn same<T: Serialize + DeserializeOwned>(value: &T) {
    let written = serde_json::to_vec(value).unwrap();
    let read: T = from_json(&written, MAX_JSON * 8).expect("what was read is written and read again");
    assert_eq!(serde_json::to_vec(&read).unwrap(), written);
}

fn job(id: JobId) -> Job {
    Job {
        job: id,
        consumer: ConsumerId::from_bytes([2; 16]),
        attempt: Attempt(1),
        state: JobState::Queued,
        reason: Reason::Accepted,
        explanation: String::new(),
        steps: Vec::new(),
        result: false,
        logs: false,
        receipt: false,
        resubmit: false,
    }
}

impl Service for Looker {
    async fn authenticate(&self, token: Option<&str>) -> Result<Principal, Problem> {
        let known = token.and_then(|token| ApiKeyText::parse(token).ok()).filter(|key| key.expose() == api_key());
        let record = known.map(|_| ApiKeyRecord {
            id: ApiKeyId::from_bytes([1; 16]),
            consumer: ConsumerId::from_bytes([2; 16]),
            role: Role::Operator,
            name: String::new(),
            created: NOW,
            expires: NOW.plus_ms(1),
            revoked: false,
        });
        authenticate(record.as_ref(), NOW).map_err(|refusal| Problem::new(Code::Unauthenticated, refusal.to_string()))
    }

    async fn refused(&self, _: &Principal, _: Refusal) {}

    fn crowded(&self) {}

    async fn node(&self) -> Result<NodeResponse, Problem> {
        absent()
    }

    async fn status(&self, _: Permit<action::ReadStatus>) -> Result<Status, Problem> {
        absent()
    }

    async fn metrics(&self, _: Permit<action::ReadMetrics>) -> Result<String, Problem> {
        Ok(String::new())
    }

    fn admits(&self) -> Result<(), Problem> {
        Ok(())
    }

    async fn admits_submission(&self, _: &Permit<action::SubmitJob>, key: &str, _: u64) -> Result<(), Problem> {
        assert!((16..=64).contains(&key.len()));
        Ok(())
    }

    async fn offer(&self, _: Permit<action::AskOffer>, request: OfferRequest) -> Result<OfferResponse, Problem> {
        same(&request);
        Ok(OfferResponse { envelope: serde_json::Value::Null })
    }

    async fn plan(&self, _: Permit<action::AskOffer>, request: PlanRequest) -> Result<PlanResponse, Problem> {
        same(&request);
        Ok(PlanResponse { plan: serde_json::Value::Null })
    }

    async fn submit(
        &self,
        _: Permit<action::SubmitJob>,
        idempotency_key: String,
        submission: Submission,
        mut payload: PayloadStream,
    ) -> Result<Submitted, Problem> {
        assert!((16..=64).contains(&idempotency_key.len()));
        assert!(idempotency_key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        same(&submission);
        let mut arrived = Vec::new();
        while let Some(piece) = payload.next().await? {
            arrived.extend_from_slice(&piece);
        }
        *self.payload.lock().unwrap() = arrived;
        Ok(Submitted { job: job(JobId::from_bytes([1; 16])), created: true })
    }

    async fn jobs(&self, _: Permit<action::ReadJob>, _: Option<String>, limit: usize) -> Result<Page<Job>, Problem> {
        assert!((1..=MAX_PAGE).contains(&limit));
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn job(&self, _: &Principal, id: JobId, _: Option<usize>, wait: Duration) -> Result<Job, Problem> {
        assert!(wait.as_secs() <= MAX_WAIT_SECONDS);
        Ok(job(id))
    }

    async fn cancel(&self, _: &Principal, id: JobId) -> Result<Job, Problem> {
        Ok(job(id))
    }

    async fn result(&self, _: &Principal, _: JobId) -> Result<SealedFile, Problem> {
        absent()
    }

    async fn delete_result(&self, _: &Principal, _: JobId) -> Result<(), Problem> {
        Ok(())
    }

    async fn logs(&self, _: &Principal, _: JobId) -> Result<SealedFile, Problem> {
        absent()
    }

    async fn receipt(&self, _: &Principal, _: JobId) -> Result<Vec<u8>, Problem> {
        Ok(b"{}".to_vec())
    }

    async fn checkpoint(&self, _: Permit<action::ReadLogProofs>) -> Result<LogBytes, Problem> {
        Ok(LogBytes { bytes: Vec::new(), immutable: false })
    }

    async fn tile(&self, _: Permit<action::ReadLogProofs>, path: String) -> Result<LogBytes, Problem> {
        assert!(!path.starts_with("entries/"), "bundles need another permit");
        Ok(LogBytes { bytes: Vec::new(), immutable: true })
    }

    async fn entry_tile(&self, _: Permit<action::ReadLogEntries>, _: String) -> Result<LogBytes, Problem> {
        Ok(LogBytes { bytes: Vec::new(), immutable: true })
    }

    async fn proof(&self, _: Permit<action::ReadLogProofs>, _: u64) -> Result<String, Problem> {
        Ok(String::new())
    }

    async fn entries(
        &self,
        _: Permit<action::ReadLogEntries>,
        _: Option<u64>,
        limit: usize,
    ) -> Result<LogEntries, Problem> {
        assert!((1..=1000).contains(&limit));
        Ok(LogEntries { entries: Vec::new(), size: 0 })
    }

    async fn keys(&self, _: Permit<action::ReadKeys>) -> Result<Vec<Key>, Problem> {
        Ok(Vec::new())
    }

    async fn alerts(&self, _: Permit<action::ReadAlerts>) -> Result<Vec<Alert>, Problem> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, _: Permit<action::AcknowledgeAlert>, _: AlertId) -> Result<Alert, Problem> {
        absent()
    }

    async fn mend(&self, _: Permit<action::MendWipes>) -> Result<Mended, Problem> {
        Ok(Mended::default())
    }

    async fn api_keys(&self, _: Permit<action::ReadApiKeys>) -> Result<Vec<ApiKey>, Problem> {
        Ok(Vec::new())
    }

    async fn create_api_key(
        &self,
        _: Permit<action::CreateApiKey>,
        request: ApiKeyRequest,
    ) -> Result<ApiKeyCreated, Problem> {
        same(&request);
        absent()
    }

    async fn revoke_api_key(&self, _: Permit<action::RevokeApiKey>, _: ApiKeyId) -> Result<(), Problem> {
        Ok(())
    }
}

/// The router over a node that looks, and what it runs on.
struct Server {
    runtime: Runtime,
    router: TowerToHyperService<Router>,
    node: Arc<Looker>,
}

thread_local! {
    static SERVER: Server = {
        let node = Arc::new(Looker::default());
        Server {
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
            router: TowerToHyperService::new(router(Arc::clone(&node), HttpLimits::DEFAULT)),
            node,
        }
    };
}

impl Server {
    /// Asks, and checks what every answer must be.
    fn ask(&self, request: Request<Body>) -> StatusCode {
        let (public, unsigned) = {
            let public = [paths::HEALTHZ, paths::OPENAPI, paths::NODE].contains(&request.uri().path());
            (public, request.headers().get(header::AUTHORIZATION).is_none())
        };
        let response = self.runtime.block_on(async { self.router.call(request).await.unwrap() });
        let status = response.status();
        assert!(!(status.is_success() && unsigned && !public), "nobody gets in without a key");
        self.check(response);
        status
    }

    fn check(&self, response: Response<Body>) {
        let (head, body) = response.into_parts();
        assert_eq!(head.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(head.headers.contains_key(header::CACHE_CONTROL));
        let body = self.runtime.block_on(to_bytes(body, 1 << 20)).unwrap();
        if head.status.is_success() {
            return;
        }
        assert_eq!(head.headers[header::CONTENT_TYPE], PROBLEM);
        let problem: Problem = serde_json::from_slice(&body).expect("a refusal says why");
        assert_eq!((problem.status, problem.code.status()), (head.status.as_u16(), head.status.as_u16()));
        assert_ne!(problem.code, Code::Internal, "{}", problem.detail);
    }
}

/// The body in pieces of this length, as a network cuts them.
fn pieces(body: &[u8], length: usize) -> Body {
    let pieces: Vec<io::Result<Bytes>> = body.chunks(length.max(1)).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    Body::from_stream(stream::iter(pieces))
}

/// `METHOD TARGET`, headers, an empty line, a body: line ends are single.
fn request(data: &[u8]) -> Option<Request<Body>> {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let mut lines = data[..end].split(|b| *b == b'\n');
    let mut first = lines.next()?.splitn(2, |b| *b == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let mut request = Request::builder().method(method).uri(first.next()?);
    for line in lines.take(64) {
        let at = line.iter().position(|b| *b == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        request = request.header(name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?);
    }
    let body = data.get(end + 2..).unwrap_or_default();
    request.body(pieces(body, 1 + body.len() / 3)).ok()
}

/// A whole request, as it stands behind TLS.
pub(crate) fn api_bodies(data: &[u8]) {
    let Some(request) = request(data) else { return };
    SERVER.with(|server| server.ask(request));
}

/// The body of a submission, cut in pieces of as many bytes as the first byte says.
pub(crate) fn submission(data: &[u8]) {
    let Some((length, body)) = data.split_first() else { return };
    let request = Request::post(paths::JOBS)
        .header(header::AUTHORIZATION, format!("Bearer {}", api_key()))
        .header(header::CONTENT_TYPE, SUBMISSION)
        .header(IDEMPOTENCY_KEY, "0123456789abcdef")
        .body(pieces(body, usize::from(*length)))
        .unwrap();
    let head = body.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = u32::from_be_bytes(*length) as usize;
        rest.split_at_checked(length).filter(|_| length <= MAX_JSON)
    });
    let good = head.filter(|(head, _)| from_json::<Submission>(head, MAX_JSON).is_ok());
    SERVER.with(|server| {
        let status = server.ask(request);
        assert_eq!(status == StatusCode::CREATED, good.is_some(), "{status}");
        if let Some((_, payload)) = good {
            assert_eq!(*server.node.payload.lock().unwrap(), payload, "not a byte more or less");
        }
    });
}
