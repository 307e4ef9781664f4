//! One handler per operation.

pub(crate) mod admin;
pub(crate) mod jobs;
pub(crate) mod log;
pub(crate) mod node;
pub(crate) mod offers;

use crate::failure::Failure;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use decores_api::{Code, Problem};

/// Parses an id from a path; what is no id names nothing that exists.
fn id<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Problem::new(Code::NotFound, "not found").into())
}

/// A response of one media type.
fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = body.into().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
