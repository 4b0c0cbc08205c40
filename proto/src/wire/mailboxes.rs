use crate::{B64, ids::MailboxId, secret::SendKey, time::Timestamp};
use serde::{Deserialize, Serialize};

/// `PUT /v1/mailboxes/{id}`: opens a mailbox, or replaces its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenMailbox {
    /// One key, or two while a peer moves from one to the other.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::SendKeys))]
    pub send_keys: Vec<SendKey>,
}

/// One row of `GET /v1/mailboxes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mailbox {
    /// Its id.
    pub id: MailboxId,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Envelopes that wait in it.
    #[cfg_attr(feature = "openapi", schema(example = 3))]
    pub envelopes: u64,
    /// Whether a prekey base lies in it.
    pub has_prekeys: bool,
}

/// `GET /v1/mailboxes?after=…`, at most 500 a page, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mailboxes {
    /// This page.
    pub mailboxes: Vec<Mailbox>,
    /// What to pass as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<MailboxId>,
}

/// `PUT` and `GET /v1/mailboxes/{id}/prekeys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SealedPrekeys {
    /// The sealed base, 2,048 bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PrekeysBytes))]
    pub sealed: B64,
}
