//! Parameters of paths and queries; their refusals are problems like all others.

use crate::failure::Failure;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use decores_api::{Code, Problem};
use serde::de::DeserializeOwned;
use std::error::Error as _;

/// Parameters in the path. What cannot be read names nothing that exists.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Problem::new(Code::NotFound, "not found").into()),
        }
    }
}

/// Parameters in the query.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let cause = rejection.source().map_or_else(String::new, |source| format!(": {source}"));
                Err(Problem::new(Code::Malformed, format!("failed to read the query{cause}")).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, header};
    use axum::routing::get;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        limit: Option<usize>,
    }

    async fn ask(uri: &str) -> (u16, String, String) {
        let router = Router::new()
            .route("/jobs/{job}", get(async |Path(job): Path<String>| job))
            .route("/jobs", get(async |Query(page): Query<Page>| format!("{:?}", page.limit)));
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let answer = TowerToHyperService::new(router).call(request).await.unwrap();
        let (status, kind) =
            (answer.status().as_u16(), answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned());
        let body = to_bytes(answer.into_body(), 4096).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn good_parameters_are_passed_on() {
        assert_eq!(ask("/jobs/job_%31").await.2, "job_1");
        assert_eq!(ask("/jobs?limit=3").await.2, "Some(3)");
        assert_eq!(ask("/jobs").await.2, "None");
    }

    #[tokio::test]
    async fn a_path_that_is_not_utf8_is_not_found() {
        let (status, kind, body) = ask("/jobs/%ff").await;
        assert_eq!((status, kind.as_str()), (404, "application/problem+json"));
        assert!(body.contains("\"code\":\"not-found\""), "{body}");
    }

    #[tokio::test]
    async fn a_query_that_cannot_be_read_is_malformed() {
        for (query, names) in [("limit=x", "limit: "), ("limit=-1", "limit: "), ("nope=1", "unknown field `nope`")] {
            let (status, kind, body) = ask(&format!("/jobs?{query}")).await;
            assert_eq!((status, kind.as_str()), (400, "application/problem+json"));
            assert!(body.contains("\"detail\":\"failed to read the query: "), "{body}");
            assert!(body.contains(names), "{body}");
        }
    }
}
