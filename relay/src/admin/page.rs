//! The status page: static files in the binary, with a policy that lets nothing else in. They hold no secret; the page asks
//! for the token and then asks the API.

use crate::relay::Relay;
use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, header};
use std::sync::Arc;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

pub(super) fn routes() -> Router<Arc<Relay>> {
    Router::new()
        .route(
            "/",
            get(|| async { file("text/html; charset=utf-8", include_str!("page/index.html")) }),
        )
        .route(
            "/page.css",
            get(|| async { file("text/css; charset=utf-8", include_str!("page/page.css")) }),
        )
        .route(
            "/page.js",
            get(|| async {
                file(
                    "text/javascript; charset=utf-8",
                    include_str!("page/page.js"),
                )
            }),
        )
        .route(
            "/chart.js",
            get(|| async {
                file(
                    "text/javascript; charset=utf-8",
                    include_str!("page/chart.js"),
                )
            }),
        )
        .route(
            "/icon.svg",
            get(|| async { file("image/svg+xml", include_str!("page/icon.svg")) }),
        )
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
