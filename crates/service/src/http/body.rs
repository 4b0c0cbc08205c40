use super::ProblemResponse;
use crate::fair_pool::Permit;
use axum::{
    body::{Body, HttpBody as _},
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
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

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
    BodyReader::new(headers, body, limit_bytes)?
        .read_to_end()
        .await
}

/// Returns how many bytes a body can have: as many as it announces, or else `limit_bytes`.
#[must_use]
pub fn body_bytes_max(headers: &HeaderMap, body: &Body, limit_bytes: usize) -> usize {
    if body.is_end_stream() {
        return 0;
    }
    let announced = content_length(headers).and_then(|length| usize::try_from(length).ok());
    announced.unwrap_or(limit_bytes).min(limit_bytes)
}

/// Reader of a request body with a maximum size and a minimum average rate, by default
/// [`BODY_BYTES_PER_SECOND_MIN`].
pub struct BodyReader {
    body: Body,
    limit_bytes: usize,
    announced_bytes: usize,
    received_bytes: usize,
    bytes_per_second_min: u32,
    started_at: Instant,
    /// Memory or slots that are held while the body is received.
    permits: Vec<Permit>,
    evicted: Arc<Notify>,
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
        let announced = content_length(headers).and_then(|length| usize::try_from(length).ok());
        let announced_bytes = announced.unwrap_or_default();
        let bytes_per_second_min = BODY_BYTES_PER_SECOND_MIN;
        Ok(Self {
            body,
            limit_bytes,
            announced_bytes,
            received_bytes: 0,
            bytes_per_second_min,
            started_at: Instant::now(),
            permits: Vec::new(),
            evicted: Arc::default(),
        })
    }

    /// Holds a permit while the body is received. If it is evicted, reading fails.
    #[must_use]
    pub fn with_permit(mut self, permit: Permit) -> Self {
        self.hold(permit);
        self
    }

    /// Like [`Self::with_permit`].
    pub fn hold(&mut self, permit: Permit) {
        let evicted = Arc::clone(&self.evicted);
        permit.on_eviction(move || evicted.notify_one());
        self.permits.push(permit);
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
    /// `too_large`; `malformed` when the client stops sending or sends too slowly; `overloaded`
    /// when a permit is evicted.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let deadline = self.deadline();
            let frame = tokio::select! {
                biased;
                () = self.evicted.notified() => return Err(overloaded()),
                frame = timeout_at(deadline, self.body.frame()) => frame,
            };
            let frame = match frame {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => {
                    // From now on, the client does not delay what the permits are held for.
                    self.permits.iter().for_each(Permit::protect);
                    return Ok(None);
                }
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
            for permit in &self.permits {
                permit.record_progress(chunk.len());
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Reads the remaining body.
    ///
    /// # Errors
    /// Those of [`Self::next`].
    pub async fn read_to_end(mut self) -> Result<Bytes, Problem> {
        let mut first = Bytes::new();
        let mut joined = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            // Most bodies arrive in one chunk, which needs no copy.
            if first.is_empty() && joined.is_empty() {
                first = chunk;
                continue;
            }
            if joined.is_empty() {
                joined.reserve(self.announced_bytes.max(first.len() + chunk.len()));
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&chunk);
        }
        Ok(if joined.is_empty() {
            first
        } else {
            joined.freeze()
        })
    }

    /// Reads and discards the remaining body: many clients read a response only after they have
    /// sent the whole request.
    pub async fn drain(mut self) {
        self.permits.clear();
        self.evicted = Arc::default();
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

fn overloaded() -> Problem {
    Problem::from(ErrorCode::Overloaded).retry_after_ms(millis(BUSY_RETRY))
}

fn too_large(limit_bytes: usize) -> Problem {
    Problem::new(
        ErrorCode::TooLarge,
        format!("the body is over the limit of {limit_bytes} bytes"),
    )
}

/// Returns the length that a body announces.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
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
    use crate::fair_pool::FairPool;
    use sealpost_proto::limits::POOL_STALL_TIMEOUT;
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

    #[tokio::test(start_paused = true)]
    async fn evicted_bodies_are_refused() {
        let pool = FairPool::new(1, 1);
        let stalled =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let reader = BodyReader::new(&HeaderMap::new(), stalled, 1_000).unwrap();
        let permit = pool.reserve(None, 1).await.unwrap();
        let reading = tokio::spawn(reader.with_permit(permit).read_to_end());
        tokio::time::sleep(POOL_STALL_TIMEOUT).await;
        assert!(pool.reserve(None, 1).await.is_some());
        let problem = reading.await.unwrap().unwrap_err();
        assert_eq!(
            (problem.code, problem.retry_after_ms),
            (ErrorCode::Overloaded, Some(1_000))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn progress_protects_bodies_from_eviction() {
        let pool = FairPool::new(1, 1);
        let body = slow_body(BODY_BYTES_PER_SECOND_MIN as usize, 20);
        let reader = BodyReader::new(&HeaderMap::new(), body, 10_000_000).unwrap();
        let permit = pool.reserve(None, 1).await.unwrap();
        let reading = tokio::spawn(reader.with_permit(permit.clone()).read_to_end());
        while !reading.is_finished() {
            assert!(pool.reserve(None, 1).await.is_none());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(reading.await.unwrap().is_ok());
        tokio::time::sleep(POOL_STALL_TIMEOUT).await;
        assert!(
            pool.reserve(None, 1).await.is_none(),
            "the request is processed"
        );
        drop(permit);
        assert!(pool.reserve(None, 1).await.is_some());
    }

    #[tokio::test]
    async fn chunks_of_a_body_are_joined() {
        let chunks = [vec![1; 1_000], vec![2; 1_000], vec![3; 1]].map(Ok::<_, std::io::Error>);
        let joined = chunks
            .iter()
            .flatten()
            .flatten()
            .copied()
            .collect::<Vec<_>>();
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        assert_eq!(
            read_body(&HeaderMap::new(), body, 2_001).await.unwrap(),
            joined
        );
    }
}
