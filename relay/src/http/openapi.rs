//! `/openapi.json`: the OpenAPI document of the API, built from its routes. This file contains the
//! parts that they share.

use super::{public::IpRateLimited, routes};
use crate::openapi::{Document, operations, problems, response_name};
use axum::response::Response;
use http::HeaderMap;
use sealpost_proto::{
    ErrorCode::{
        self, AccountSuspended, AccountUnknown, ClockSkew, Internal, Malformed, NonceUsed,
        Overloaded, RateLimited, SessionInvalid, SignatureInvalid, SignatureMissing, StorageFull,
        TooLarge, Unavailable, UnsupportedMediaType,
    },
    limits,
    time::millis,
    wire::{ChallengeResponse, DeliveryResults, WebhookCall},
};
use sealpost_relay_core::{Quotas, rates::Rates};
use std::sync::LazyLock;
use utoipa::{
    ToSchema,
    openapi::{
        Content, HeaderBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OneOfBuilder, OpenApi,
        OpenApiBuilder, PathsBuilder, Ref, RefOr, ResponseBuilder, Schema, ServerBuilder,
        path::{HttpMethod, Operation, OperationBuilder, PathItem},
        request_body::RequestBodyBuilder,
        schema::Type,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
        tag::TagBuilder,
    },
};

/// Errors of every request that is signed with a session key.
pub(super) const SESSION: &[ErrorCode] = &[
    Malformed,
    SignatureMissing,
    SignatureInvalid,
    ClockSkew,
    SessionInvalid,
    AccountSuspended,
    TooLarge,
    RateLimited,
    Internal,
    Overloaded,
    Unavailable,
];
/// Errors of every request that is signed with an account key, registered or not.
pub(super) const ANY_KEY: &[ErrorCode] = &[
    Malformed,
    SignatureMissing,
    SignatureInvalid,
    ClockSkew,
    NonceUsed,
    TooLarge,
    RateLimited,
    Internal,
    Overloaded,
    Unavailable,
    StorageFull,
];
/// Additional errors of requests that need a registered account key.
pub(super) const KNOWN: &[ErrorCode] = &[AccountUnknown, AccountSuspended];
/// Errors of requests without a signature.
pub(super) const PUBLIC: &[ErrorCode] = &[Malformed, RateLimited];
/// Errors of requests with a JSON body.
pub(super) const JSON: &[ErrorCode] = &[UnsupportedMediaType];
/// Errors of requests that need disk space.
pub(super) const WRITES: &[ErrorCode] = &[StorageFull];

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document::new(routes().into_openapi(), add_rate_limit_headers));

problems!(DescribeProblems: PUBLIC);

/// Get this document
///
/// The OpenAPI document, which is built from the routes of the relay.
#[utoipa::path(get, path = "/openapi.json", operation_id = "describe", tag = "relay", responses(
    (status = 200, description = "The document", content_type = "application/json", body = Object,
        headers(("ETag" = String, description = "Changes with the document"))),
    (status = 304, description = "`If-None-Match` contains the current `ETag`"),
    DescribeProblems,
))]
pub(super) async fn describe(_: IpRateLimited, headers: HeaderMap) -> Response {
    DOCUMENT.to_response(&headers)
}

