//! What is said of files beside where they are.

use super::{Attachment, Iso};
use sealpost_node_core::file_type::Danger;
use serde::{Deserialize, Serialize};

/// A way in which a file can do harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DangerMark {
    /// The way, as a word.
    pub code: Danger,
    /// What it means, for people.
    pub reason: String,
}

/// A file with the messages that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedAttachment {
    /// The file.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The first message that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The contacts of the first five.
    pub contacts: Vec<String>,
    /// How many there are.
    pub message_count: u64,
    /// When it was staged, or announced by its message.
    pub created_at: Iso,
}
