//! Bodies, read with a limit on bytes, depth and time.

use crate::failure::Failure;
use crate::limits::HttpLimits;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Buf as _, Bytes, BytesMut};
use decores_api::headers::{MAX_JSON, SUBMISSION};
use decores_api::jobs::Submission;
use decores_api::{Code, Problem};
use decores_types::canonical::{CanonicalError, from_json};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;

/// A sealed payload as it arrives: bounded in bytes, and in the time between two pieces.
#[derive(Debug)]
pub struct PayloadStream {
    stream: BodyDataStream,
    buffered: Bytes,
    idle: Duration,
    left: u64,
}

impl PayloadStream {
    fn new(stream: BodyDataStream, limits: &HttpLimits) -> Self {
        Self { stream, buffered: Bytes::new(), idle: limits.body, left: limits.payload_bytes }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// A problem when the client is too slow, sends too much, or goes away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.buffered.has_remaining() {
            return Ok(Some(std::mem::take(&mut self.buffered)));
        }
        let piece = match timeout(self.idle, self.stream.next()).await {
            Err(_) => return Err(Problem::new(Code::RequestTimeout, "no data arrived in time")),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Problem::new(Code::Malformed, "the request body broke off")),
            Ok(Some(Ok(piece))) => piece,
        };
        let length = piece.len() as u64;
        if length > self.left {
            return Err(Problem::new(Code::TooLarge, "the sealed payload is larger than this node takes"));
        }
        self.left -= length;
        Ok(Some(piece))
    }

    /// Reads exactly the next `wanted` bytes.
    async fn exactly(&mut self, wanted: usize) -> Result<Bytes, Problem> {
        let mut out = BytesMut::with_capacity(wanted.min(MAX_JSON));
        while out.len() < wanted {
            let Some(mut piece) = self.next().await? else {
                return Err(Problem::new(Code::Malformed, "the submission ends before its head does"));
            };
            let take = piece.len().min(wanted - out.len());
            out.extend_from_slice(&piece.split_to(take));
            self.buffered = piece;
        }
        Ok(out.freeze())
    }
}

/// Splits a submission: its head, and the payload that follows.
pub(crate) async fn submission(
    headers: &HeaderMap,
    body: Body,
    limits: &HttpLimits,
) -> Result<(Submission, PayloadStream), Failure> {
    expect_type(headers, SUBMISSION)?;
    let mut payload = PayloadStream::new(body.into_data_stream(), limits);
    let prefix = payload.exactly(4).await?;
    let length = prefix.iter().fold(0_usize, |sum, b| sum << 8 | usize::from(*b));
    if length > MAX_JSON {
        let detail = format!("the submission's head has {length} bytes, at most {MAX_JSON} are read");
        return Err(Problem::new(Code::TooLarge, detail).into());
    }
    let head = payload.exactly(length).await?;
    Ok((parse(&head)?, payload))
}

/// Reads a JSON body whole.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limits: &HttpLimits,
) -> Result<T, Failure> {
    expect_type(headers, "application/json")?;
    let too_large = || Problem::new(Code::TooLarge, format!("a JSON body has at most {MAX_JSON} bytes"));
    if content_length(headers).is_some_and(|n| n > MAX_JSON as u64) {
        return Err(too_large().into());
    }
    let read = axum::body::to_bytes(body, MAX_JSON);
    match timeout(limits.body, read).await {
        Err(_) => Err(Problem::new(Code::RequestTimeout, "the request body did not arrive in time").into()),
        Ok(Err(_)) => Err(too_large().into()),
        Ok(Ok(bytes)) => parse(&bytes),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    from_json(bytes, MAX_JSON).map_err(|error| {
        let detail = match &error {
            CanonicalError::NotJson(source) | CanonicalError::Shape(source) => format!("{error}: {source}"),
            other => other.to_string(),
        };
        Problem::new(Code::Malformed, detail).into()
    })
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn expect_type(headers: &HeaderMap, wanted: &str) -> Result<(), Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(Problem::new(Code::UnsupportedMediaType, format!("send `Content-Type: {wanted}`")).into())
    }
}
