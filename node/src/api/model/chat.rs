//! Chats and their participants.

use super::{Audit, ChatType, ParticipantStatus};
use serde::{Deserialize, Serialize};

/// A chat with its counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chat {
    /// `CHT-1111-2222-3333`.
    pub id: String,
    /// The same on both sides.
    pub uuid: String,
    #[serde(rename = "type")]
    pub chat_type: ChatType,
    /// A direct chat has the name of its contact.
    pub name: String,
    /// `false` hides the chat.
    pub active: bool,
    /// The connection of a direct chat.
    pub connection: String,
    /// Everybody in the chat, including this node.
    pub participants: Vec<Participant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
    /// Incoming messages after the read position.
    pub unread: u64,
    pub message_count: u64,
    pub attachment_count: u64,
    /// Messages whose delivery failed.
    pub error_count: u64,
    /// Increases with every change.
    pub revision: u64,
    pub audit: Audit,
}

/// Participant of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// `CPT-…`.
    pub id: String,
    pub chat: String,
    pub status: ParticipantStatus,
    /// The name on its card.
    pub contact: String,
    /// Whether it is this node.
    #[serde(rename = "self")]
    pub is_self: bool,
    pub identity: Identity,
}

/// Key of a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Hex of the fingerprint.
    pub fingerprint: String,
    /// Whether the safety number was compared.
    pub verified: bool,
}
