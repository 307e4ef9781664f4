//! The one door: every handler behind it takes a [`Caller`].

use crate::failure::Failure;
use crate::router::Shared;
use crate::service::Service;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use decores_access::{ActionType, Permit, Principal};

/// Somebody who presented a good API key.
#[derive(Debug)]
pub struct Caller(pub Principal);

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
        Ok(Self(shared.node.authenticate(token.as_deref()).await?))
    }
}
