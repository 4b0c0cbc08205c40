//! The shapes of the local API, as `docs/local-api.md` fixes them: camelCase, sizes in bytes, times as [`Iso`]. The
//! API's handlers write them and the CLI reads them. Ids are text here, because here is where they are written down.

use super::iso::Iso;
pub use sealpost_node_core::model::{
    ChatType, ConnectionStatus, Direction, EventTopic, FileStatus as AttachmentStatus, HealthState,
    InviteKind, InviteStatus, ParticipantStatus, RelayState, Visibility,
};
use sealpost_proto::DeliveryStatus;
use serde::{Deserialize, Serialize};

mod chat;
mod file;
mod message;
mod node;
mod request;
mod transfer;

pub use chat::*;
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
    /// What to pass as `after` for the following page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// When a resource was made and last changed, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The first revision.
    pub created: Stamp,
    /// The present revision.
    pub updated: Stamp,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When.
    pub at: Iso,
    /// The user or contact; `null` when the node itself did it.
    pub by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_delivery_is_camel_case_without_what_it_has_not() {
        let json = json!({
            "message": "CMG-1111-2222-3333-00001", "connection": "CON-1", "contact": "Bolt", "status": "retrying",
            "healing": false, "reason": "connection refused", "attempts": 2,
            "nextAttemptAt": "2026-11-20T14:05:00.000Z", "pendingAt": "2026-11-20T14:04:00.000Z"
        });
        let delivery: Delivery = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(delivery.status, DeliveryStatus::Retrying);
        assert_eq!(serde_json::to_value(&delivery).unwrap(), json);
    }

    #[test]
    fn a_request_with_an_unknown_field_is_refused() {
        let typo = json!({"to": ["Bolt"], "content": "x", "attachment": ["ATC-1"]});
        assert!(serde_json::from_value::<SendMessage>(typo).is_err());
        let least: SendMessage =
            serde_json::from_value(json!({"to": ["Bolt"], "content": "x"})).unwrap();
        assert!(least.attachments.is_empty() && !least.action_required);
    }

    #[test]
    fn direct_is_the_only_type_of_chat_yet() {
        assert_eq!(serde_json::to_value(ChatType::Direct).unwrap(), "direct");
        assert_eq!(serde_json::to_value(Direction::In).unwrap(), "in");
        assert_eq!(EventTopic::parse("delivery"), Ok(EventTopic::Delivery));
    }
}
