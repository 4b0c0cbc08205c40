//! Who this node is, whom it invites and with whom it is connected.

use super::{ConnectionStatus, Direction, HealthState, InviteKind, InviteStatus, Iso, RelayState};
use serde::{Deserialize, Serialize};

/// The node itself and how it stands with its relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The name on its identity card.
    pub name: String,
    /// Hex of the identity's fingerprint.
    pub fingerprint: String,
    /// The daemon's version.
    pub version: String,
    /// Its home relay.
    pub relay: NodeRelay,
    /// How envelopes come in.
    pub delivery: DeliveryMode,
    /// Where the relay calls, with [`DeliveryMode::Webhook`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// Where this API listens, as `host:port`.
    pub address: String,
    /// Where everything is stored.
    pub data_directory: String,
    /// Outgoing deliveries that are not delivered and have not failed.
    pub pending_count: u64,
    /// Incoming messages above the read positions.
    pub unread_count: u64,
    /// The last row of the database that could not be read, with its table and column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// How the node stands with its relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRelay {
    /// `https://relay.example`.
    pub origin: String,
    /// Whether it answers.
    pub state: RelayState,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_at: Option<Iso>,
    /// How far the relay's clock is ahead of this machine's.
    pub clock_offset_ms: i64,
}

/// How envelopes come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// The node asks the relay.
    Pull,
    /// The relay calls the node.
    Webhook,
}

/// An invitation to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    /// `INV-…`.
    pub id: String,
    /// For one, or for anybody who has it.
    pub kind: InviteKind,
    /// The invite itself, which is a secret: only in the answer that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it still works.
    pub status: InviteStatus,
    /// Whether who connects by it is accepted without being asked about.
    pub auto_accept: bool,
    /// When it stops to work; a contact address has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Iso>,
    /// When it was made.
    pub created_at: Iso,
}

/// The tie to one other instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// `CON-…`.
    pub id: String,
    /// The name on the other side's card: written by the other side.
    pub contact: String,
    /// What was said with the request: written by whoever asked.
    pub note: String,
    /// Where the request is.
    pub status: ConnectionStatus,
    /// Who asked.
    pub direction: Direction,
    /// Hex of the other identity's fingerprint.
    pub fingerprint: String,
    /// Whether the safety number was compared.
    pub verified: bool,
    /// Its direct chat, once it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// Whether messages pass.
    pub health: Health,
    /// The other side's relay.
    pub relay: String,
    /// When it was asked for.
    pub created_at: Iso,
    /// When it last changed.
    pub updated_at: Iso,
}

/// Whether messages pass on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The short answer.
    pub state: HealthState,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When something of the other side last came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_at: Option<Iso>,
}

/// What two people compare to know that nobody stands between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safety {
    /// 60 digits in 12 groups.
    pub number: String,
    /// The text of the QR code.
    pub qr: String,
    /// Whether it was compared.
    pub verified: bool,
}
