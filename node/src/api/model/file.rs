//! Dangers of files, and files in lists.

use super::{Attachment, Iso};
use sealpost_node_core::file_type::Danger;
use serde::{Deserialize, Serialize};

/// Danger of opening a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DangerMark {
    pub code: Danger,
    /// Explanation for people.
    pub reason: String,
}

/// A file with the messages that use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentListItem {
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The first message that uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Contacts of the first five messages.
    pub contacts: Vec<String>,
    /// Number of messages that use it, one for each recipient.
    pub message_count: u64,
    /// When it was staged, or when its message arrived.
    pub created_at: Iso,
}
