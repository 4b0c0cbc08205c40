use crate::{
    ids::AccountId,
    origin::Origin,
    secret::{SessionKey, WebhookSecret},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// How a relay hands envelopes to an account's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"mode": "webhook", "url": "https://node.example/sealpost"})))]
pub enum DeliveryMode {
    /// The node asks for them.
    Pull,
    /// The relay calls the node; the node can still ask.
    Webhook {
        /// The absolute URL that is called.
        #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::WebhookUrl))]
        url: String,
    },
}

/// `POST /v1/accounts`, signed with the account key that it registers (the request's keyid).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterRequest {
    /// How to deliver.
    pub delivery: DeliveryMode,
    /// The registration token, where the operator wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(example = "f3Yq-one-of-the-operators-tokens")
    )]
    pub token: Option<String>,
}

/// Answer to `POST /v1/accounts`; the same key again gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registered {
    /// The new account.
    pub account_id: AccountId,
    /// Under which the relay signs its calls of the account's webhook (Standard Webhooks, `v1`).
    pub webhook_secret: WebhookSecret,
}

/// Whether the relay calls an account's webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WebhookState {
    /// The account has none: it pulls.
    None,
    /// It has not answered the challenge yet; the queue waits for a pull.
    Unverified,
    /// It is called.
    Active,
    /// It refused too often or answered 410; the queue waits for a pull or a successful webhook test.
    Off,
}

/// `GET /v1/account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    /// The account.
    pub account_id: AccountId,
    /// How it is delivered to.
    pub delivery: DeliveryMode,
    /// Whether its webhook is called.
    pub webhook_state: WebhookState,
    /// Why not, in words, when it is off or unverified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(example = "ten calls in a row were refused, the last with status 404")
    )]
    pub webhook_reason: Option<String>,
    /// Envelopes and events that wait for it.
    #[cfg_attr(feature = "openapi", schema(example = 3))]
    pub backlog: u64,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// `PATCH /v1/account`, signed with the account key and a nonce.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountChange {
    /// A new way of delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryMode>,
}

/// Answer to `POST /v1/session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// The `keyid` of requests signed with this session's key.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "AVpaWlpaWlpaWlpaWlpaWlpaAAAAAQAAAZsvbZh7WlpaWlpaWlo")
    )]
    pub session_id: String,
    /// The key, for `hmac-sha256`.
    pub key: SessionKey,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The relay's clock.
    pub relay_time: Timestamp,
}

/// One step of `POST /v1/account/webhook-test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookTestStep {
    /// `address`, `call`, `status` or `challenge`.
    #[cfg_attr(feature = "openapi", schema(example = "address"))]
    pub step: String,
    /// Whether it went well.
    pub ok: bool,
    /// What was seen.
    #[cfg_attr(feature = "openapi", schema(example = "node.example is 203.0.113.7"))]
    pub detail: String,
}

/// Answer to `POST /v1/account/webhook-test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookTest {
    /// Whether the webhook is active now.
    pub ok: bool,
    /// Each step up to the first that failed.
    pub steps: Vec<WebhookTestStep>,
    /// How long the call took.
    #[cfg_attr(feature = "openapi", schema(example = 41))]
    pub elapsed_ms: u64,
}

/// `GET` and `PUT /v1/account/checkpoint`. The entity tag in `ETag` and `If-Match` is the SHA-256 of the sealed bytes,
/// base64url in double quotes; `If-Match: "none"` writes the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// The node's sealed generation counter.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::CheckpointBytes))]
    pub sealed: crate::B64,
}

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RegistrationPolicy {
    /// Everybody.
    Open,
    /// Who has a token.
    Token,
    /// Nobody.
    Closed,
}

/// The limits of a relay, in `/.well-known/sealpost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnnouncedLimits {
    /// Bytes of one envelope.
    pub envelope_bytes: u64,
    /// Envelopes in one request.
    pub envelopes_per_request: u64,
    /// Bytes of one request of envelopes.
    pub envelopes_request_bytes: u64,
    /// Life of an envelope whose sender asks for none.
    pub envelope_life_default_ms: u64,
    /// Longest life of an envelope.
    pub envelope_life_max_ms: u64,
    /// Envelopes that may wait in one mailbox.
    pub mailbox_envelopes: u64,
    /// Bytes that may wait in one mailbox.
    pub mailbox_bytes: u64,
    /// Envelopes that may wait in all mailboxes of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_envelopes: Option<u64>,
    /// Bytes that may wait in all mailboxes of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_bytes: Option<u64>,
    /// Bytes of one blob.
    pub blob_bytes: u64,
    /// Bytes of one part, part 0 excepted, which is 48 bytes longer.
    pub part_bytes: u64,
    /// Blobs of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_blobs: Option<u64>,
    /// Bytes of all blobs of one account.
    pub account_blob_bytes: u64,
    /// Mailboxes of one account.
    pub account_mailboxes: u64,
}

/// How often a relay may be asked, in `/.well-known/sealpost`; what is absent has no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnnouncedRates {
    /// Requests of one account in a second, over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    /// Requests of one account at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u64>,
    /// Envelopes of one account in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelopes_per_minute: Option<u64>,
    /// Bytes of parts of blobs that one account uploads in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob_bytes_per_day: Option<u64>,
    /// Requests without a session in a minute from one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_requests_per_minute: Option<u64>,
}

/// `GET /.well-known/sealpost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WellKnown {
    /// The relay's public origin: what signatures name as `@authority`.
    pub origin: Origin,
    /// The version of this protocol.
    #[cfg_attr(feature = "openapi", schema(example = 1))]
    pub protocol_version: u32,
    /// The program's version.
    #[cfg_attr(feature = "openapi", schema(example = "sealpost-relay 0.1.0"))]
    pub software: String,
    /// Who may register.
    pub registration: RegistrationPolicy,
    /// The limits.
    pub limits: AnnouncedLimits,
    /// The rates.
    #[serde(default)]
    pub rates: AnnouncedRates,
    /// The relay's clock.
    pub relay_time: Timestamp,
}
