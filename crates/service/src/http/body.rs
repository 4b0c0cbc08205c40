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
mod tests;
