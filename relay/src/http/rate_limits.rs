//! Rate limits on the wire: a refusal is a 429 `rate_limited` with `Retry-After`, and each response
//! reports the status of the limits that were applied in the headers `RateLimit` and
//! `RateLimit-Policy`.

use super::{client_address::client_address, retryable_problem, state::ApiState};
use crate::{
    rates::{RateLimited, collect_charges, is_charged},
    settings::Settings,
};
use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{Extensions, HeaderMap};
use sealpost_proto::{ErrorCode, Problem, time::millis};
use sealpost_service::http::ProblemResponse;
use std::fmt::{Display, Write as _};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Health checks, which are not limited.
const FREE_PATHS: [&str; 2] = ["/healthz", "/readyz"];

impl From<RateLimited> for ProblemResponse {
    fn from(RateLimited { retry_after }: RateLimited) -> Self {
        Problem::from(ErrorCode::RateLimited)
            .retry_after_ms(millis(retry_after).max(1))
            .into()
    }
}

/// Counts a request without a session against the rate limit of its client's address.
pub(super) fn check_ip_rate_limit(
    settings: &Settings,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<(), ProblemResponse> {
    let address = client_address(extensions, headers, &settings.proxies);
    Ok(settings.rate_limiters.check_ip_rate_limit(address)?)
}

/// Charges the client's address for each request that no handler has charged, for example one with
/// a forged signature. Holds memory for the responses to accounts, and adds the rate limit headers.
pub(super) async fn apply_limits(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let is_free = FREE_PATHS.contains(&request.uri().path());
    let proxies = &state.settings.load().proxies;
    let address = client_address(request.extensions(), request.headers(), proxies);
    let responding = async {
        let response = next.run(request).await;
        if is_free || is_charged() {
            return response;
        }
        match state
            .settings
            .load()
            .rate_limiters
            .check_ip_rate_limit(address)
        {
            Ok(()) => response,
            Err(limited) => ProblemResponse::from(limited).into_response(),
        }
    };
    let (mut response, charges) = collect_charges(responding).await;
    if let Some(account) = charges.account {
        let held = state.response_memory.hold(account, response).await;
        response = held.unwrap_or_else(|| retryable_problem(ErrorCode::Overloaded).into_response());
    }
    let headers = response.headers_mut();
    if let Some(limits) = format_list(charges.statuses.iter()) {
        headers.insert(RATE_LIMIT, limits);
    }
    if let Some(policies) = format_list(charges.statuses.iter().map(|status| status.rate)) {
        headers.insert(RATE_LIMIT_POLICY, policies);
    }
    response
}

/// Formats a list of structured fields (RFC 9651, section 3.1), or nothing if it is empty.
fn format_list(items: impl Iterator<Item = impl Display>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(64);
    for item in items {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{item}").ok()?;
    }
    HeaderValue::try_from(text)
        .ok()
        .filter(|value| !value.is_empty())
}
