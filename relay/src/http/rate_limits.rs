//! Rate limits on the wire: a refusal is a 429 `rate_limited` with `Retry-After`, and each response
//! reports the status of the counted limits in the headers `RateLimit` and `RateLimit-Policy`.

use super::client_address::client_address;
use crate::{
    rates::{RateLimited, collect_statuses},
    settings::Settings,
};
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use http::{Extensions, HeaderMap};
use sealpost_proto::{ErrorCode, Problem, time::millis};
use sealpost_service::http::ProblemResponse;
use std::fmt::{Display, Write as _};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl From<RateLimited> for ProblemResponse {
    fn from(RateLimited { retry_after }: RateLimited) -> Self {
        Problem::from(ErrorCode::RateLimited)
            .retry_after_ms(millis(retry_after).max(1))
            .into()
    }
}

/// Counts a request without a session for the address of its client.
pub(super) fn check_ip_rate_limit(
    settings: &Settings,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<(), ProblemResponse> {
    let address = client_address(extensions, headers, &settings.proxies);
    Ok(settings.rate_limiters.check_ip_rate_limit(address)?)
}

/// Adds the rate limit headers to each response.
pub(super) async fn add_headers(request: Request, next: Next) -> Response {
    let (mut response, statuses) = collect_statuses(next.run(request)).await;
    let headers = response.headers_mut();
    if let Some(limits) = list(statuses.iter()) {
        headers.insert(RATE_LIMIT, limits);
    }
    if let Some(policies) = list(statuses.iter().map(|status| status.rate)) {
        headers.insert(RATE_LIMIT_POLICY, policies);
    }
    response
}

/// Formats a list of structured fields (RFC 9651, section 3.1), or nothing if it is empty.
fn list(items: impl Iterator<Item = impl Display>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(64);
    for item in items {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{item}").ok()?;
    }
    HeaderValue::try_from(text)
        .ok()
        .filter(|value| !value.is_empty())
}
