//! Bodies, read with a limit on bytes, depth and time.

use crate::failure::Failure;
use crate::limits::HttpLimits;
use crate::pace::Pace;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Buf as _, Bytes, BytesMut};
use decores_api::headers::{MAX_JSON, SUBMISSION};
use decores_api::jobs::Submission;
use decores_api::{Code, Problem};
use decores_types::canonical::{CanonicalError, from_json};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use std::future::poll_fn;
use tokio::time::timeout;

/// A sealed payload as it arrives: bounded in bytes, and held to a pace.
#[derive(Debug)]
pub struct PayloadStream {
    stream: BodyDataStream,
    buffered: Bytes,
    pace: Pace,
    left: u64,
}

impl PayloadStream {
    fn new(stream: BodyDataStream, limits: &HttpLimits) -> Self {
        Self { stream, buffered: Bytes::new(), pace: Pace::new(limits), left: limits.payload_bytes }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// A problem when the client is too slow, sends too much, or goes away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.buffered.has_remaining() {
            return Ok(Some(std::mem::take(&mut self.buffered)));
        }
        let arrived = poll_fn(|context| {
            let outcome = self.stream.poll_next_unpin(context);
            self.pace.poll(context, outcome)
        });
        let piece = match arrived.await {
            None => return Err(Problem::new(Code::RequestTimeout, "the payload arrives too slowly, or not at all")),
            Some(None) => return Ok(None),
            Some(Some(Err(_))) => return Err(broken_off()),
            Some(Some(Ok(piece))) => piece,
        };
        self.pace.earn(piece.len());
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
    match timeout(limits.head, submission_head(&mut payload)).await {
        Err(_) => Err(Problem::new(Code::RequestTimeout, "the submission's head did not arrive in time").into()),
        Ok(head) => Ok((parse(&head?)?, payload)),
    }
}

async fn submission_head(payload: &mut PayloadStream) -> Result<Bytes, Problem> {
    let prefix = payload.exactly(4).await?;
    let length = prefix.iter().fold(0_usize, |sum, b| sum << 8 | usize::from(*b));
    if length > MAX_JSON {
        let detail = format!("the submission's head has {length} bytes, at most {MAX_JSON} are read");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    payload.exactly(length).await
}

/// Reads a JSON body whole.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limits: &HttpLimits,
) -> Result<T, Failure> {
    expect_type(headers, "application/json")?;
    if content_length(headers).is_some_and(|n| n > MAX_JSON as u64) {
        return Err(json_too_large().into());
    }
    match timeout(limits.body, json_bytes(body)).await {
        Err(_) => Err(Problem::new(Code::RequestTimeout, "the request body did not arrive in time").into()),
        Ok(bytes) => parse(&bytes?),
    }
}

async fn json_bytes(body: Body) -> Result<BytesMut, Problem> {
    let mut stream = body.into_data_stream();
    let mut out = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| broken_off())?;
        if piece.len() > MAX_JSON - out.len() {
            return Err(json_too_large());
        }
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

fn json_too_large() -> Problem {
    Problem::new(Code::TooLarge, format!("a JSON body has at most {MAX_JSON} bytes"))
}

