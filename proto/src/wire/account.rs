use crate::{
    ids::AccountId,
    origin::Origin,
    secret::{SessionKey, WebhookSecret},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// How a relay delivers envelopes to an account's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(example = json!({"mode": "webhook", "url": "https://node.example/sealpost"}))
)]
pub enum DeliveryMode {
    /// The node pulls the envelopes.
    Pull,
    /// The relay calls the node; the node can still pull.
    Webhook {
        /// URL that the relay calls, which has to be a [`crate::WebhookUrl`].
        #[cfg_attr(feature = "openapi", schema(value_type = crate::WebhookUrl))]
        url: String,
    },
}

/// Body of `POST /v1/accounts`, signed with the account key that it registers (the request's
/// keyid).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterRequest {
    /// How the relay delivers.
    pub delivery: DeliveryMode,
    /// Registration token, if the operator requires one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(example = "f3Yq-one-of-the-operators-tokens")
    )]
    pub token: Option<String>,
}

/// Response to `POST /v1/accounts`; registering the same key again returns the same response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registered {
    /// The new account.
    pub account_id: AccountId,
    /// Secret with which the relay signs its calls of the account's webhook (Standard Webhooks,
    /// `v1`).
    pub webhook_secret: WebhookSecret,
}

/// Whether the relay calls an account's webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WebhookState {
    /// The account has no webhook, so its node pulls.
    None,
    /// The webhook has not passed the challenge yet; the queue waits for a pull.
    Unverified,
    /// The relay calls the webhook.
    Active,
    /// The webhook refused too many calls or responded with 410; the queue waits for a pull or a
    /// successful webhook test.
    Off,
}

/// Response to `GET /v1/account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    /// Id of the account.
    pub account_id: AccountId,
    /// How the relay delivers to the account.
    pub delivery: DeliveryMode,
    /// Whether the webhook is called.
    pub webhook_state: WebhookState,
    /// Reason for people why the webhook is off or unverified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(example = "ten calls in a row were refused, the last with status 404")
    )]
    pub webhook_reason: Option<String>,
    /// Envelopes and events that wait for the account.
    #[cfg_attr(feature = "openapi", schema(example = 3))]
    pub backlog: u64,
    /// When the account was registered.
    pub created_at: Timestamp,
}

/// Body of `PATCH /v1/account`, signed with the account key and a nonce.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountChange {
    /// New delivery mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryMode>,
}

/// Response to `POST /v1/session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// `keyid` of requests signed with this session's key.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "AVpaWlpaWlpaWlpaWlpaWlpaAAAAAQAAAZsvbZh7WlpaWlpaWlo")
    )]
    pub session_id: String,
    /// Key for `hmac-sha256`.
    pub key: SessionKey,
    /// When the session expires.
    pub expires_at: Timestamp,
    /// Time of the relay's clock.
    pub relay_time: Timestamp,
    /// Whether the relay calls the account's webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookState>,
}

/// Step of `POST /v1/account/webhook-test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookTestStep {
    /// `address`, `call`, `status` or `challenge`.
    #[cfg_attr(feature = "openapi", schema(example = "address"))]
    pub step: String,
    /// Whether the step succeeded.
    pub ok: bool,
    /// Result of the step for people.
    #[cfg_attr(feature = "openapi", schema(example = "node.example is 203.0.113.7"))]
    pub detail: String,
}

/// Response to `POST /v1/account/webhook-test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookTest {
    /// Whether the webhook is active now.
    pub ok: bool,
    /// Steps up to the first that failed.
    pub steps: Vec<WebhookTestStep>,
    /// Duration of the call in milliseconds.
    #[cfg_attr(feature = "openapi", schema(example = 41))]
    pub elapsed_ms: u64,
}

/// Body of `GET` and `PUT /v1/account/checkpoint`.
///
/// The entity tag in `ETag` and `If-Match` is the SHA-256 of the sealed bytes, base64url in double
/// quotes; `If-Match: "none"` creates the first checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// Content that the node has encrypted; the relay cannot read it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::CheckpointBytes))]
    pub sealed: crate::B64,
}

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RegistrationPolicy {
    /// Everybody may register.
    Open,
    /// Holders of a registration token may register.
    Token,
    /// Nobody may register.
    Closed,
}

/// Limits of a relay, in `/.well-known/sealpost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnnouncedLimits {
    /// Bytes of one envelope.
    pub envelope_bytes: u64,
    /// Envelopes in one request.
    pub envelopes_per_request: u64,
    /// Bytes of one request of envelopes.
    pub envelopes_request_bytes: u64,
    /// Lifetime of an envelope whose sender requests none, in milliseconds.
    pub envelope_life_default_ms: u64,
    /// Longest lifetime of an envelope, in milliseconds.
    pub envelope_life_max_ms: u64,
    /// Envelopes waiting in one mailbox.
    pub mailbox_envelopes: u64,
    /// Bytes waiting in one mailbox.
    pub mailbox_bytes: u64,
    /// Envelopes waiting in all mailboxes of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_envelopes: Option<u64>,
    /// Bytes waiting in all mailboxes of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_bytes: Option<u64>,
    /// Bytes of one blob.
    pub blob_bytes: u64,
    /// Bytes of one part; part 0 is 48 bytes longer.
    pub part_bytes: u64,
    /// Blobs of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_blobs: Option<u64>,
    /// Bytes of all blobs of one account.
    pub account_blob_bytes: u64,
    /// Mailboxes of one account.
    pub account_mailboxes: u64,
}

/// Rate limits of a relay, in `/.well-known/sealpost`; an absent one means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnnouncedRates {
    /// Sustained requests per second of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    /// Burst of requests of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u64>,
    /// Envelopes per minute of one account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelopes_per_minute: Option<u64>,
    /// Bytes of blob parts that one account uploads per day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob_bytes_per_day: Option<u64>,
    /// Requests per minute without a session from one IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_requests_per_minute: Option<u64>,
}

/// Response to `GET /.well-known/sealpost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WellKnown {
    /// Public origin of the relay, which signatures cover as `@authority`.
    pub origin: Origin,
    /// Version of the protocol.
    #[cfg_attr(feature = "openapi", schema(example = 1))]
    pub protocol_version: u32,
    /// Name and version of the program.
    #[cfg_attr(feature = "openapi", schema(example = "sealpost-relay 0.1.0"))]
    pub software: String,
    /// Who may register.
    pub registration: RegistrationPolicy,
    /// Limits of the relay.
    pub limits: AnnouncedLimits,
    /// Rate limits of the relay.
    #[serde(default)]
    pub rates: AnnouncedRates,
    /// Time of the relay's clock.
    pub relay_time: Timestamp,
}
