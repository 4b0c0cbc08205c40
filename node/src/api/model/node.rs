//! This node, its invites and its connections.

use super::{
    ConnectionStatus, ConnectionWarning, Direction, HealthState, InviteKind, InviteStatus, Iso,
    NodeWarning, RelayState,
};
use sealpost_proto::{AccountId, string_enum, wire::WebhookState};
use serde::{Deserialize, Serialize};

/// This node and its relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    /// In hexadecimal.
    pub fingerprint: String,
    pub version: String,
    pub relay: NodeRelay,
    pub delivery_mode: DeliveryMode,
    /// URL at which the relay calls this node, with [`DeliveryMode::Webhook`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// Whether the relay calls it, as far as it has reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_state: Option<WebhookState>,
    /// Why its last test failed, unless it has succeeded since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_reason: Option<String>,
    /// Address of this API, as `host:port`.
    pub address: String,
    pub data_directory: String,
    /// Deliveries that have neither arrived nor failed.
    pub pending_count: u64,
    /// Incoming messages after the read positions.
    pub unread_count: u64,
    /// Connections whose session is being replaced.
    #[serde(default)]
    pub healing_count: u64,
    /// Mailboxes at the relay that this node did not know when it last looked.
    #[serde(default)]
    pub unknown_mailboxes: u64,
    /// Warnings that nobody has acknowledged yet, the most serious first.
    #[serde(default)]
    pub warnings: Vec<DatedWarning>,
    /// The restore of this node from a backup, if it was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoration: Option<Restoration>,
    /// Outcome of the scheduled backups, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<ScheduledBackups>,
    /// The last row of the database that could not be read, with its table and column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// Warning about this node, which remains until a person acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatedWarning {
    pub code: NodeWarning,
    /// What happened, and what to do.
    pub text: String,
    /// When the node noticed it, for the last time.
    pub at: Iso,
}

/// State of the home relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRelay {
    /// `https://relay.example`.
    pub origin: String,
    pub state: RelayState,
    /// Id of this node's account there, which the relay's operator needs to find it; absent before
    /// the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// Why it does not respond, or asks this node to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_at: Option<Iso>,
    /// How far the relay's clock is ahead of ours.
    pub clock_offset_ms: i64,
}

/// Outcome of the scheduled backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBackups {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Iso>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Iso>,
    /// Why the last attempt failed, unless one has succeeded since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Restore of this node from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restoration {
    pub backed_up_at: Iso,
    pub restored_at: Iso,
    pub state: RestorationState,
    /// Connections whose sessions were replaced.
    pub connections: u64,
    /// Those of them whose partners have not answered yet.
    pub healing: u64,
}

/// Method by which the node receives envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// The node polls the relay.
    Pull,
    /// The relay calls the node.
    Webhook,
}

/// An invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    /// `INV-…`.
    pub id: String,
    pub kind: InviteKind,
    /// The invite itself, a secret; only in the response to its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub status: InviteStatus,
    /// Whether requests are accepted automatically.
    pub auto_accept: bool,
    /// Absent for a contact address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Iso>,
    pub created_at: Iso,
    /// Number of requests that were refused because the invite was not open, or because too many
    /// requests were pending.
    #[serde(default)]
    pub refused_requests: u64,
}

/// A mailbox at the relay that belongs to this node's account, but to no invite or connection here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnknownMailbox {
    /// In hexadecimal.
    pub id: String,
    pub created_at: Iso,
    /// Number of waiting envelopes.
    pub envelopes: u64,
}

/// A connection with another instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// `CON-…`.
    pub id: String,
    /// The name on the peer's card, which the peer chose.
    pub contact: String,
    /// Note of the connection request, or the peer's reason for a rejection.
    pub note: String,
    pub status: ConnectionStatus,
    /// `in` if the peer requested it.
    pub direction: Direction,
    /// The peer's fingerprint in hexadecimal.
    pub fingerprint: String,
    /// Whether the safety number was compared.
    pub verified: bool,
    /// The direct chat, once the connection is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    pub health: Health,
    /// Warning that nobody has acknowledged yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
    /// The peer's relay.
    pub relay: String,
    pub created_at: Iso,
    pub updated_at: Iso,
}

/// Whether messages can be exchanged on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub state: HealthState,
    /// Why messages wait or cannot be exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When a message of the peer was last opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_at: Option<Iso>,
}

/// Warning about a connection, which remains until a person verifies or acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub code: ConnectionWarning,
    /// What happened, and what to do.
    pub text: String,
}

/// The safety number that two people compare to rule out an attacker between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafetyNumber {
    /// 60 digits in 12 groups.
    pub number: String,
    /// The text of the QR code.
    pub qr: String,
    /// Whether it was compared.
    pub verified: bool,
}

string_enum! {
    /// Progress after a restore.
    pub enum RestorationState {
        /// The node has not reached its relay yet; nothing is sent or received until then.
        Waiting = "waiting",
        /// New sessions have been started; some partners have not answered yet.
        Healing = "healing",
        /// All partners have answered.
        Done = "done",
    }
}
