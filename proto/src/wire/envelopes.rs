use crate::{
    B64,
    error::ErrorCode,
    ids::{EnvelopeId, MailboxRef},
    status::EnvelopeState,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// One envelope of `POST /v1/envelopes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubmittedEnvelope {
    /// Made by the sealing node.
    pub id: EnvelopeId,
    /// Where to.
    pub mailbox: MailboxRef,
    /// 16 bytes that show that the sender holds the mailbox's key.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Bytes16))]
    pub proof: B64,
    /// When its life shall end; absent: the relay's default from now. A later time than the longest life is lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The envelope.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::EnvelopeBytes))]
    pub bytes: B64,
}

/// `POST /v1/envelopes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubmitRequest {
    /// 1 to 100 envelopes; the order within a mailbox is kept.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Submission))]
    pub envelopes: Vec<SubmittedEnvelope>,
}

/// What became of one submitted envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SubmitOutcome {
    /// It is on the relay's disk.
    Accepted {
        /// When its life ends.
        expires_at: Timestamp,
    },
    /// The same envelope was accepted before, and is on disk.
    Duplicate {
        /// Where it is now.
        state: EnvelopeState,
    },
    /// It was not taken.
    Refused {
        /// Why.
        code: ErrorCode,
        /// When another try makes sense.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(example = 5_000))]
        retry_after_ms: Option<u64>,
    },
}

/// One row of the answer to `POST /v1/envelopes`, in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"id": "BwcHBwcHBwcHBwcHBwcHBw", "outcome": "accepted", "expires_at": 1_766_604_800_123_u64})))]
pub struct SubmitResult {
    /// Which.
    pub id: EnvelopeId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: SubmitOutcome,
}

/// Answer to `POST /v1/envelopes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubmitResponse {
    /// One for each envelope.
    pub results: Vec<SubmitResult>,
}

/// `GET /v1/envelopes/{id}`, and the rows of `POST /v1/envelopes/status`: what the relay knows of an envelope of this
/// account's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnvelopeStatus {
    /// Which.
    pub id: EnvelopeId,
    /// Where it is.
    pub state: EnvelopeState,
    /// Attempts that failed so far.
    #[cfg_attr(feature = "openapi", schema(example = 0))]
    pub attempts: u32,
    /// The last failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "the webhook cannot be reached"))]
    pub reason: Option<String>,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// When its life ends.
    pub expires_at: Timestamp,
}

/// `POST /v1/envelopes/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusRequest {
    /// At most 100 ids.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::EnvelopeIds))]
    pub ids: Vec<EnvelopeId>,
}

/// Answer to `POST /v1/envelopes/status`; ids that are not the account's are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusResponse {
    /// One for each known id.
    pub envelopes: Vec<EnvelopeStatus>,
}