fn broken_off() -> Problem {
    Problem::new(Code::Malformed, "the request body broke off")
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

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use axum::http::HeaderValue;
    use futures_util::stream::{self, Stream};
    use serde_json::Value;
    use std::io;
    use std::time::Duration;
    use tokio::time::sleep;

    const LIMITS: HttpLimits = HttpLimits {
        head: Duration::from_millis(300),
        body: Duration::from_millis(500),
        bytes_per_second: 1024,
        payload_bytes: 10_000,
        ..HttpLimits::DEFAULT
    };

    type Piece = io::Result<Bytes>;

    /// Pieces of this length, for ever, with a pause before each.
    fn drip(length: usize, pause: Duration) -> impl Stream<Item = Piece> + Send {
        stream::unfold((), move |()| async move {
            sleep(pause).await;
            Some((Ok(Bytes::from(vec![b' '; length])), ()))
        })
    }

    fn broken() -> impl Stream<Item = Piece> + Send {
        stream::iter([Ok(Bytes::from_static(b"{")), Err(io::ErrorKind::UnexpectedEof.into())])
    }

    fn of_type(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    async fn read_json(body: Body) -> Result<Value, Code> {
        json(&of_type("application/json"), body, &LIMITS).await.map_err(|failure| failure.0.code)
    }

    async fn read_payload(body: impl Stream<Item = Piece> + Send + 'static) -> Result<u64, Code> {
        let mut payload = PayloadStream::new(Body::from_stream(body).into_data_stream(), &LIMITS);
        let mut read = 0;
        while let Some(piece) = payload.next().await.map_err(|problem| problem.code)? {
            read += piece.len() as u64;
        }
        Ok(read)
    }

    #[tokio::test]
    async fn a_json_body_that_breaks_off_is_malformed() {
        assert_eq!(read_json(Body::from_stream(broken())).await, Err(Code::Malformed));
    }

    #[tokio::test]
    async fn a_json_body_has_its_limit_whether_or_not_it_says_its_length() {
        let mut just = vec![b' '; MAX_JSON - 2];
        just.extend_from_slice(b"{}");
        assert_eq!(read_json(Body::from(just.clone())).await, Ok(Value::Object(Default::default())));
        just.push(b' ');
        assert_eq!(read_json(Body::from(just)).await, Err(Code::TooLarge));
        assert_eq!(read_json(Body::from_stream(drip(4096, Duration::ZERO))).await, Err(Code::TooLarge));
        let mut headers = of_type("application/json");
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(MAX_JSON + 1));
        let said: Result<Value, Failure> = json(&headers, Body::empty(), &LIMITS).await;
        assert_eq!(said.unwrap_err().0.code, Code::TooLarge);
    }

    #[tokio::test]
    async fn a_json_body_that_trickles_times_out() {
        let body = Body::from_stream(drip(1, Duration::from_millis(20)));
        assert_eq!(read_json(body).await, Err(Code::RequestTimeout));
    }

    /// Each byte comes well within the time a payload may stop.
    #[tokio::test]
    async fn a_submissions_head_that_trickles_times_out() {
        let start = stream::iter([Ok(Bytes::from_static(&[0, 0, 0xff, 0xff]))]);
        let limits = HttpLimits { body: Duration::from_secs(60), ..LIMITS };
        let body = Body::from_stream(start.chain(drip(1, Duration::from_millis(20))));
        let read = timeout(Duration::from_secs(20), submission(&of_type(SUBMISSION), body, &limits)).await;
        assert_eq!(read.unwrap().map(drop).unwrap_err().0.code, Code::RequestTimeout);
    }

    #[tokio::test]
    async fn a_payload_that_stops_or_trickles_times_out() {
        assert_eq!(read_payload(stream::pending()).await, Err(Code::RequestTimeout));
        let trickle = timeout(Duration::from_secs(20), read_payload(drip(1, Duration::from_millis(20)))).await;
        assert_eq!(trickle.unwrap(), Err(Code::RequestTimeout));
    }

    #[tokio::test]
    async fn a_slow_payload_that_keeps_the_pace_is_read() {
        let slow = drip(256, Duration::from_millis(50)).take(16);
        assert_eq!(read_payload(slow).await, Ok(16 * 256), "it took longer than the grace in all");
    }

    /// The disk's time is not the client's.
    #[tokio::test]
    async fn time_between_two_reads_is_not_counted() {
        let body = Body::from_stream(drip(1, Duration::from_millis(1)).take(2));
        let mut payload = PayloadStream::new(body.into_data_stream(), &LIMITS);
        while payload.next().await.unwrap().is_some() {
            sleep(LIMITS.body + LIMITS.head).await;
        }
    }

    #[tokio::test]
    async fn a_payload_that_breaks_off_or_is_too_large_is_refused() {
        assert_eq!(read_payload(broken()).await, Err(Code::Malformed));
        assert_eq!(read_payload(drip(4096, Duration::ZERO)).await, Err(Code::TooLarge));
    }
}
