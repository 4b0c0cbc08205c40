use crate::{B64, ids::MailboxId, secret::SendKey, time::Timestamp};
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
type SendKeys = crate::schema::BoundedList<SendKey, 1, { crate::limits::SEND_KEYS_MAX }>;

/// Body of `PUT /v1/mailboxes/{id}`, which opens a mailbox or replaces its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenMailbox {
    /// One key, or two during a key rotation.
    #[cfg_attr(feature = "openapi", schema(value_type = SendKeys))]
    pub send_keys: Vec<SendKey>,
    /// Envelopes that the mailbox accepts from one account within seven days; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 1, maximum = 1_000_000, example = 4)
    )]
    pub sender_envelopes_max: Option<u64>,
}

/// Mailbox in the response to `GET /v1/mailboxes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mailbox {
    /// Id of the mailbox.
    pub id: MailboxId,
    /// When the mailbox was opened.
    pub created_at: Timestamp,
    /// Number of waiting envelopes.
    #[cfg_attr(feature = "openapi", schema(example = 3))]
    pub envelopes: u64,
    /// Whether a prekey bundle is stored in it.
    pub has_prekeys: bool,
}

/// Response to `GET /v1/mailboxes?after=…`: a page of up to 500 mailboxes, ordered by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mailboxes {
    /// Mailboxes of this page.
    pub mailboxes: Vec<Mailbox>,
    /// Value of `after` for the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<MailboxId>,
}

/// Body of `PUT` and `GET /v1/mailboxes/{id}/prekeys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SealedPrekeys {
    /// Sealed bundle, 2,048 bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PrekeysBytes))]
    pub sealed: B64,
}
