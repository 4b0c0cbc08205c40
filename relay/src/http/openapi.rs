//! `/openapi.json`: the API described from its routes; what they share stands here. No errors.

use super::routes;
use crate::openapi::{Document, name_of, operations};
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
    wire::{ChallengeAnswer, DeliveryResults, WebhookCall},
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

/// What every request that is signed with the key of a session may be answered.
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
/// What every request that is signed with an account key, known or not, may be answered.
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
/// What the account of the key may add to [`ANY_KEY`].
pub(super) const KNOWN: &[ErrorCode] = &[AccountUnknown, AccountSuspended];
/// What a request that is not signed may be answered.
pub(super) const PUBLIC: &[ErrorCode] = &[RateLimited];
/// What a body of JSON may be answered.
pub(super) const JSON: &[ErrorCode] = &[UnsupportedMediaType];
/// What a request that needs room on the disk may be answered.
pub(super) const WRITES: &[ErrorCode] = &[StorageFull];

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document::of(routes().into_openapi(), add_standings));

/// Describe this API
///
/// This document. It is made from the routes that are served.
#[utoipa::path(get, path = "/openapi.json", operation_id = "describe", tag = "relay", responses(
    (status = 200, description = "The document", content_type = "application/json", body = Object,
        headers(("ETag" = String, description = "Changes with the document"))),
    (status = 304, description = "Its `ETag` stood in `If-None-Match`"),
))]
pub(super) async fn describe(headers: HeaderMap) -> Response {
    DOCUMENT.answer(&headers)
}

/// The document before there are routes in it.
pub(super) fn empty() -> OpenApi {
    let tags = [
        ("accounts", "Register, sign in, change, leave."),
        (
            "mailboxes",
            "Open and close mailboxes, publish and read prekeys.",
        ),
        (
            "envelopes",
            "Submit envelopes, ask where they are, take them back.",
        ),
        ("deliveries", "Take what came, and say what became of it."),
        ("blobs", "Sealed files, in parts."),
        (
            "relay",
            "What the relay says about itself; nothing here is signed.",
        ),
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
                .title("Sealpost relay")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(format!("{WORDS}{}", limits_table())))
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
        .webhooks(Some(
            PathsBuilder::new()
                .path("account", PathItem::new(HttpMethod::Post, webhook()))
                .build(),
        ))
        .build();
    let components = openapi.components.get_or_insert_default();
    for (name, words) in [
        ("session", SESSION_WORDS),
        ("account_key", ACCOUNT_KEY_WORDS),
    ] {
        let key = ApiKeyValue::with_description("Signature", words);
        components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
    components.schemas.extend(
        referred::<WebhookCall>()
            .chain(referred::<DeliveryResults>())
            .chain(referred::<ChallengeAnswer>()),
    );
    openapi
}

/// The headers that tell where one stands, and what they say.
const STANDINGS: [(&str, &str, &str); 2] = [
    (
        "RateLimit",
        "What is left of each rate that was counted, and the seconds until it is whole again",
        "\"requests\";r=999;t=1",
    ),
    (
        "RateLimit-Policy",
        "These rates: so many in so many seconds",
        "\"requests\";q=1000;w=5",
    ),
];

/// Adds these headers to all answers of operations that are counted: those that may be answered 429. There is none where the
/// operator has set no rate.
fn add_standings(openapi: &mut OpenApi) {
    let components = openapi.components.get_or_insert_default();
    let refer = |(name, ..): (&str, _, _)| {
        (
            name.to_owned(),
            RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))),
        )
    };
    let operations = openapi.paths.paths.values_mut().flat_map(operations);
    let counted = operations.filter(|operation| operation.responses.responses.contains_key("429"));
    for described in counted.flat_map(|operation| operation.responses.responses.values_mut()) {
        let named = name_of(described).and_then(|name| components.responses.get_mut(name));
        if let RefOr::T(response) = named.unwrap_or(described) {
            response.headers.extend(STANDINGS.map(refer));
        }
    }
    let header = |(name, words, example): (&str, &str, &str)| {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let header = HeaderBuilder::new()
            .schema(Some(text))
            .description(Some(words))
            .example(Some(example.into()));
        (name.to_owned(), header.build().into())
    };
    components.headers.extend(STANDINGS.map(header));
}

/// What the relay asks of a node that has a webhook.
fn webhook() -> Operation {
    let refer = |name| RefOr::from(Ref::from_schema_name(name));
    let answers = OneOfBuilder::new()
        .item(refer(DeliveryResults::name()))
        .item(refer(ChallengeAnswer::name()))
        .build();
    let json = |schema: RefOr<Schema>| Content::new(Some(schema));
    OperationBuilder::new()
        .operation_id(Some("call_webhook"))
        .tag("deliveries")
        .summary(Some("What the relay sends to the webhook of an account"))
        .description(Some(WEBHOOK_WORDS))
        .request_body(Some(
            RequestBodyBuilder::new()
                .content("application/json", json(refer(WebhookCall::name())))
                .build(),
        ))
        .response(
            "200",
            ResponseBuilder::new()
                .description("What became of each item; or the answer to the challenge")
                .content("application/json", json(Schema::OneOf(answers).into()))
                .build(),
        )
        .build()
}

