//! The vocabulary of the node: ids, statuses, refusals, and the rules over them.
//!
//! The store maps rows to these types, transactions decide with them, and the local API converts
//! from them. Enums are stored and shown as `as_str` returns them, and read by `parse`.

mod enums;
mod file;
mod id;
mod reading;
mod refusal;

pub use enums::{
    ChatType, ConnectionStatus, ContentType, Direction, EventTopic, HealthState, InviteKind,
    InviteStatus, ParticipantStatus, RelayState, Visibility,
};
pub use file::FileStatus;
pub use id::{
    AttachmentId, ChatId, ConnectionId, FileId, IdKind, InviteId, MessageId, MessageKey,
    ParseIdError, ParticipantId, UserId, generate_id,
};
pub use reading::{DisplayPosition, read_up_to};
pub use refusal::{Refusal, RefusalCode};
/// The id of an invite inside the encryption and at the relay, in contrast to [`InviteId`].
pub use sealpost_proto::InviteId as InviteKey;
/// The id of a message inside the encryption, the same on both sides, in contrast to [`MessageId`].
pub use sealpost_proto::MessageId as MessageUuid;
