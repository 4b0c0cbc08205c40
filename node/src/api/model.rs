//! The JSON shapes of the local API, as in `docs/local-api.md`: camelCase, sizes in bytes, times as
//! [`Iso`]. Handlers convert the domain's types to them and the CLI reads them; ids are text.

use super::iso::Iso;
pub use sealpost_node_core::model::{
    ChatType, ConnectionStatus, ConnectionWarning, ContentType, Direction, EventTopic,
    FileStatus as AttachmentStatus, HealthState, InviteKind, InviteStatus, NodeWarning,
    ParticipantStatus, RelayState, Visibility,
};
use sealpost_proto::DeliveryStatus;
use serde::{Deserialize, Serialize};

mod chat;
mod deadline;
mod file;
mod message;
mod node;
mod request;
mod transfer;

pub use chat::*;
pub use deadline::*;
pub use file::*;
pub use message::*;
pub use node::*;
pub use request::*;
pub use transfer::*;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The resources, in the list's order.
    pub items: Vec<T>,
    /// Cursor of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Creation and last change of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub created: Stamp,
    pub updated: Stamp,
}

/// Time and author of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub at: Iso,
    /// The user or contact; `null` for the node itself.
    pub by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_fields_of_a_delivery_are_omitted() {
        let json = json!({
            "message": "CMG-1111-2222-3333-00001", "connection": "CON-1", "contact": "Bolt",
            "status": "retrying",
            "healing": false, "reason": "connection refused", "attempts": 2,
            "nextAttemptAt": "2026-11-20T14:05:00.000Z", "pendingAt": "2026-11-20T14:04:00.000Z"
        });
        let delivery: Delivery = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(delivery.status, DeliveryStatus::Retrying);
        assert_eq!(serde_json::to_value(&delivery).unwrap(), json);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let typo = json!({"to": ["Bolt"], "content": "x", "attachment": ["ATC-1"]});
        assert!(serde_json::from_value::<SendMessage>(typo).is_err());
        let least: SendMessage =
            serde_json::from_value(json!({"to": ["Bolt"], "content": "x"})).unwrap();
        assert!(least.attachments.is_empty() && !least.action_required);
    }

    #[test]
    fn enums_have_lower_case_names() {
        assert_eq!(serde_json::to_value(ChatType::Direct).unwrap(), "direct");
        assert_eq!(serde_json::to_value(Direction::In).unwrap(), "in");
        assert_eq!(EventTopic::parse("delivery"), Ok(EventTopic::Delivery));
    }
}
