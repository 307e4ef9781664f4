//! The table of paths and handlers.

use crate::failure::Failure;
use crate::handlers::{admin, jobs, log, node, offers};
use crate::limits::HttpLimits;
use crate::service::Service;
use crate::turns::Turns;
use axum::Router;
use axum::body::HttpBody as _;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{delete, get, post};
use decores_api::{Code, Problem, paths};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How late an answer is that says to come again; far less than `Retry-After`.
const LATER: Duration = Duration::from_millis(100);

/// What handlers share.
#[derive(Debug)]
pub struct Shared<S> {
    /// The node.
    pub node: Arc<S>,
    /// The limits.
    pub limits: HttpLimits,
    /// Who is being answered.
    pub(crate) turns: Arc<Turns>,
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node), limits: self.limits, turns: Arc::clone(&self.turns) }
    }
}

/// The router over a node.
pub fn router<S: Service>(node: Arc<S>, limits: HttpLimits) -> Router {
    Router::new()
        .route(paths::HEALTHZ, get(node::healthz))
        .route(paths::OPENAPI, get(node::openapi))
        .route(paths::NODE, get(node::node::<S>))
        .route(paths::METRICS, get(node::metrics::<S>))
        .route(paths::STATUS, get(node::status::<S>))
        .route(paths::OFFERS, post(offers::create::<S>))
        .route(paths::PLANS, post(offers::plan::<S>))
        .route(paths::JOBS, post(jobs::submit::<S>).get(jobs::list::<S>))
        .route(paths::JOB, get(jobs::show::<S>))
        .route(paths::JOB_CANCEL, post(jobs::cancel::<S>))
        .route(paths::JOB_RESULT, get(jobs::result::<S>).delete(jobs::delete_result::<S>))
        .route(paths::JOB_LOGS, get(jobs::logs::<S>))
        .route(paths::JOB_RECEIPT, get(jobs::receipt::<S>))
        .route(paths::LOG_CHECKPOINT, get(log::checkpoint::<S>))
        .route(paths::LOG_TILE, get(log::tile::<S>))
        .route(paths::LOG_PROOF, get(log::proof::<S>))
        .route(paths::LOG_ENTRIES, get(log::entries::<S>))
        .route(paths::KEYS, get(admin::keys::<S>))
        .route(paths::ALERTS, get(admin::alerts::<S>))
        .route(paths::ALERT_ACK, post(admin::acknowledge::<S>))
        .route(paths::MEND, post(admin::mend::<S>))
        .route(paths::API_KEYS, get(admin::api_keys::<S>).post(admin::create_api_key::<S>))
        .route(paths::API_KEY, delete(admin::revoke_api_key::<S>))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(harden))
        .with_state(Shared { node, limits, turns: Arc::default() })
}

async fn not_found(uri: Uri) -> Failure {
    Problem::new(Code::NotFound, format!("there is no `{}`", uri.path())).into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Problem::new(Code::MethodNotAllowed, format!("`{}` does not take {method}", uri.path())).into()
}

/// Answers are for the caller alone, and never guessed at. Whoever is told to come again later hears it after a moment:
/// asking without end is no way to keep the node from its work.
async fn harden(request: axum::extract::Request, next: Next) -> Response {
    let sends = !request.body().is_end_stream();
    let mut response = next.run(request).await;
    // What was sent may not have been read to its end; the connection ends then, and the client must not ask on it again.
    let unread = sends && response.status() != StatusCode::CREATED;
    let headers = response.headers_mut();
    if unread {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if headers.contains_key(header::RETRY_AFTER) {
        sleep(LATER).await;
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    response
}
