//! Requests to one node, each with a time and a size that it may not exceed.

use crate::{ClientError, NodeUrl, tls};
use decores_api::{Problem, headers};
use decores_secrets::Zeroizing;
use decores_types::canonical;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next request: less than a node waits for one before it closes its end, which
/// could meet a request on its way.
const IDLE: Duration = Duration::from_secs(5);
/// Longest the node may be silent, apart from a wait that we asked for.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);
/// Largest JSON answer; a page of log entries of the largest size stays below.
pub(crate) const MAX_ANSWER: u64 = 16 << 20;

/// The API key of a consumer; zeroed when dropped, printed as stars.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Takes a key as it was typed or read; white space around it is dropped.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let key = text.trim();
        if key.is_empty() || key.len() > 256 || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ClientError::Input("the API key is empty or not in one piece".to_owned()));
        }
        Ok(Self(Zeroizing::new(key.to_owned())))
    }

    /// The key itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

/// A way to one node; clones share their connections.
#[derive(Clone, Debug)]
pub struct Connection {
    http: Client,
    url: NodeUrl,
    bearer: Option<HeaderValue>,
}

/// Where a page of a listing starts, and how long it is.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// What the last page gave as `next`.
    pub cursor: Option<String>,
    /// Items wanted; the node caps it.
    pub limit: Option<usize>,
}

impl PageRequest {
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let cursor = self.cursor.clone().map(|c| ("cursor", c));
        cursor.into_iter().chain(self.limit.map(|l| ("limit", l.to_string()))).collect()
    }
}

impl Connection {
    /// A connection that believes only the authority `ca` (DER).
    pub fn pinned(url: NodeUrl, ca: &[u8], key: Option<&ApiKey>) -> Result<Self, ClientError> {
        Self::with_tls(url, tls::pinned(ca)?, key)
    }

    pub(crate) fn with_tls(url: NodeUrl, tls: rustls::ClientConfig, key: Option<&ApiKey>) -> Result<Self, ClientError> {
        let http = Client::builder()
            .use_preconfigured_tls(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("decores/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Http)?;
        let bearer = key.map(bearer).transpose()?;
        Ok(Self { http, url, bearer })
    }

    /// Where the node is.
    pub const fn url(&self) -> &NodeUrl {
        &self.url
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.bearer {
            Some(bearer) => request.header(AUTHORIZATION, bearer.clone()),
            None => request,
        }
    }

    /// Sends, waits at most `limit` for the head of the answer, and turns refusals into errors.
    pub(crate) async fn send(&self, request: RequestBuilder, limit: Duration) -> Result<Response, ClientError> {
        let sent = tokio::time::timeout(limit, request.send()).await;
        let response = sent.map_err(|_| self.timeout(limit))?.map_err(|source| self.lost(source))?;
        self.accept(response).await
    }

    /// Passes a success on and turns anything else into an error.
    pub(crate) async fn accept(&self, response: Response) -> Result<Response, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let is_problem =
            response.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(headers::PROBLEM.as_bytes()));
        let without_reason = ClientError::Status { status: status.as_u16() };
        if !is_problem {
            return Err(without_reason);
        }
        let wait = retry_after(&response);
        let body = self.body(response, headers::MAX_JSON as u64).await?;
        let Ok(mut problem) = canonical::from_json::<Problem>(&body, headers::MAX_JSON) else {
            return Err(without_reason);
        };
        if let (Some(wait), None) = (wait, &problem.hint) {
            problem.hint = Some(format!("try again in {} seconds", wait.as_secs()));
        }
        Err(ClientError::Problem { problem: Box::new(problem), retry: wait })
    }

    /// Reads at most `max` bytes of an answer.
    pub(crate) async fn body(&self, mut response: Response, max: u64) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if (body.len() as u64).saturating_add(chunk.len() as u64) > max {
                return Err(ClientError::TooLarge { max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next bytes of an answer; `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, ClientError> {
        let read = tokio::time::timeout(SILENCE, response.chunk()).await;
        read.map_err(|_| self.timeout(SILENCE))?.map_err(|source| self.lost(source))
    }

    /// Reads a document.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<T, ClientError> {
        self.get_within(what, path, query, SILENCE).await
    }

    /// Reads a document that the node may take `limit` to give.
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        query: &[(&'static str, String)],
        limit: Duration,
    ) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::GET, path).query(query), limit).await?;
        parse(what, &self.body(response, MAX_ANSWER).await?)
    }

    /// Reads at most `max` bytes that are not JSON of ours.
    pub(crate) async fn get_bytes(&self, path: &str, max: u64) -> Result<Vec<u8>, ClientError> {
        let response = self.send(self.request(Method::GET, path), SILENCE).await?;
        self.body(response, max).await
    }

    /// Sends a document and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::POST, path).json(body), SILENCE).await?;
        parse(what, &self.body(response, MAX_ANSWER).await?)
    }

    /// Asks for something to be done; the answer's body does not matter.
    pub(crate) async fn act(&self, method: Method, path: &str) -> Result<(), ClientError> {
        self.send(self.request(method, path), SILENCE).await.map(drop)
    }

    pub(crate) fn lost(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.url.to_string(), source: source.without_url() }
    }

    pub(crate) fn timeout(&self, limit: Duration) -> ClientError {
        ClientError::Timeout { url: self.url.to_string(), seconds: limit.as_secs() }
    }
}

/// Parses a JSON answer.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, ClientError> {
    canonical::from_json(body, body.len()).map_err(|source| ClientError::Answer { what, source })
}

/// Fills a name into a path template.
pub(crate) fn path(template: &str, name: &str, value: &dyn std::fmt::Display) -> String {
    template.replace(name, &value.to_string())
}

/// How long the node asks us to wait, at most a minute.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.clamp(1, 60)))
}

/// Waits. The one place where this crate sleeps.
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn bearer(key: &ApiKey) -> Result<HeaderValue, ClientError> {
    let text = Zeroizing::new(format!("Bearer {}", key.expose()));
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| ClientError::Input("the API key does not fit a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{ApiKey, path};
    use decores_api::paths;

    #[test]
    fn api_keys_are_trimmed_and_never_printed() {
        let key = ApiKey::parse("  dck_abc\n").unwrap();
        assert_eq!(key.expose(), "dck_abc");
        assert_eq!(format!("{key:?}"), "ApiKey(***)");
    }

    #[test]
    fn api_keys_that_could_split_a_header_are_refused() {
        for text in ["", " ", "a b", "a\r\nb", "ä"] {
            assert!(ApiKey::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_filled_into_paths() {
        assert_eq!(path(paths::JOB_LOGS, "{job}", &"job_1"), "/v1/jobs/job_1/logs");
    }
}
