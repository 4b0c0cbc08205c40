use super::ProblemResponse;
use axum::{
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use sealpost_proto::{
    ErrorCode, Problem,
    limits::{
        BODY_BYTES_PER_SECOND_MIN, BODY_GRACE, BUSY_RETRY, JSON_REQUEST_BYTES_MAX,
        PROBLEM_REASON_CHARS_MAX,
    },
    time::millis,
};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Content type of a JSON body.
pub const JSON_TYPE: &str = "application/json";

/// JSON body of a request, up to `LIMIT` bytes, or of a response. An invalid request body is the
/// problem `too_large`, `unsupported_media_type` or `malformed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T, const LIMIT: usize = JSON_REQUEST_BYTES_MAX>(pub T);

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ProblemResponse> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, LIMIT).await?;
        Ok(Self(parse_json(&parts.headers, &bytes)?))
    }
}

impl<T: Serialize, const LIMIT: usize> IntoResponse for Json<T, LIMIT> {
    fn into_response(self) -> Response {
        json_body(StatusCode::OK, &self.0)
    }
}

/// Creates a response with a JSON body.
pub fn json_body<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let Ok(bytes) = serde_json::to_vec(value) else {
        return ProblemResponse::from(ErrorCode::Internal).into_response();
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
    response
}

/// Reads a body of up to `limit_bytes`.
///
/// # Errors
/// Those of [`BodyReader`].
pub async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: usize,
) -> Result<Bytes, Problem> {
    read_body_with(headers, body, limit_bytes, |_| true).await
}

/// Reads a body of up to `limit_bytes` and calls `reserve` with the size of each chunk.
///
/// # Errors
/// Those of [`BodyReader`]; `overloaded` when `reserve` returns false.
pub async fn read_body_with(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: usize,
    mut reserve: impl FnMut(usize) -> bool,
) -> Result<Bytes, Problem> {
    let mut reader = BodyReader::new(headers, body, limit_bytes)?;
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(chunk) = reader.next().await? {
        if !reserve(chunk.len()) {
            return Err(Problem::from(ErrorCode::Overloaded).retry_after_ms(millis(BUSY_RETRY)));
        }
        // Most bodies arrive in one chunk, which needs no copy.
        if first.is_empty() && joined.is_empty() {
            first = chunk;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&chunk);
        }
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// Reader of a request body with a maximum size and a minimum average rate, by default
/// [`BODY_BYTES_PER_SECOND_MIN`].
pub struct BodyReader {
    body: Body,
    limit_bytes: usize,
    received_bytes: usize,
    bytes_per_second_min: u32,
    started_at: Instant,
}

impl BodyReader {
    /// Creates a reader for a body of up to `limit_bytes`.
    ///
    /// # Errors
    /// `too_large` when `Content-Length` exceeds the limit.
    pub fn new(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Self, Problem> {
        if content_length(headers).is_some_and(|length| length > limit_bytes as u64) {
            return Err(too_large(limit_bytes));
        }
        let bytes_per_second_min = BODY_BYTES_PER_SECOND_MIN;
        Ok(Self {
            body,
            limit_bytes,
            received_bytes: 0,
            bytes_per_second_min,
            started_at: Instant::now(),
        })
    }

    /// Sets another minimum rate.
    #[must_use]
    pub fn with_bytes_per_second_min(self, bytes_per_second_min: u32) -> Self {
        Self {
            bytes_per_second_min,
            ..self
        }
    }

    /// Returns the next chunk, or `None` at the end.
    ///
    /// # Errors
    /// `too_large`; `malformed` when the client stops sending or sends too slowly.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = match timeout_at(self.deadline(), self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => {
                    return Err(Problem::new(ErrorCode::Malformed, "the body ended early"));
                }
                Err(_) => {
                    return Err(Problem::new(
                        ErrorCode::Malformed,
                        "the body took too long to arrive",
                    ));
                }
            };
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            self.received_bytes += chunk.len();
            if self.received_bytes > self.limit_bytes {
                return Err(too_large(self.limit_bytes));
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Reads and discards the remaining body: many clients read a response only after they have
    /// sent the whole request.
    pub async fn drain(mut self) {
        while let Ok(Some(_)) = self.next().await {}
    }

    fn deadline(&self) -> Instant {
        let received = u32::try_from(self.received_bytes).unwrap_or(u32::MAX);
        self.started_at
            + BODY_GRACE
            + Duration::from_secs(received.into()) / self.bytes_per_second_min
    }
}

/// Parses JSON of up to 128 levels.
///
/// # Errors
/// `unsupported_media_type` when `Content-Type` is not JSON; `malformed` with line and column when
/// the body does not parse.
pub fn parse_json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            "send the header Content-Type: application/json",
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let reason: String = error
            .to_string()
            .chars()
            .take(PROBLEM_REASON_CHARS_MAX)
            .collect();
        Problem::new(
            ErrorCode::Malformed,
            format!("the body is not the JSON expected here: {reason}"),
        )
    })
}

