use crate::{
    B64,
    ids::{DeliveryId, EnvelopeId, MailboxId},
    status::EnvelopeState,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// An envelope on its way to its recipient's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// What the outcome names.
    pub id: DeliveryId,
    /// The mailbox it came to.
    pub mailbox: MailboxId,
    /// The sender's id for it.
    pub envelope: EnvelopeId,
    /// When the relay accepted it.
    pub accepted_at: Timestamp,
    /// The envelope.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::EnvelopeBytes))]
    pub bytes: B64,
}

/// News for the sender of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusEvent {
    /// What the outcome names.
    pub id: DeliveryId,
    /// Which envelope.
    pub envelope: EnvelopeId,
    /// `retrying`, `expired` or `failed`.
    pub state: EnvelopeState,
    /// Attempts that failed so far.
    #[cfg_attr(feature = "openapi", schema(example = 2))]
    pub attempts: u32,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "the webhook cannot be reached"))]
    pub reason: Option<String>,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// When this happened.
    pub at: Timestamp,
}

/// What a webhook call carries as `data`, and what a pull answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryBatch {
    /// Envelopes, in order.
    pub deliveries: Vec<Delivery>,
    /// News of envelopes that this account sent.
    pub events: Vec<StatusEvent>,
    /// What waits beyond this batch.
    #[cfg_attr(feature = "openapi", schema(example = 0))]
    pub backlog: u64,
    /// The lease's fencing number; an acknowledgement names it.
    #[cfg_attr(feature = "openapi", schema(example = 12))]
    pub lease: u64,
}

/// The body of a webhook call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WebhookCall {
    /// Envelopes and events.
    Deliveries {
        /// When it was made.
        timestamp: Timestamp,
        /// What it carries.
        data: DeliveryBatch,
    },
    /// Shows that the URL is the node's: the node answers [`ChallengeResponse`].
    Challenge {
        /// When it was made.
        timestamp: Timestamp,
        /// 32 random bytes.
        #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Bytes32))]
        challenge: B64,
    },
}

/// A node's answer to a challenge: HMAC-SHA256 under the account's webhook secret over `"Sealpost-1 challenge"`, a zero
/// byte and the challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeResponse {
    /// The 32 bytes of the HMAC.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Bytes32))]
    pub answer: B64,
}

/// What the recipient's node says of one item, after its own commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeliveryOutcome {
    /// It is stored, now or before, or it cannot be opened and that is dealt with.
    Stored,
    /// The outer layer does not open: junk.
    Refused,
    /// The node as a whole cannot take it now.
    #[serde(rename = "later")]
    Deferred {
        /// When to come again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(example = 5_000))]
        retry_after_ms: Option<u64>,
    },
}

/// One row of [`DeliveryResults`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"id": 4_711, "outcome": "stored"})))]
pub struct DeliveryResult {
    /// Which envelope or event.
    pub id: DeliveryId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: DeliveryOutcome,
}

/// A node's answer to a webhook call, and the body of `POST /v1/deliveries/ack`. What is missing counts as `later`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryResults {
    /// The batch's fencing number.
    #[cfg_attr(feature = "openapi", schema(example = 12))]
    pub lease: u64,
    /// One for each item of the batch.
    pub results: Vec<DeliveryResult>,
}
