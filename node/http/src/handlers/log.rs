//! The log.

use super::typed;
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::failure::Failure;
use crate::router::Shared;
use crate::service::{LogBytes, Service};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use decores_access::action;
use decores_api::log::LogEntries;
use decores_api::{Code, Problem};
use serde::Deserialize;

/// The newest signed checkpoint (C2SP tlog-checkpoint).
#[utoipa::path(get, path = "/v1/log/checkpoint", tag = "log", responses((status = 200, description = "As asked", content_type = "text/plain", body = String)))]
pub(crate) async fn checkpoint<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
) -> Result<Response, Failure> {
    let permit = caller.permit::<action::ReadLogProofs>(&*shared.node).await?;
    Ok(typed("text/plain; charset=utf-8", shared.node.checkpoint(permit).await?.bytes))
}

/// A tile (C2SP tlog-tiles): `0/000`, `0/000.p/5`, `entries/000`. Entry bundles need the operator's role.
#[utoipa::path(get, path = "/v1/log/tile/{path}", tag = "log", params(("path" = String, Path)), responses(
    (status = 200, description = "As asked", content_type = "application/octet-stream", body = Vec<u8>), (status = 404, description = "Not there, or another consumer's", body = Problem)))]
pub(crate) async fn tile<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(path): Path<String>,
) -> Result<Response, Failure> {
    let tile = if path.starts_with("entries/") {
        let permit = caller.permit::<action::ReadLogEntries>(&*shared.node).await?;
        shared.node.entry_tile(permit, path).await?
    } else {
        let permit = caller.permit::<action::ReadLogProofs>(&*shared.node).await?;
        shared.node.tile(permit, path).await?
    };
    Ok(tile_response(tile))
}

fn tile_response(tile: LogBytes) -> Response {
    let mut response = typed("application/octet-stream", tile.bytes);
    if tile.immutable {
        let value = HeaderValue::from_static("private, max-age=31536000, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    response
}

/// A proof of one entry (C2SP tlog-proof).
#[utoipa::path(get, path = "/v1/log/proofs/{index}", tag = "log", params(("index" = u64, Path)), responses(
    (status = 200, description = "As asked", content_type = "text/plain", body = String), (status = 404, description = "Not there, or another consumer's", body = Problem)))]
pub(crate) async fn proof<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(index): Path<String>,
) -> Result<Response, Failure> {
    let permit = caller.permit::<action::ReadLogProofs>(&*shared.node).await?;
    let index = index.parse().map_err(|_| Problem::new(Code::Malformed, "an entry's index is a number"))?;
    Ok(typed("text/plain; charset=utf-8", shared.node.proof(permit, index).await?))
}

/// Which entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntriesQuery {
    from: Option<u64>,
    limit: Option<usize>,
}

/// Entries from an index on; without one, the newest.
#[utoipa::path(get, path = "/v1/log/entries", tag = "log",
    params(("from" = Option<u64>, Query), ("limit" = Option<usize>, Query, description = "1 to 1,000")),
    responses((status = 200, description = "As asked", body = LogEntries)))]
pub(crate) async fn entries<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    query: Result<Query<EntriesQuery>, Failure>,
) -> Result<Json<LogEntries>, Failure> {
    let permit = caller.permit::<action::ReadLogEntries>(&*shared.node).await?;
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    Ok(Json(shared.node.entries(permit, query.from, limit).await?))
}
