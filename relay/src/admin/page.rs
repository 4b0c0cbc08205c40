//! Status page: static files in the binary, with a content security policy that allows nothing from
//! other origins. The files contain no secrets; the page asks the user for the token and then calls
//! the API.

use super::state::AdminState;
use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, header};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors \
                      'none'; require-trusted-types-for 'script'";

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route(
            "/",
            get(|| async {
                respond_with_file("text/html; charset=utf-8", include_str!("page/index.html"))
            }),
        )
        .route(
            "/page.css",
            get(|| async {
                respond_with_file("text/css; charset=utf-8", include_str!("page/page.css"))
            }),
        )
        .route(
            "/page.js",
            get(|| async {
                respond_with_file(
                    "text/javascript; charset=utf-8",
                    include_str!("page/page.js"),
                )
            }),
        )
        .route(
            "/chart.js",
            get(|| async {
                respond_with_file(
                    "text/javascript; charset=utf-8",
                    include_str!("page/chart.js"),
                )
            }),
        )
        .route(
            "/icon.svg",
            get(|| async { respond_with_file("image/svg+xml", include_str!("page/icon.svg")) }),
        )
}

fn respond_with_file(content_type: &'static str, text: &'static str) -> Response {
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
