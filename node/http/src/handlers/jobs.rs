//! Jobs.

use super::{id, typed};
use crate::auth::Caller;
use crate::body::{content_length, submission};
use crate::extract::{Path, Query};
use crate::failure::Failure;
use crate::router::Shared;
use crate::service::{SealedFile, Service};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use decores_access::action;
use decores_api::headers::{IDEMPOTENCY_KEY, MAX_PAGE, MAX_WAIT_SECONDS, SEALED};
use decores_api::jobs::Job;
use decores_api::{Code, Page, Problem};
use serde::Deserialize;
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// Submits a job. Body: length (4 bytes, big-endian), JSON `Submission`, sealed payload.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs",
    params(("Idempotency-Key" = String, Header, description = "16 to 64 characters of [A-Za-z0-9_-]")),
    request_body(content = Vec<u8>, content_type = "application/vnd.decores.submission"),
    responses(
    (status = 201, description = "Taken", body = Job),
    (status = 200, description = "Taken before, under the same key and spec", body = Job),
    (status = 409, description = "Key used for another spec, or offer not valid", body = Problem),
    (status = 413, description = "Too large", body = Problem), (status = 422, description = "Refused", body = Problem),
    (status = 429, description = "This consumer's share of the queue, of the uploads or of the bytes is used up; Retry-After says when to ask again", body = Problem),
    (status = 503, description = "The queue is full, or the node is short of something and goes on by itself; Retry-After says when to ask again", body = Problem)))]
pub(crate) async fn submit<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Job>), Failure> {
    let permit = caller.permit::<action::SubmitJob>(&*shared.node).await?;
    let key = idempotency_key(&headers)?;
    // The length of all bounds that of the payload; one that is not announced is bounded as it arrives.
    shared.node.admits_submission(&permit, &key, content_length(&headers).unwrap_or(0)).await?;
    let (head, payload) = submission(&headers, body, &shared.limits).await?;
    let submitted = shared.node.submit(permit, key, head, payload).await?;
    let status = if submitted.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(submitted.job)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Failure> {
    let text = headers.get(IDEMPOTENCY_KEY).and_then(|v| v.to_str().ok()).unwrap_or("");
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain && (16..=64).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(Code::Malformed, "send `Idempotency-Key` with 16 to 64 characters of [A-Za-z0-9_-]").into())
}

/// Which page of a listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Lists the caller's jobs, newest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs",
    params(("cursor" = Option<String>, Query), ("limit" = Option<usize>, Query, description = "1 to 100")),
    responses((status = 200, description = "As asked", body = Page<Job>)))]
pub(crate) async fn list<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    query: Result<Query<PageQuery>, Failure>,
) -> Result<Json<Page<Job>>, Failure> {
    let permit = caller.permit::<action::ReadJob>(&*shared.node).await?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(50).clamp(1, MAX_PAGE);
    Ok(Json(shared.node.jobs(permit, query.cursor, limit).await?))
}

/// How long to wait for news.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    after: Option<usize>,
    wait: Option<u64>,
}

/// Shows a job; with `after` and `wait`, answers when it has more steps than that.
#[utoipa::path(get, path = "/v1/jobs/{job}", tag = "jobs",
    params(("job" = String, Path), ("after" = Option<usize>, Query, description = "steps already seen"),
        ("wait" = Option<u64>, Query, description = "seconds, at most 30")),
    responses((status = 200, description = "As asked", body = Job), (status = 404, description = "Not there, or another consumer's", body = Problem)))]
pub(crate) async fn show<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(job): Path<String>,
    query: Result<Query<WaitQuery>, Failure>,
) -> Result<Json<Job>, Failure> {
    let Query(query) = query?;
    let wait = Duration::from_secs(query.wait.unwrap_or(0).min(MAX_WAIT_SECONDS));
    Ok(Json(shared.node.job(&caller.0, id(&job)?, query.after, wait).await?))
}

/// Stops a job that has not ended; answered when its end is durable.
#[utoipa::path(post, path = "/v1/jobs/{job}/cancel", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, description = "Stopped", body = Job), (status = 404, description = "Not there, or another consumer's", body = Problem), (status = 409, description = "It has ended", body = Problem),
    (status = 503, description = "It was told to stop, but its end is not durable yet", body = Problem)))]
pub(crate) async fn cancel<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(job): Path<String>,
) -> Result<Json<Job>, Failure> {
    Ok(Json(shared.node.cancel(&caller.0, id(&job)?).await?))
}

/// The output, sealed to the consumer's key.
#[utoipa::path(get, path = "/v1/jobs/{job}/result", tag = "jobs", params(("job" = String, Path)), responses(
    (status = 200, description = "As asked", content_type = "application/vnd.decores.sealed", body = Vec<u8>), (status = 404, description = "Not there, or another consumer's", body = Problem),
    (status = 409, description = "No output (yet)", body = Problem), (status = 410, description = "No longer kept", body = Problem)))]
pub(crate) async fn result<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(job): Path<String>,
) -> Result<Response, Failure> {
    Ok(stream(shared.node.result(&caller.0, id(&job)?).await?))
}

/// Removes the sealed output and logs from the node.
#[utoipa::path(delete, path = "/v1/jobs/{job}/result", tag = "jobs", params(("job" = String, Path)), responses(
    (status = 204, description = "Done"), (status = 404, description = "Not there, or another consumer's", body = Problem), (status = 409, description = "The state does not allow it", body = Problem)))]
pub(crate) async fn delete_result<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(job): Path<String>,
) -> Result<StatusCode, Failure> {
    shared.node.delete_result(&caller.0, id(&job)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The program's standard error, sealed to the consumer's key.
#[utoipa::path(get, path = "/v1/jobs/{job}/logs", tag = "jobs", params(("job" = String, Path)), responses(
    (status = 200, description = "As asked", content_type = "application/vnd.decores.sealed", body = Vec<u8>), (status = 404, description = "Not there, or another consumer's", body = Problem),
    (status = 409, description = "The state does not allow it", body = Problem), (status = 410, description = "No longer kept", body = Problem)))]
pub(crate) async fn logs<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(job): Path<String>,
) -> Result<Response, Failure> {
    Ok(stream(shared.node.logs(&caller.0, id(&job)?).await?))
}

/// The receipt of the latest ended attempt.
#[utoipa::path(get, path = "/v1/jobs/{job}/receipt", tag = "jobs", params(("job" = String, Path)), responses(
    (status = 200, description = "As asked", content_type = "application/json", body = Object), (status = 404, description = "Not there, or another consumer's", body = Problem),
    (status = 409, description = "It has not ended", body = Problem)))]
pub(crate) async fn receipt<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(job): Path<String>,
) -> Result<Response, Failure> {
    Ok(typed("application/json", shared.node.receipt(&caller.0, id(&job)?).await?))
}

fn stream(sealed: SealedFile) -> Response {
    let reader = ReaderStream::with_capacity(tokio::fs::File::from_std(sealed.file), 64 * 1024);
    let mut response = typed(SEALED, Body::from_stream(reader));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(sealed.length));
    response
}
