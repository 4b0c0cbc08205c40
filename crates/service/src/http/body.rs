use super::ProblemResponse;
use axum::{
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use sealpost_proto::{
    ErrorCode, Problem,
    limits::{BODY_READ_TIMEOUT, JSON_REQUEST_BYTES_MAX, PROBLEM_REASON_CHARS_MAX},
};
use serde::{Serialize, de::DeserializeOwned};

/// The content type of every JSON body.
pub const JSON_TYPE: &str = "application/json";

/// A JSON body of at most `LIMIT` bytes, as the argument of a handler; and JSON as its answer. What is wrong with a body is
/// answered as a problem: `too_large`, `unsupported_media_type` or `malformed`.
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

/// An answer with a JSON body.
pub fn json_body<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let Ok(bytes) = serde_json::to_vec(value) else {
        return ProblemResponse::from(ErrorCode::Internal).into_response();
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
    response
}

/// Reads a whole body of at most `limit_bytes`, within a minute.
///
/// # Errors
/// `too_large`, before anything is read when the header already says so; `malformed` when the client stops sending.
pub async fn read_body(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, Problem> {
    if announced_length(headers).is_some_and(|length| length > limit_bytes as u64) {
        return Err(too_large(limit_bytes));
    }
    let reading = Limited::new(body, limit_bytes).collect();
    match tokio::time::timeout(BODY_READ_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit_bytes)),
        Ok(Err(_)) => Err(Problem::new(ErrorCode::Malformed, "the body ended early")),
        Err(_) => Err(Problem::new(ErrorCode::Malformed, "the body took too long to arrive")),
    }
}

/// Reads JSON, at most 128 levels deep.
///
/// # Errors
/// `unsupported_media_type` when the header `Content-Type` is not JSON; `malformed` with the place when it does not parse.
pub fn parse_json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, "send the header Content-Type: application/json"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let reason: String = error.to_string().chars().take(PROBLEM_REASON_CHARS_MAX).collect();
        Problem::new(ErrorCode::Malformed, format!("the body is not the JSON expected here: {reason}"))
    })
}

fn too_large(limit_bytes: usize) -> Problem {
    Problem::new(ErrorCode::TooLarge, format!("the body is over the limit of {limit_bytes} bytes"))
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
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
            request.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        request
    }

    async fn code_of<const LIMIT: usize>(request: Request) -> Option<ErrorCode> {
        Json::<Value, LIMIT>::from_request(request, &()).await.err().map(|problem| problem.0.code)
    }

    #[tokio::test]
    async fn bodies_are_taken_or_answered_with_a_problem() {
        assert_eq!(code_of::<9>(request(Some("application/json"), "{\"a\":123}")).await, None);
        assert_eq!(code_of::<9>(request(Some("Application/JSON; charset=utf-8"), "[]")).await, None);
        assert_eq!(code_of::<9>(request(Some(JSON_TYPE), "{\"a\":1234}")).await, Some(ErrorCode::TooLarge));
        assert_eq!(code_of::<9>(request(Some("text/plain"), "[]")).await, Some(ErrorCode::UnsupportedMediaType));
        assert_eq!(code_of::<9>(request(None, "[]")).await, Some(ErrorCode::UnsupportedMediaType));
        assert_eq!(code_of::<9>(request(Some(JSON_TYPE), "[")).await, Some(ErrorCode::Malformed));
        assert_eq!(code_of::<9>(request(Some(JSON_TYPE), "[] x")).await, Some(ErrorCode::Malformed));
    }

    #[tokio::test]
    async fn an_announced_length_is_refused_before_reading() {
        let mut request = request(Some(JSON_TYPE), "[]");
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(10));
        assert_eq!(code_of::<9>(request).await, Some(ErrorCode::TooLarge));
    }

    #[tokio::test]
    async fn deep_json_is_refused() {
        let deep = "[".repeat(10_000);
        assert_eq!(code_of::<20_000>(request(Some(JSON_TYPE), deep)).await, Some(ErrorCode::Malformed));
    }
}
