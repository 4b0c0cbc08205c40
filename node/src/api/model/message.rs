//! Messages, their attachments and their deliveries.

use super::{AttachmentStatus, Audit, DangerMark, DeliveryStatus, Direction, Iso, Visibility};
use serde::{Deserialize, Serialize};

/// A message as one chat shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// `CMG-1111-2222-3333-00001`.
    pub id: String,
    /// The same on both sides and for every recipient.
    pub uuid: String,
    pub chat: String,
    pub direction: Direction,
    /// Whether this node wrote it itself, to report something about the chat.
    #[serde(default)]
    pub is_system: bool,
    /// Whether it arrived after messages that its sender sent later. Its chat shows it before them.
    #[serde(default)]
    pub is_late: bool,
    pub sender: Sender,
    /// The text as written. That of an incoming message is not trusted.
    pub content: String,
    /// Media type of `content`: `text/markdown`, `text/html` or `text/plain`.
    pub content_type: String,
    /// `content` rendered as inert HTML; only in a response with a single message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_html: Option<String>,
    pub visibility: Visibility,
    /// Whether the content was deleted.
    pub is_deleted: bool,
    /// Up to 5 files.
    pub attachments: Vec<Attachment>,
    /// Message to which this one replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Whether the sender requests an action.
    pub action_required: bool,
    /// When the sender wants it delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_by: Option<Iso>,
    /// When the sender wants it read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_by: Option<Iso>,
    /// Whether it was read here; always true for an outgoing message.
    pub is_read: bool,
    /// By the sender's clock.
    pub sent_at: Iso,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Iso>,
    /// Deliveries of an outgoing message to all its recipients.
    pub deliveries: Vec<Delivery>,
    /// Increases with every change.
    pub revision: u64,
    pub audit: Audit,
}

/// Message that was marked as read, with the messages that its chat shows above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadMessage {
    #[serde(flatten)]
    pub message: Message,
    /// Number of messages that became read, including this one unless it is late.
    #[serde(default)]
    pub read_count: u64,
}

/// Author of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Name of the author, as the author's node states it.
    pub name: String,
    /// The contact, or this node's own name; of a system message, the contact of the chat.
    pub contact: String,
}

/// The delivery of a message to one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The message in the recipient's chat.
    pub message: String,
    pub connection: String,
    /// The recipient's name.
    pub contact: String,
    pub status: DeliveryStatus,
    /// Whether it waits because the session with the recipient is broken.
    pub healing: bool,
    /// Failure code of the protocol, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it waits, retries or failed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Failed attempts so far.
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Iso>,
    /// When this node stored it in its outbox.
    pub pending_at: Iso,
    /// When the relay stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Iso>,
    /// When the recipient's node stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Iso>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Iso>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Iso>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `ATC-…`.
    pub id: String,
    pub direction: Direction,
    /// The sender's name for it, with hidden characters made visible.
    pub filename: String,
    /// A name that is safe on every file system.
    pub safe_name: String,
    /// Detected from the first bytes; the sender's claim until they have arrived.
    pub content_type: String,
    /// The sender's claim, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_type: Option<String>,
    /// How opening the file can do harm, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dangers: Vec<DangerMark>,
    pub has_preview: bool,
    /// Bytes of the plaintext.
    pub size: u64,
    pub status: AttachmentStatus,
    /// Bytes transferred so far.
    pub transferred: u64,
    /// Why the transfer waits, or why the file failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
