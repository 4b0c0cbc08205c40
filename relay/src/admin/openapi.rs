//! `/admin/openapi.json`: the OpenAPI document of the admin API, built from its routes. It needs no
//! token, because it contains no secrets.

use super::routes;
use crate::openapi::Document;
use axum::response::Response;
use http::HeaderMap;
use sealpost_proto::ErrorCode::{
    self, AdminTokenInvalid, HostForbidden, Internal, Malformed, Overloaded, StorageFull,
    Unavailable,
};
use std::sync::LazyLock;
use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, ServerBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

/// Errors of every request.
pub(super) const COMMON: &[ErrorCode] = &[
    Malformed,
    AdminTokenInvalid,
    HostForbidden,
    Internal,
    Overloaded,
    Unavailable,
];
/// Additional errors of requests that write.
pub(super) const WRITES: &[ErrorCode] = &[StorageFull];

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document::new(routes().into_openapi(), |_| ()));

pub(super) async fn describe(headers: HeaderMap) -> Response {
    DOCUMENT.to_response(&headers)
}

/// Returns the document without routes.
pub(super) fn empty() -> OpenApi {
    let tags = [
        (
            "accounts",
            "List, label, suspend, resume and delete accounts, and set their quotas.",
        ),
        ("tokens", "Create, list and revoke registration tokens."),
        ("queues", "List queues, retry them, drop envelopes."),
        ("relay", "Summary of the relay."),
    ];
    let tag = |(name, description)| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    };
    let mut openapi = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Sealpost relay admin API")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(
                    LicenseBuilder::new()
                        .name("Apache-2.0")
                        .identifier(Some("Apache-2.0"))
                        .build(),
                )),
        )
        .servers(Some([ServerBuilder::new()
            .url("/")
            .description(Some("This relay"))
            .build()]))
        .tags(Some(tags.map(tag)))
        .build();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(TOKEN_DESCRIPTION))
        .build();
    openapi
        .components
        .get_or_insert_default()
        .add_security_scheme("token", SecurityScheme::Http(token));
    openapi
}

const DESCRIPTION: &str = "\
    API for the operator of the relay, on a separate listener that only this machine can reach. \
    `Host` must be a loopback host with the port of the listener, and `Origin`, if present, must \
    match it. Ids are base64url without padding; times are Unix milliseconds. Every error is a \
    problem document (RFC 9457) with a stable `code`. Undocumented paths return `not_found`, and \
    undocumented methods of a documented path return `method_not_allowed`. No route returns the \
    content of an envelope.";

const TOKEN_DESCRIPTION: &str = "Content of the file `admin-token` in the relay's data directory.";
