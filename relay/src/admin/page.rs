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

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, content type and text of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/account.js", SCRIPT, include_str!("page/account.js")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/chart.js", SCRIPT, include_str!("page/chart.js")),
    ("/elements.js", SCRIPT, include_str!("page/elements.js")),
    ("/format.js", SCRIPT, include_str!("page/format.js")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
];

pub(super) fn routes() -> Router<AdminState> {
    let add = |router: Router<AdminState>, &(path, content_type, text): &_| {
        router.route(
            path,
            get(move || async move { respond_with_file(content_type, text) }),
        )
    };
    FILES.iter().fold(Router::new(), add)
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
