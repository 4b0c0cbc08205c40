//! Routes without a signature: `/.well-known/sealpost`, `/i`, `/healthz`, `/readyz`.

use super::{ApiResult, openapi::PUBLIC, rate_limits::check_ip_rate_limit, state::ApiState};
use crate::{health::Health, health::Readiness, openapi::problems, settings::LiveSettings};
use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use sealpost_proto::{
    Origin,
    wire::{PROTOCOL_VERSION, WellKnown},
};
use sealpost_service::{
    Clock as _, SharedClock,
    http::{ProblemResponse, json_body},
};
use std::sync::Arc;

const SOFTWARE: &str = concat!("sealpost-relay ", env!("CARGO_PKG_VERSION"));
const INVITE_PAGE: &str = include_str!("invite.html");
/// Content security policy of the invite page. It allows the inline style by its SHA-256 and
/// nothing else.
const INVITE_POLICY: &str = "\
    default-src 'none'; style-src 'sha256-179CirN0gO+X95rtJsZchi5sKQxNhSqKhtiov8NfYyY='; base-uri \
    'none'; form-action 'none'; frame-ancestors 'none'";

/// Extractor that applies the rate limit of the client's IP address.
pub(super) struct IpRateLimited;

impl FromRequestParts<ApiState> for IpRateLimited {
    type Rejection = ProblemResponse;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &ApiState,
    ) -> Result<Self, ProblemResponse> {
        check_ip_rate_limit(&state.settings.load(), &parts.extensions, &parts.headers)?;
        Ok(Self)
    }
}

problems!(PublicProblems: PUBLIC);

/// Show the relay's origin, policy and limits
#[utoipa::path(
    get, path = "/.well-known/sealpost", operation_id = "show_relay", tag = "relay",
    responses(
        (
            status = 200,
            description = "Origin, registration policy, limits and current time",
            body = WellKnown
        ),
        PublicProblems
    )
)]
pub(super) async fn well_known(
    State(settings): State<LiveSettings>,
    State(origin): State<Origin>,
    State(clock): State<SharedClock>,
    _: IpRateLimited,
) -> Response {
    let settings = settings.load();
    let document = WellKnown {
        origin: origin.clone(),
        protocol_version: PROTOCOL_VERSION,
        software: SOFTWARE.to_owned(),
        registration: settings.registration.policy,
        limits: settings.quotas.announced(),
        rates: settings.rate_limiters.rates().announced(),
        relay_time: clock.now(),
    };
    json_body(StatusCode::OK, &document)
}

/// Show the invite page
///
/// A static page without scripts that explains how to use an invite. The invite is in the fragment
/// of the URL, which browsers do not send.
#[utoipa::path(
    get, path = "/i", operation_id = "show_invite_page", tag = "relay",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        PublicProblems
    )
)]
pub(super) async fn invite_page(_: IpRateLimited) -> Response {
    let mut response = INVITE_PAGE.into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, INVITE_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Check whether the process is running
#[utoipa::path(
    get, path = "/healthz", operation_id = "show_health", tag = "relay",
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// Check whether the relay can handle requests
#[utoipa::path(
    get, path = "/readyz", operation_id = "show_readiness", tag = "relay",
    responses(
        (status = 200, description = "`ready`", body = String, content_type = "text/plain"),
        (
            status = 503,
            description = "Reason why the relay is not ready",
            body = String,
            content_type = "text/plain"
        ),
    )
)]
pub(super) async fn readyz(State(health): State<Arc<Health>>) -> ApiResult {
    let readiness = health.readiness();
    let status = if readiness == Readiness::Ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((status, readiness.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use sha2::{Digest as _, Sha256};

    #[test]
    fn policy_contains_the_style_hash() {
        let style = INVITE_PAGE
            .split_once("<style>")
            .unwrap()
            .1
            .split_once("</style>")
            .unwrap()
            .0;
        let digest = STANDARD.encode(Sha256::digest(style));
        assert!(
            INVITE_POLICY.contains(&format!("'sha256-{digest}'")),
            "sha256-{digest}"
        );
        assert!(!INVITE_PAGE.contains("<script") && !INVITE_PAGE.contains("http"));
    }
}
