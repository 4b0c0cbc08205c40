use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use sealpost_proto::{ErrorCode, Problem};

/// Content type of a problem document (RFC 9457).
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Response with a problem document (RFC 9457), its status and, if the problem has a retry time,
/// `Retry-After` in whole seconds, rounded up. Handlers return it as their error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemResponse(pub Problem);

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<ErrorCode> for ProblemResponse {
    fn from(code: ErrorCode) -> Self {
        Self(code.into())
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(problem.code.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if let Some(millis) = problem.retry_after_ms {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(millis.div_ceil(1000)),
            );
        }
        response
    }
}

/// Makes the router respond with problems to unknown paths and methods.
pub fn with_problems<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(|| async { ProblemResponse::from(ErrorCode::NotFound) })
        .method_not_allowed_fallback(|| async {
            ProblemResponse::from(ErrorCode::MethodNotAllowed)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn problems_become_documents_with_status() {
        let problem = Problem::new(ErrorCode::RateLimited, "too many").retry_after_ms(1_001);
        let response = ProblemResponse::from(problem.clone()).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_TYPE);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap(), problem);
    }
}
