//! `/admin/openapi.json`: the operator's API described from its routes. It needs no token and holds no secret.

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

/// What every request may be answered.
pub(super) const COMMON: &[ErrorCode] = &[
    Malformed,
    AdminTokenInvalid,
    HostForbidden,
    Internal,
    Overloaded,
    Unavailable,
];
/// What a request that writes may be answered besides.
pub(super) const WRITES: &[ErrorCode] = &[StorageFull];

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document::of(routes().into_openapi(), |_| ()));

/// This document.
pub(super) async fn describe(headers: HeaderMap) -> Response {
    DOCUMENT.answer(&headers)
}

/// The document before there are routes in it.
pub(super) fn empty() -> OpenApi {
    let tags = [
        ("accounts", "Accounts, suspended, resumed, deleted."),
        ("tokens", "Tokens that let nodes register."),
        ("queues", "What waits, tried again, dropped."),
        ("relay", "The relay as a whole."),
    ];
    let tag = |(name, words)| {
        TagBuilder::new()
            .name(name)
            .description(Some(words))
            .build()
    };
    let mut openapi = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Sealpost relay, for its operator")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(WORDS))
                .license(Some(
                    LicenseBuilder::new()
                        .name("Apache-2.0")
                        .identifier(Some("Apache-2.0"))
                        .build(),
                )),
        )
        .servers(Some([ServerBuilder::new()
            .url("/")
            .description(Some("The relay that was asked"))
            .build()]))
        .tags(Some(tags.map(tag)))
        .build();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(TOKEN_WORDS))
        .build();
    openapi
        .components
        .get_or_insert_default()
        .add_security_scheme("token", SecurityScheme::Http(token));
    openapi
}

const WORDS: &str = "On a listener of its own, for this machine alone: `Host` must be a loopback name with the port, and \
                     `Origin`, where there is one, the same. Ids are base64url without padding, times are Unix \
                     milliseconds. Any error is a problem document (RFC 9457) with a stable `code`; a path that is not \
                     described here is answered `not_found`, another method of one that is `method_not_allowed`. Nobody can \
                     ask for what is inside an envelope.";

const TOKEN_WORDS: &str = "The content of the file `admin-token` in the relay's data folder.";