/// Returns the document without routes.
pub(super) fn empty() -> OpenApi {
    let tags = [
        (
            "accounts",
            "Register, sign in, change and delete the account.",
        ),
        (
            "mailboxes",
            "Create and delete mailboxes, publish and read prekeys.",
        ),
        (
            "envelopes",
            "Submit envelopes, query their status, recall them.",
        ),
        (
            "deliveries",
            "Pull envelopes and events and acknowledge them.",
        ),
        ("blobs", "Upload and download sealed files in parts."),
        (
            "relay",
            "Read public information about the relay; needs no signature.",
        ),
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
                .title("Sealpost relay")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(format!("{DESCRIPTION}{}", limits_table())))
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
        .webhooks(Some(
            PathsBuilder::new()
                .path(
                    "account",
                    PathItem::new(HttpMethod::Post, webhook_operation()),
                )
                .build(),
        ))
        .build();
    let components = openapi.components.get_or_insert_default();
    for (name, description) in [
        ("session", SESSION_DESCRIPTION),
        ("account_key", ACCOUNT_KEY_DESCRIPTION),
    ] {
        let key = ApiKeyValue::with_description("Signature", description);
        components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
    components.schemas.extend(
        collect_schemas::<WebhookCall>()
            .chain(collect_schemas::<DeliveryResults>())
            .chain(collect_schemas::<ChallengeResponse>()),
    );
    openapi
}

/// Rate limit headers: name, description and example.
const RATE_LIMIT_HEADERS: [(&str, &str, &str); 2] = [
    (
        "RateLimit",
        "Remaining units of each applied rate limit, and the seconds until all units are available \
         again",
        "\"requests\";r=999;t=1",
    ),
    (
        "RateLimit-Policy",
        "Units and window (in seconds) of each applied rate limit",
        "\"requests\";q=1000;w=5",
    ),
];

/// Adds the rate limit headers to all responses of operations that can return 429. They are absent
/// if the operator has disabled the rate limits.
fn add_rate_limit_headers(openapi: &mut OpenApi) {
    let components = openapi.components.get_or_insert_default();
    let refer = |(name, ..): (&str, _, _)| {
        (
            name.to_owned(),
            RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))),
        )
    };
    let operations = openapi.paths.paths.values_mut().flat_map(operations);
    let limited = operations.filter(|operation| operation.responses.responses.contains_key("429"));
    for response in limited.flat_map(|operation| operation.responses.responses.values_mut()) {
        let shared = response_name(response).and_then(|name| components.responses.get_mut(name));
        if let RefOr::T(response) = shared.unwrap_or(response) {
            response.headers.extend(RATE_LIMIT_HEADERS.map(refer));
        }
    }
    let header = |(name, description, example): (&str, &str, &str)| {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let header = HeaderBuilder::new()
            .schema(Some(text))
            .description(Some(description))
            .example(Some(example.into()));
        (name.to_owned(), header.build().into())
    };
    components.headers.extend(RATE_LIMIT_HEADERS.map(header));
}

/// Returns the operation that the relay calls on an account's webhook.
fn webhook_operation() -> Operation {
    let refer = |name| RefOr::from(Ref::from_schema_name(name));
    let responses = OneOfBuilder::new()
        .item(refer(DeliveryResults::name()))
        .item(refer(ChallengeResponse::name()))
        .build();
    let json = |schema: RefOr<Schema>| Content::new(Some(schema));
    OperationBuilder::new()
        .operation_id(Some("call_webhook"))
        .tag("deliveries")
        .summary(Some(
            "Receive deliveries or a challenge at the account's webhook",
        ))
        .description(Some(WEBHOOK_DESCRIPTION))
        .request_body(Some(
            RequestBodyBuilder::new()
                .content("application/json", json(refer(WebhookCall::name())))
                .build(),
        ))
        .response(
            "200",
            ResponseBuilder::new()
                .description("Outcome of each item, or the response to the challenge")
                .content("application/json", json(Schema::OneOf(responses).into()))
                .build(),
        )
        .build()
}

/// Returns the schema of a type and of all types that it contains.
fn collect_schemas<T: ToSchema>() -> impl Iterator<Item = (String, RefOr<Schema>)> {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    schemas.into_iter()
}

const WEBHOOK_DESCRIPTION: &str = "\
    Signed with the account's webhook secret as defined by Standard Webhooks (`webhook-id`, \
    `webhook-timestamp`, `webhook-signature: v1,…`). Any response other than 200 is a failed \
    attempt. 410 turns the webhook off.";

const DESCRIPTION: &str = "\
    Accepts sealed envelopes and files from the nodes of businesses, stores them on disk and \
    delivers them to their recipients' nodes. The relay cannot read them. docs/protocol.md \
    describes the protocol with every proof and digest.\n\n\
    Bytes and ids are base64url without padding; times are Unix milliseconds. Clients ignore \
    unknown fields. Every error is a problem document (RFC 9457) with a stable `code`. \
    Undocumented paths return `not_found`, and undocumented methods of a documented path return \
    `method_not_allowed`. Paths under `/v1/at/{host}/` return `foreign_relay_unsupported`, \
    because relays cannot reach each other yet.\n\n";