/// A schema, and those that it names.
fn referred<T: ToSchema>() -> impl Iterator<Item = (String, RefOr<Schema>)> {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    schemas.into_iter()
}

const WEBHOOK_WORDS: &str = "Signed in the way of Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature: \
                             v1,…`) under the account's webhook secret. Any other answer is a failed attempt; 410 switches \
                             the webhook off.";

const WORDS: &str = "Takes sealed envelopes and files from the nodes of businesses, keeps them on disk, hands them to their \
                     recipients' nodes, and can read none of them. The protocol behind it, with every proof and digest, \
                     is docs/protocol.md.\n\nBytes and ids are base64url without padding, times are Unix milliseconds. \
                     Readers skip fields that they do not know. Any error is a problem document (RFC 9457) with a stable \
                     `code`; a path that is not described here is answered `not_found`, another method of one that is \
                     `method_not_allowed`, and every path under `/v1/at/{host}/` `foreign_relay_unsupported` until relays \
                     reach each other.\n\n";

const SESSION_WORDS: &str = "HTTP Message Signatures (RFC 9421) with the key of a session (`POST /v1/session`): \
     `Signature-Input: sig=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\");created=…;expires=…;\
     keyid=\"<session id>\";alg=\"hmac-sha256\";tag=\"sealpost\"`, with `Content-Digest` (RFC 9530, `sha-256`) also for an \
     empty body. The authority is the one of the relay's public origin (`/.well-known/sealpost`).";

const ACCOUNT_KEY_WORDS: &str = "The same, signed with the account key: `keyid` is its public key as base64url, \
     `alg=\"ed25519\"`, and a `nonce` that is good once.";

/// Every limit that a client can meet: those that an operator sets, as they are when he does not, and the fixed ones.
fn limits_table() -> String {
    let fixed = [
        (
            "body of another JSON request, bytes",
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
            "sealed prekeys, bytes, exactly",
            limits::SEALED_PREKEYS_BYTES as u64,
        ),
        (
            "sealed checkpoint, bytes",
            limits::CHECKPOINT_BYTES_MAX as u64,
        ),
        (
            "URL of a webhook, bytes",
            limits::WEBHOOK_URL_BYTES_MAX as u64,
        ),
        ("part 0 of a blob, bytes", limits::PART_BYTES_MAX as u64),
        ("parts of a blob", u64::from(limits::BLOB_PARTS_MAX)),
        ("life of a blob, ms", millis(limits::BLOB_LIFE_MAX)),
        (
            "envelopes of a delivery batch, bytes",
            limits::DELIVERY_BATCH_BYTES_MAX as u64,
        ),
        (
            "items of a delivery batch",
            limits::DELIVERY_BATCH_ITEMS_MAX as u64,
        ),
        ("lease of a delivery batch, ms", millis(limits::LEASE_LIFE)),
        ("long poll, ms", millis(limits::PULL_WAIT_MAX)),
        ("life of a session, ms", millis(limits::SESSION_LIFE)),
        (
            "life of a signature, and how far a clock may be off, ms",
            millis(limits::SIGNATURE_LIFE_MAX),
        ),
        (
            "nonce of a signature, characters",
            limits::NONCE_CHARS_MAX as u64,
        ),
        (
            "time for the headers of a request, ms",
            millis(limits::HEADER_READ_TIMEOUT),
        ),
        (
            "time in which the body of a request has to begin, ms",
            millis(limits::BODY_GRACE),
        ),
        (
            "bytes of a body that have to come in a second, on average",
            u64::from(limits::BODY_BYTES_PER_SECOND_MIN),
        ),
    ];
    let named = [
        serde_json::to_value(Quotas::default().announced()).unwrap_or_default(),
        serde_json::to_value(Rates::default().announced()).unwrap_or_default(),
    ];
    let announced = named.iter().filter_map(|named| named.as_object()).flatten();
    let announced = announced.map(|(name, value)| format!("| `{name}` | {value} |\n"));
    let fixed = fixed.map(|(words, value)| format!("| {words} | {value} |\n"));
    let rows: String = announced.chain(fixed).collect();
    format!(
        "| limit | value |\n|---|---|\n{rows}\nLimits that are names are an operator's to set: these are the defaults, and \
         `/.well-known/sealpost` says what this relay has."
    )
}
