//! What needs no signature: `/.well-known/sealpost`, `/i`, `/healthz`, `/readyz`.

use super::{Answer, openapi::PUBLIC};
use crate::{health::Readiness, openapi::problems, relay::Relay};
use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use sealpost_proto::wire::{PROTOCOL_VERSION, WellKnown};
use sealpost_service::http::{ProblemResponse, json_body};
use std::sync::Arc;

const SOFTWARE: &str = concat!("sealpost-relay ", env!("CARGO_PKG_VERSION"));
const INVITE_PAGE: &str = include_str!("invite.html");
/// The page carries its own style, named by its SHA-256, and nothing else; it is shown nowhere but on its own.
const INVITE_POLICY: &str = "default-src 'none'; style-src 'sha256-179CirN0gO+X95rtJsZchi5sKQxNhSqKhtiov8NfYyY='; \
                             base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A request from an address that does not ask too often.
pub(super) struct Met;

impl FromRequestParts<Arc<Relay>> for Met {
    type Rejection = ProblemResponse;

    async fn from_request_parts(
        parts: &mut Parts,
        relay: &Arc<Relay>,
    ) -> Result<Self, ProblemResponse> {
        relay.meet(&parts.extensions, &parts.headers)?;
        Ok(Self)
    }
}

problems!(PublicProblems: PUBLIC);

/// See what the relay is, and its limits
#[utoipa::path(
    get, path = "/.well-known/sealpost", operation_id = "show_relay", tag = "relay",
    responses((status = 200, description = "Its origin, policy, limits and clock", body = WellKnown), PublicProblems)
)]
pub(super) async fn well_known(State(relay): State<Arc<Relay>>, _: Met) -> Response {
    let rules = relay.rules();
    let known = WellKnown {
        origin: relay.origin.clone(),
        protocol_version: PROTOCOL_VERSION,
        software: SOFTWARE.to_owned(),
        registration: rules.registration.policy,
        limits: rules.quotas.announced(),
        rates: rules.meters.rates().announced(),
        relay_time: relay.now(),
    };
    json_body(StatusCode::OK, &known)
}

/// Say what to do with an invite
///
/// A static page without script; the invite itself stands behind the `#` and is not sent.
#[utoipa::path(
    get, path = "/i", operation_id = "show_invite_page", tag = "relay",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"), PublicProblems)
)]
pub(super) async fn invite_page(_: Met) -> Response {
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

/// Ask whether the process runs
#[utoipa::path(
    get, path = "/healthz", operation_id = "show_health", tag = "relay",
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// Ask whether the relay can work
#[utoipa::path(
    get, path = "/readyz", operation_id = "show_readiness", tag = "relay",
    responses(
        (status = 200, description = "`ready`", body = String, content_type = "text/plain"),
        (status = 503, description = "Why not", body = String, content_type = "text/plain"),
    )
)]
pub(super) async fn readyz(State(relay): State<Arc<Relay>>) -> Answer {
    let readiness = relay.health.readiness();
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
    fn the_policy_names_the_style_of_the_page() {
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
