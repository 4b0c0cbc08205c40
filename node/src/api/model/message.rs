//! Messages, their files, and how far they are on their way.

use super::{AttachmentStatus, Audit, DangerMark, DeliveryStatus, Direction, Iso, Visibility};
use serde::{Deserialize, Serialize};

/// A message as one chat holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// `CMG-1111-2222-3333-00001`.
    pub id: String,
    /// The same on both sides and for every recipient.
    pub uuid: String,
    /// The chat.
    pub chat: String,
    /// Who sent it.
    pub direction: Direction,
    /// Who wrote it.
    pub sender: Sender,
    /// What was written, as it was written; of an incoming message nothing in it is to be trusted.
    pub content: String,
    /// Of `content`: `text/markdown` or `text/html`.
    pub content_type: String,
    /// The sanitised rendering.
    pub content_html: String,
    /// Who may see it.
    pub visibility: Visibility,
    /// Whether its content is gone.
    pub is_deleted: bool,
    /// Its files, at most 5.
    pub attachments: Vec<Attachment>,
    /// The message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Whether the sender wants something done.
    pub action_required: bool,
    /// The sender wants it delivered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_by: Option<Iso>,
    /// The sender wants it read before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_by: Option<Iso>,
    /// Whether it was read here; always true for an outgoing one.
    pub is_read: bool,
    /// When it was sent, by the sender's clock.
    pub sent_at: Iso,
    /// When it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Iso>,
    /// How far it is: for an outgoing one all recipients of its `uuid` when it is asked for alone, else this chat's.
    pub delivery: Vec<Delivery>,
    /// Grows with every change.
    pub revision: u64,
    /// Made and changed.
    pub audit: Audit,
}

/// A message that was read, and what was read with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadMessage {
    #[serde(flatten)]
    pub message: Message,
    /// How many messages became read, this one included.
    #[serde(default)]
    pub read_count: u64,
}

/// Who wrote a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The author's name, written by the author's side.
    pub name: String,
    /// The contact, or this node's own name.
    pub contact: String,
}

/// How far a message is on its way to one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The message in the recipient's chat.
    pub message: String,
    /// The recipient.
    pub connection: String,
    /// The recipient's name.
    pub contact: String,
    /// How far.
    pub status: DeliveryStatus,
    /// Whether the session is being repaired.
    pub healing: bool,
    /// Why it retries or failed, as a word: a failure code of the protocol or a reason of the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it retries or failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// The next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Iso>,
    /// In the outbox.
    pub pending_at: Iso,
    /// Durable at the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Iso>,
    /// Stored by the recipient's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Iso>,
    /// Read there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Iso>,
    /// Given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Iso>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `ATC-…`.
    pub id: String,
    /// Ours or theirs.
    pub direction: Direction,
    /// Its name as the sender wrote it, made visible.
    pub filename: String,
    /// A name that no file system misreads.
    pub safe_name: String,
    /// As its first bytes tell; what the sender claims as long as they are not here.
    pub content_type: String,
    /// What the sender claims, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_type: Option<String>,
    /// How opening it can do harm, the worst first; of most files nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dangers: Vec<DangerMark>,
    /// Whether a small picture of it can be had.
    pub has_preview: bool,
    /// Bytes of the plaintext.
    pub size: u64,
    /// Where it is.
    pub status: AttachmentStatus,
    /// Bytes uploaded or downloaded so far.
    pub transferred: u64,
    /// Why it waits or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
