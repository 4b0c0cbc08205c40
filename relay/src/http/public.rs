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
use url::Url;

const SOFTWARE: &str = concat!("sealpost-relay ", env!("CARGO_PKG_VERSION"));
const INVITE_PAGE: &str = include_str!("invite.html");
/// Text of the invite page that is replaced by where to get Sealpost.
const DOWNLOAD: &str = "DOWNLOAD";
/// Where to get Sealpost if the operator has set no page.
const ASK_FOR_PACKAGE: &str = "Ask the sender of the invite, or the operator of this server, for the \
                               Debian package <strong>sealpost-node</strong> or the container image.";
/// Content security policy of the invite page. It allows the inline style by its SHA-256 and
/// nothing else.
const INVITE_POLICY: &str = "\
    default-src 'none'; style-src 'sha256-cKQdZduVv8N+0w9DHW6inz0LPuaWdPcus0pgow6o88c='; base-uri \
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
/// A page without scripts that explains how to use an invite and where to get Sealpost. The invite is in the fragment
/// of the URL, which browsers do not send.
#[utoipa::path(
    get, path = "/i", operation_id = "show_invite_page", tag = "relay",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        PublicProblems
    )
)]
pub(super) async fn invite_page(
    State(settings): State<LiveSettings>,
    _: IpRateLimited,
) -> Response {
    let mut response = render_invite_page(settings.load().download_url.as_ref()).into_response();
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

fn render_invite_page(download_url: Option<&Url>) -> String {
    let download = match download_url {
        None => ASK_FOR_PACKAGE.to_owned(),
        Some(url) => {
            let url = escape_html(url.as_str());
            format!("Get it from <a href=\"{url}\" rel=\"noreferrer\">{url}</a>.")
        }
    };
    INVITE_PAGE.replace(DOWNLOAD, &download)
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
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
    }

    #[test]
    fn invite_page_says_where_to_get_sealpost() {
        let default = render_invite_page(None);
        assert!(default.contains(ASK_FOR_PACKAGE) && !default.contains(DOWNLOAD));
        let url = Url::parse("https://a.example/get?b=\"<i>&c='d").unwrap();
        let page = render_invite_page(Some(&url));
        let expected = "<a href=\"https://a.example/get?b=%22%3Ci%3E&amp;c=%27d\"";
        assert!(
            page.contains(expected) && !page.contains(ASK_FOR_PACKAGE),
            "{page}"
        );
    }

    #[test]
    fn invite_page_loads_and_sends_nothing() {
        let style = INVITE_PAGE.split_once("</style>").unwrap().0;
        assert!(!style.contains("url(") && !style.contains("@import"));
        let elements = INVITE_PAGE
            .split('<')
            .filter_map(|rest| rest.split_once('>'));
        for (element, _) in elements {
            let name = element.split_whitespace().next().unwrap_or_default();
            assert!(
                !["script", "form", "link", "img", "iframe", "object", "base"].contains(&name),
                "{element}"
            );
            for attribute in [" src=", " href=", " action=", " style=", " on"] {
                assert!(!element.contains(attribute), "{element}");
            }
        }
    }
}