fn too_large(limit_bytes: usize) -> Problem {
    Problem::new(
        ErrorCode::TooLarge,
        format!("the body is over the limit of {limit_bytes} bytes"),
    )
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn request(content_type: Option<&str>, body: impl Into<Body>) -> Request {
        let mut request = Request::new(body.into());
        if let Some(content_type) = content_type {
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        request
    }

    async fn code_of<const LIMIT: usize>(request: Request) -> Option<ErrorCode> {
        Json::<Value, LIMIT>::from_request(request, &())
            .await
            .err()
            .map(|problem| problem.0.code)
    }

    #[tokio::test]
    async fn bodies_are_parsed_or_refused() {
        assert_eq!(
            code_of::<9>(request(Some("application/json"), "{\"a\":123}")).await,
            None
        );
        assert_eq!(
            code_of::<9>(request(Some("Application/JSON; charset=utf-8"), "[]")).await,
            None
        );
        assert_eq!(
            code_of::<9>(request(Some(JSON_TYPE), "{\"a\":1234}")).await,
            Some(ErrorCode::TooLarge)
        );
        assert_eq!(
            code_of::<9>(request(Some("text/plain"), "[]")).await,
            Some(ErrorCode::UnsupportedMediaType)
        );
        assert_eq!(
            code_of::<9>(request(None, "[]")).await,
            Some(ErrorCode::UnsupportedMediaType)
        );
        assert_eq!(
            code_of::<9>(request(Some(JSON_TYPE), "[")).await,
            Some(ErrorCode::Malformed)
        );
        assert_eq!(
            code_of::<9>(request(Some(JSON_TYPE), "[] x")).await,
            Some(ErrorCode::Malformed)
        );
    }

    #[tokio::test]
    async fn content_length_is_checked_before_reading() {
        let mut request = request(Some(JSON_TYPE), "[]");
        request
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(10));
        assert_eq!(code_of::<9>(request).await, Some(ErrorCode::TooLarge));
    }

    #[tokio::test]
    async fn deeply_nested_json_is_refused() {
        let deep = "[".repeat(10_000);
        assert_eq!(
            code_of::<20_000>(request(Some(JSON_TYPE), deep)).await,
            Some(ErrorCode::Malformed)
        );
    }

    /// Creates a body that sends one chunk per second.
    fn slow_body(chunk_bytes: usize, chunks: usize) -> Body {
        Body::from_stream(futures_util::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            (sent < chunks).then(|| (Ok::<_, std::io::Error>(vec![b' '; chunk_bytes]), sent + 1))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_are_accepted_above_minimum_rate() {
        let read = async |body| read_body(&HeaderMap::new(), body, 10_000_000).await;
        let steady = read(slow_body(BODY_BYTES_PER_SECOND_MIN as usize, 100))
            .await
            .unwrap();
        assert_eq!(steady.len(), BODY_BYTES_PER_SECOND_MIN as usize * 100);
        let started_at = Instant::now();
        let slow = read(slow_body(100, 1_000)).await.unwrap_err();
        assert!(
            slow.detail.contains("too long") && started_at.elapsed() < BODY_GRACE * 2,
            "{slow}"
        );
        let silent = read(Body::from_stream(futures_util::stream::pending::<
            Result<Bytes, std::io::Error>,
        >()))
        .await;
        assert!(silent.unwrap_err().detail.contains("too long"));
    }

    #[tokio::test(start_paused = true)]
    async fn minimum_rate_can_be_lowered() {
        let chunk_bytes = BODY_BYTES_PER_SECOND_MIN as usize / 4;
        assert!(
            read_body(&HeaderMap::new(), slow_body(chunk_bytes, 100), 10_000_000)
                .await
                .is_err()
        );
        let slow =
            BodyReader::new(&HeaderMap::new(), slow_body(chunk_bytes, 100), 10_000_000).unwrap();
        let mut slow = slow.with_bytes_per_second_min(BODY_BYTES_PER_SECOND_MIN / 4);
        let mut received_bytes = 0;
        while let Some(chunk) = slow.next().await.unwrap() {
            received_bytes += chunk.len();
        }
        assert_eq!(received_bytes, chunk_bytes * 100);
    }

    #[tokio::test]
    async fn each_chunk_reserves_memory() {
        let chunked_body = || {
            let chunks = [vec![1; 1_000], vec![2; 1_000]].map(Ok::<_, std::io::Error>);
            Body::from_stream(futures_util::stream::iter(chunks))
        };
        let (headers, mut reserved) = (HeaderMap::new(), Vec::new());
        let body = read_body_with(&headers, chunked_body(), 2_000, |bytes| {
            reserved.push(bytes);
            true
        });
        assert_eq!(
            body.await.unwrap(),
            [vec![1; 1_000], vec![2; 1_000]].concat()
        );
        assert_eq!(reserved, [1_000, 1_000]);
        let mut free_bytes = 1_000;
        let refused = read_body_with(&headers, chunked_body(), 2_000, |bytes| {
            let fits = bytes <= free_bytes;
            free_bytes -= bytes.min(free_bytes);
            fits
        });
        let problem = refused.await.unwrap_err();
        assert_eq!(
            (problem.code, problem.retry_after_ms),
            (ErrorCode::Overloaded, Some(1_000))
        );
    }
}
