use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Uri, header};
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

/// Makes the router respond with problems to unknown paths and methods, and to invalid
/// percent-encoding.
pub fn with_problems<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(|| async { ProblemResponse::from(ErrorCode::NotFound) })
        .method_not_allowed_fallback(|| async {
            ProblemResponse::from(ErrorCode::MethodNotAllowed)
        })
        .layer(from_fn(refuse_invalid_encoding))
}

async fn refuse_invalid_encoding(request: Request, next: Next) -> Response {
    if has_valid_encoding(request.uri()) {
        return next.run(request).await;
    }
    let detail = "the path or the query is not valid percent-encoding of UTF-8";
    ProblemResponse(Problem::new(ErrorCode::Malformed, detail)).into_response()
}

/// Returns whether the path and the query are valid percent-encoding of UTF-8. Otherwise axum would
/// decode them to other text than the client meant, or respond without a problem document.
#[must_use]
pub fn has_valid_encoding(uri: &Uri) -> bool {
    let mut pieces = uri
        .path_and_query()
        .map_or("", |target| target.as_str())
        .split('%');
    let mut decoded = Vec::from(pieces.next().unwrap_or_default());
    for piece in pieces {
        let Some((escape, rest)) = piece.split_at_checked(2) else {
            return false;
        };
        match u8::from_str_radix(escape, 16) {
            Ok(byte) if !escape.starts_with('+') => decoded.push(byte),
            _ => return false,
        }
        decoded.extend_from_slice(rest.as_bytes());
    }
    std::str::from_utf8(&decoded).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn every_refusal_of_the_router_is_a_problem() {
        let router = with_problems(Router::<()>::new().route("/a/{id}", get(|| async { "found" })));
        let call = async |method: &str, target: &str| {
            let request = Request::builder().method(method).uri(target);
            let request = request.body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap()
        };
        for (method, target, status) in [
            ("GET", "/b", 404),
            ("GET", "/a/b/c", 404),
            ("POST", "/a/b", 405),
            ("UNKNOWN", "/a/b", 405),
            ("GET", "/a/%zz", 400),
            ("GET", "/a/%", 400),
            ("GET", "/a/%+f", 400),
            ("GET", "/a/%ff", 400),
            ("GET", "/a/b?c=%e4", 400),
            ("GET", "/b?c=%2", 400),
        ] {
            let response = call(method, target).await;
            assert_eq!(response.status(), status, "{method} {target}");
            let headers = response.headers();
            assert_eq!(headers[header::CONTENT_TYPE], PROBLEM_TYPE, "{target}");
            let allow = headers.get(header::ALLOW).map(HeaderValue::as_bytes);
            assert_eq!(allow, (status == 405).then_some(b"GET,HEAD".as_slice()));
        }
        for target in ["/a/b", "/a/%C3%A4?c=%25d", "/a/%2F"] {
            assert_eq!(call("GET", target).await.status(), 200, "{target}");
        }
    }

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
