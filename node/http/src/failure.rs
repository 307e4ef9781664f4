//! Problems as responses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use decores_access::Refusal;
use decores_api::headers::PROBLEM;
use decores_api::{Code, Problem};

/// Seconds after which a full node may be asked again.
const RETRY_AFTER: &str = "2";

/// A problem on its way out.
#[derive(Debug)]
pub struct Failure(pub Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let problem = match refusal {
            Refusal::Unauthenticated => Problem::new(Code::Unauthenticated, refusal.to_string())
                .hint("send `Authorization: Bearer dck_…`, or log in again with `decores login`"),
            Refusal::Expired => Problem::new(Code::KeyExpired, refusal.to_string())
                .hint("ask the node's operator for a new one: `decores apikey create`"),
            Refusal::Forbidden(_) => Problem::new(Code::Forbidden, refusal.to_string()),
            Refusal::NotFound(_) => Problem::new(Code::NotFound, refusal.to_string()),
        };
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = self.0.code;
        let mut response = (status, axum::Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        match code {
            Code::Unavailable | Code::TooManyRequests => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            Code::Unauthenticated | Code::KeyExpired => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"decores\""));
            }
            _ => {}
        }
        response
    }
}
