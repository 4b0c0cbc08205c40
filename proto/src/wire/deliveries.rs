use super::WebhookState;
use crate::{
    B64,
    ids::{DeliveryId, EnvelopeId, MailboxId},
    status::EnvelopeState,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Envelope that is delivered to its recipient's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveredEnvelope {
    /// Id that the outcome refers to.
    pub id: DeliveryId,
    /// Mailbox that received the envelope.
    pub mailbox: MailboxId,
    /// Id that the sender gave the envelope.
    pub envelope: EnvelopeId,
    /// When the relay accepted the envelope.
    pub accepted_at: Timestamp,
    /// Bytes of the envelope.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::EnvelopeBytes))]
    pub bytes: B64,
}

/// Status change of an envelope, reported to its sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusEvent {
    /// Id that the outcome refers to.
    pub id: DeliveryId,
    /// Id of the envelope.
    pub envelope: EnvelopeId,
    /// `retrying`, `expired` or `failed`.
    pub state: EnvelopeState,
    /// Failed attempts so far.
    #[cfg_attr(feature = "openapi", schema(example = 2))]
    pub attempts: u32,
    /// Reason for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "the webhook cannot be reached"))]
    pub reason: Option<String>,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// When the change happened.
    pub at: Timestamp,
}

/// Batch of envelopes and events: the `data` of a webhook call, and the response to a pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryBatch {
    /// Envelopes in queue order.
    pub deliveries: Vec<DeliveredEnvelope>,
    /// Status changes of envelopes that this account sent.
    pub events: Vec<StatusEvent>,
    /// Number of items that wait beyond this batch.
    #[cfg_attr(feature = "openapi", schema(example = 0))]
    pub backlog: u64,
    /// Fencing token of the lease; an acknowledgement repeats it.
    #[serde(rename = "lease")]
    #[cfg_attr(feature = "openapi", schema(example = 12))]
    pub fence: u64,
    /// Whether the relay calls the account's webhook; only in the response to a pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookState>,
}

/// Body of a webhook call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WebhookCall {
    /// Envelopes and events.
    Deliveries {
        /// When the call was made.
        timestamp: Timestamp,
        /// Batch to deliver.
        data: DeliveryBatch,
    },
    /// Verifies that the URL belongs to the node, which responds with [`ChallengeResponse`].
    Challenge {
        /// When the call was made.
        timestamp: Timestamp,
        /// 32 random bytes.
        #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Bytes32))]
        challenge: B64,
    },
}

/// Response of a node to a challenge: HMAC-SHA256 with the account's webhook secret over
/// `"Sealpost-1 challenge"`, a zero byte and the challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeResponse {
    /// The 32 bytes of the HMAC.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Bytes32))]
    pub answer: B64,
}

/// Outcome of one item, which the recipient's node reports after its own commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeliveryOutcome {
    /// The node stored the item, now or earlier, or recorded that it cannot be opened.
    Stored,
    /// The outer layer of the envelope cannot be opened, so the relay deletes the envelope.
    Refused,
    /// The node cannot store anything at the moment.
    #[serde(rename = "later")]
    Deferred {
        /// Requested delay before the next attempt in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(example = 5_000))]
        retry_after_ms: Option<u64>,
    },
}

/// Entry of [`DeliveryResults`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(example = json!({"id": 4_711, "outcome": "stored"}))
)]
pub struct DeliveryResult {
    /// Id of the envelope or event.
    pub id: DeliveryId,
    /// Outcome of the item.
    #[serde(flatten)]
    pub outcome: DeliveryOutcome,
}

/// Response of a node to a webhook call, and the body of `POST /v1/deliveries/ack`. A missing item
/// counts as `later`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryResults {
    /// Fencing token of the batch's lease.
    #[serde(rename = "lease")]
    #[cfg_attr(feature = "openapi", schema(example = 12))]
    pub fence: u64,
    /// One result per item of the batch.
    pub results: Vec<DeliveryResult>,
}
