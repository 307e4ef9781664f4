//! The node itself.

use super::typed;
use crate::auth::Caller;
use crate::failure::Failure;
use crate::router::Shared;
use crate::service::Service;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use decores_access::action;
use decores_api::node::{NodeResponse, Status};

/// Liveness.
#[utoipa::path(get, path = "/healthz", tag = "node", security(()), responses((status = 200, description = "The node serves requests", body = String)))]
pub(crate) async fn healthz() -> Response {
    typed("application/json", "{\"status\":\"ok\"}")
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "node", security(()), responses((status = 200, description = "OpenAPI 3.1")))]
pub(crate) async fn openapi() -> Response {
    typed("application/json", crate::openapi::document())
}

/// Who the node is, signed by its identity key.
#[utoipa::path(get, path = "/v1/node", tag = "node", security(()), responses((status = 200, description = "As asked", body = NodeResponse)))]
pub(crate) async fn node<S: Service>(State(shared): State<Shared<S>>) -> Result<Json<NodeResponse>, Failure> {
    Ok(Json(shared.node.node().await?))
}

/// What the node is doing.
#[utoipa::path(get, path = "/v1/status", tag = "node", responses((status = 200, description = "As asked", body = Status)))]
pub(crate) async fn status<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
) -> Result<Json<Status>, Failure> {
    let permit = caller.permit::<action::ReadStatus>(&*shared.node).await?;
    Ok(Json(shared.node.status(permit).await?))
}

/// Metrics, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "node", responses((status = 200, description = "As asked", body = String)))]
pub(crate) async fn metrics<S: Service>(State(shared): State<Shared<S>>, caller: Caller) -> Result<Response, Failure> {
    let permit = caller.permit::<action::ReadMetrics>(&*shared.node).await?;
    Ok(typed("text/plain; version=0.0.4; charset=utf-8", shared.node.metrics(permit).await?))
}
