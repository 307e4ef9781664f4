//! The one door: every handler behind it takes a [`Caller`].

use crate::failure::Failure;
use crate::router::Shared;
use crate::service::Service;
use crate::turns::Turn;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use decores_access::{ActionType, Permit, Principal};
use decores_api::{Code, Problem};

/// Somebody who presented a good API key, and has not too many requests being answered.
#[derive(Debug)]
pub struct Caller(pub Principal, #[expect(dead_code, reason = "held until the request is answered")] Turn);

impl Caller {
    /// Asks for a permit; a refusal is logged.
    pub(crate) async fn permit<A: ActionType>(&self, node: &impl Service) -> Result<Permit<A>, Failure> {
        match self.0.permit() {
            Ok(permit) => Ok(permit),
            Err(refusal) => {
                node.refused(&self.0, refusal).await;
                Err(refusal.into())
            }
        }
    }
}

impl<S: Service> FromRequestParts<Shared<S>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared<S>) -> Result<Self, Failure> {
        let token = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::to_owned);
        let principal = shared.node.authenticate(token.as_deref()).await?;
        let most = shared.limits.requests_per_consumer;
        match shared.turns.begin(principal.consumer(), most) {
            Some(turn) => Ok(Self(principal, turn)),
            None => {
                shared.node.crowded();
                let detail = format!("{most} of your requests are being answered, and no more are at a time");
                let hint = "ask again when one of them is; the operator can allow more: `api.requests_per_consumer`";
                Err(Problem::new(Code::TooManyRequests, detail).hint(hint).into())
            }
        }
    }
}
