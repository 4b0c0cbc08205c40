//! Domain types of the node: ids, statuses, refusals and their rules.
//!
//! The store maps rows to these types, transactions decide with them, and the local API converts
//! from them. `as_str` returns the text of an enum in the database and in the API; `parse` reads
//! it.
//!
//! Invites and messages have two kinds of id:
//!
//! | id | example | scope |
//! |---|---|---|
//! | [`InviteId`], [`MessageId`] | `INV-1111-2222-3333` | this node: local API, CLI and database |
//! | [`InviteKey`], [`MessageUuid`] | 16 random bytes | wire: the same at both peers |
//!
//! A message has one [`MessageUuid`], and one [`MessageId`] for each chat that shows it. The
//! database row has a third number, [`MessageRowId`], which never leaves the node.

mod enums;
mod file;
mod id;
mod order;
mod reading;
mod refusal;

pub use enums::{
    ChatType, ConnectionStatus, ConnectionWarning, ContentType, Direction, EventTopic, HealthState,
    InviteKind, InviteStatus, NodeWarning, ParticipantStatus, RelayState, Visibility,
};
pub use file::FileStatus;
pub use id::{
    AttachmentId, ChatId, ConnectionId, FileId, IdKind, InviteId, MessageId, MessageRowId,
    ParseIdError, ParticipantId, UserId, generate_id,
};
pub use order::{DisplayPosition, SenderPosition, assign_life};
pub use reading::read_up_to;
pub use refusal::{Refusal, RefusalCode};
/// Id of an invite on the wire, in contrast to the local [`InviteId`].
pub use sealpost_proto::InviteId as InviteKey;
/// Id of a message on the wire, in contrast to the local [`MessageId`].
pub use sealpost_proto::MessageId as MessageUuid;
