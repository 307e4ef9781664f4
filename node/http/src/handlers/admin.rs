//! Keys, alerts, unfinished wipes, API keys: the operator's.

use super::id;
use crate::auth::Caller;
use crate::body::json;
use crate::extract::Path;
use crate::failure::Failure;
use crate::router::Shared;
use crate::service::Service;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use decores_access::action;
use decores_api::Problem;
use decores_api::admin::{Alert, ApiKey, ApiKeyCreated, ApiKeyRequest, Key, Mended};

/// Lists the node's keys, without their secrets.
#[utoipa::path(get, path = "/v1/keys", tag = "operator", responses((status = 200, description = "As asked", body = Vec<Key>), (status = 403, description = "The key's role does not include it", body = Problem)))]
pub(crate) async fn keys<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
) -> Result<Json<Vec<Key>>, Failure> {
    let permit = caller.permit::<action::ReadKeys>(&*shared.node).await?;
    Ok(Json(shared.node.keys(permit).await?))
}

/// Lists alerts, newest first.
#[utoipa::path(get, path = "/v1/alerts", tag = "operator", responses((status = 200, description = "As asked", body = Vec<Alert>), (status = 403, description = "The key's role does not include it", body = Problem)))]
pub(crate) async fn alerts<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
) -> Result<Json<Vec<Alert>>, Failure> {
    let permit = caller.permit::<action::ReadAlerts>(&*shared.node).await?;
    Ok(Json(shared.node.alerts(permit).await?))
}

/// Acknowledges an alert.
#[utoipa::path(post, path = "/v1/alerts/{alert}/ack", tag = "operator", params(("alert" = String, Path)),
    responses((status = 200, description = "As asked", body = Alert), (status = 403, description = "The key's role does not include it", body = Problem), (status = 404, description = "Not there, or another consumer's", body = Problem)))]
pub(crate) async fn acknowledge<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(alert): Path<String>,
) -> Result<Json<Alert>, Failure> {
    let permit = caller.permit::<action::AcknowledgeAlert>(&*shared.node).await?;
    Ok(Json(shared.node.acknowledge(permit, id(&alert)?).await?))
}

/// Tries every unfinished wipe again, and says what is gone and what is not.
#[utoipa::path(post, path = "/v1/mend", tag = "operator", responses((status = 200, description = "As asked", body = Mended), (status = 403, description = "The key's role does not include it", body = Problem)))]
pub(crate) async fn mend<S: Service>(State(shared): State<Shared<S>>, caller: Caller) -> Result<Json<Mended>, Failure> {
    let permit = caller.permit::<action::MendWipes>(&*shared.node).await?;
    Ok(Json(shared.node.mend(permit).await?))
}

/// Lists API keys, without the keys themselves.
#[utoipa::path(get, path = "/v1/apikeys", tag = "operator", responses((status = 200, description = "As asked", body = Vec<ApiKey>), (status = 403, description = "The key's role does not include it", body = Problem)))]
pub(crate) async fn api_keys<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
) -> Result<Json<Vec<ApiKey>>, Failure> {
    let permit = caller.permit::<action::ReadApiKeys>(&*shared.node).await?;
    Ok(Json(shared.node.api_keys(permit).await?))
}

/// Makes an API key for a new consumer, and shows it once.
#[utoipa::path(post, path = "/v1/apikeys", tag = "operator", request_body = ApiKeyRequest,
    responses((status = 201, description = "Made", body = ApiKeyCreated), (status = 400, description = "Malformed", body = Problem), (status = 403, description = "The key's role does not include it", body = Problem)))]
pub(crate) async fn create_api_key<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ApiKeyCreated>), Failure> {
    let permit = caller.permit::<action::CreateApiKey>(&*shared.node).await?;
    let request = json(&headers, body, &shared.limits).await?;
    Ok((StatusCode::CREATED, Json(shared.node.create_api_key(permit, request).await?)))
}

/// Revokes an API key; it stops at once.
#[utoipa::path(delete, path = "/v1/apikeys/{key}", tag = "operator", params(("key" = String, Path)),
    responses((status = 204, description = "Done"), (status = 403, description = "The key's role does not include it", body = Problem), (status = 404, description = "Not there, or another consumer's", body = Problem)))]
pub(crate) async fn revoke_api_key<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<StatusCode, Failure> {
    let permit = caller.permit::<action::RevokeApiKey>(&*shared.node).await?;
    shared.node.revoke_api_key(permit, id(&key)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