const SESSION_DESCRIPTION: &str = "\
    HTTP Message Signatures (RFC 9421) with the key of a session (`POST /v1/session`): \
    `Signature-Input: sig=(\"@method\" \"@authority\" \"@path\" \"@query\" \
    \"content-digest\");created=…;expires=…;keyid=\"<session \
    id>\";alg=\"hmac-sha256\";tag=\"sealpost\"`, with `Content-Digest` (RFC 9530, `sha-256`) even \
    for an empty body. `@authority` is the authority of the relay's public origin \
    (`/.well-known/sealpost`).";

const ACCOUNT_KEY_DESCRIPTION: &str = "\
    The same, but signed with the account key: `keyid` is its public key as base64url, \
    `alg=\"ed25519\"`, and `nonce` is required and can be used only once.";

/// Returns a table of all limits that apply to clients: the defaults of the configurable limits and
/// the fixed ones.
fn limits_table() -> String {
    let fixed = [
        (
            "body of any other JSON request, bytes",
            limits::JSON_REQUEST_BYTES_MAX as u64,
        ),
        (
            "headers of a request, bytes",
            u64::from(limits::HEADER_BYTES_MAX),
        ),
        (
            "smallest envelope, bytes",
            limits::ENVELOPE_BYTES_MIN as u64,
        ),
        ("send keys of a mailbox", limits::SEND_KEYS_MAX as u64),
        (
            "sealed prekeys, exact size, bytes",
            limits::SEALED_PREKEYS_BYTES as u64,
        ),
        (
            "sealed checkpoint, bytes",
            limits::CHECKPOINT_BYTES_MAX as u64,
        ),
        ("webhook URL, bytes", limits::WEBHOOK_URL_BYTES_MAX as u64),
        ("part 0 of a blob, bytes", limits::PART_BYTES_MAX as u64),
        ("parts of a blob", u64::from(limits::BLOB_PARTS_MAX)),
        ("lifetime of a blob, ms", millis(limits::BLOB_LIFETIME_MAX)),
        (
            "envelopes of a delivery batch, bytes",
            limits::DELIVERY_BATCH_BYTES_MAX as u64,
        ),
        (
            "items of a delivery batch",
            limits::DELIVERY_BATCH_ITEMS_MAX as u64,
        ),
        (
            "lease of a delivery batch, ms",
            millis(limits::LEASE_DURATION),
        ),
        ("long poll, ms", millis(limits::PULL_WAIT_MAX)),
        (
            "lifetime of a session, ms",
            millis(limits::SESSION_LIFETIME),
        ),
        (
            "lifetime of a signature, and allowed clock skew, ms",
            millis(limits::SIGNATURE_LIFETIME_MAX),
        ),
        (
            "nonce of a signature, characters",
            limits::NONCE_CHARS_MAX as u64,
        ),
        (
            "timeout for the headers of a request, ms",
            millis(limits::HEADER_READ_TIMEOUT),
        ),
        (
            "time before the minimum rate of a body applies, ms",
            millis(limits::BODY_GRACE),
        ),
        (
            "minimum average rate of a body, bytes per second",
            u64::from(limits::BODY_BYTES_PER_SECOND_MIN),
        ),
    ];
    let named = [
        serde_json::to_value(Quotas::default().announced()).unwrap_or_default(),
        serde_json::to_value(Rates::default().announced()).unwrap_or_default(),
    ];
    let announced = named.iter().filter_map(|named| named.as_object()).flatten();
    let announced = announced.map(|(name, value)| format!("| `{name}` | {value} |\n"));
    let fixed = fixed.map(|(limit, value)| format!("| {limit} | {value} |\n"));
    let rows: String = announced.chain(fixed).collect();
    format!(
        "| limit | value |\n|---|---|\n{rows}\n\
         Limits in code font are settings of the operator. The table shows their defaults; \
         `/.well-known/sealpost` returns the values of this relay."
    )
}
