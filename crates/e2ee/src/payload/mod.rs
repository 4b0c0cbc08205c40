//! The body of each kind of event: CBOR maps with integer keys (docs/e2ee.md#payloads).
//!
//! A reader skips keys that it does not know, and keeps the body as it came; a node keeps, receipts and skips kinds that it does
//! not know. So versions can differ.

mod cbor;
mod chat;
mod connection;
mod message;
mod receipt;
mod resend;

pub use chat::{Chat, ChatEvent, Profile};
pub use connection::{
    Capability, ConnectionAccept, ConnectionMoved, ConnectionReject, ConnectionRequest,
};
pub use message::{Author, ChatId, ContentType, Edit, Link, Message, Reaction, Retract};
pub use receipt::{Probe, Receipt, ReceiptKind};
pub use resend::{AttachmentRequest, Resend, Resume, Void};

/// Why a body is not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not a definite map with ascending integer keys, or an entry of another type.
    #[error("malformed payload")]
    Malformed,
    /// An entry that every payload of this kind has is not there.
    #[error("payload without entry {key}")]
    Missing {
        /// Its key.
        key: u8,
    },
    /// A text or byte string is over its limit.
    #[error("an entry of the payload is too long, limit {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// A list is over its limit.
    #[error("too many items in entry {key} of the payload")]
    TooMany {
        /// Its key.
        key: u8,
    },
    /// A descriptor of an attachment is refused.
    #[error("refused attachment in the payload")]
    Attachment,
}

impl From<minicbor::decode::Error> for PayloadError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
mod tests;
