//! Offers and plans.

use crate::auth::Caller;
use crate::body::json;
use crate::failure::Failure;
use crate::router::Shared;
use crate::service::Service;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use decores_access::action;
use decores_api::Problem;
use decores_api::offers::{OfferRequest, OfferResponse, PlanRequest, PlanResponse};

/// Asks for an offer: a one-use sealing key, signed. At most 32 are open per consumer.
#[utoipa::path(post, path = "/v1/offers", tag = "jobs", request_body = OfferRequest, responses(
    (status = 201, description = "Made", body = OfferResponse),
    (status = 422, description = "The node cannot give that protection", body = Problem),
    (status = 429, description = "Too many open offers, or no more of this consumer's jobs may wait", body = Problem),
    (status = 503, description = "The node is short of something and goes on by itself: locked memory, disk, memory, descriptors …", body = Problem)))]
pub(crate) async fn create<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<OfferResponse>), Failure> {
    let permit = caller.permit::<action::AskOffer>(&*shared.node).await?;
    shared.node.admits()?;
    let request = json(&headers, body, &shared.limits).await?;
    Ok((StatusCode::CREATED, Json(shared.node.offer(permit, request).await?)))
}

/// Shows how a spec would be isolated, without running it.
#[utoipa::path(post, path = "/v1/plans", tag = "jobs", request_body = PlanRequest, responses(
    (status = 200, description = "As asked", body = PlanResponse),
    (status = 422, description = "The spec would be refused", body = Problem)))]
pub(crate) async fn plan<S: Service>(
    State(shared): State<Shared<S>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PlanResponse>, Failure> {
    let permit = caller.permit::<action::AskOffer>(&*shared.node).await?;
    let request = json(&headers, body, &shared.limits).await?;
    Ok(Json(shared.node.plan(permit, request).await?))
}
