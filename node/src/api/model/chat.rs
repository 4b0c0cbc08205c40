//! Conversations and who takes part in them.

use super::{Audit, ChatType, ParticipantStatus};
use serde::{Deserialize, Serialize};

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chat {
    /// `CHT-1111-2222-3333`.
    pub id: String,
    /// The same on both sides.
    pub uuid: String,
    /// What kind of conversation.
    #[serde(rename = "type")]
    pub chat_type: ChatType,
    /// A direct chat has its contact's.
    pub name: String,
    /// `false` hides it without removing anything.
    pub active: bool,
    /// The connection of a direct chat.
    pub connection: String,
    /// Everybody in it, this node too.
    pub participants: Vec<Participant>,
    /// Its last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
    /// Incoming messages that nobody read.
    pub unread: u64,
    /// All messages.
    pub message_count: u64,
    /// All files.
    pub attachment_count: u64,
    /// Messages that could not be delivered.
    pub error_count: u64,
    /// Grows with every change.
    pub revision: u64,
    /// Made and changed.
    pub audit: Audit,
}

/// One side of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// `CPT-…`.
    pub id: String,
    /// The chat.
    pub chat: String,
    /// Whether it still takes part.
    pub status: ParticipantStatus,
    /// The name on its card.
    pub contact: String,
    /// Whether it is this node.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Its key, and whether it was verified.
    pub identity: Identity,
}

/// A participant's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Hex of the fingerprint.
    pub fingerprint: String,
    /// Whether the safety number was compared.
    pub verified: bool,
}
