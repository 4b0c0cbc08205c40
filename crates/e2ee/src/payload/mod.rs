//! The body of each kind of plaintext: CBOR maps with integer keys (docs/e2ee.md#payloads).
//!
//! Versions may differ: a reader skips unknown keys and stores the body as received; a node stores
//! a body of an unknown kind, sends a receipt and otherwise ignores it.

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
pub use resend::{AttachmentRequest, AttachmentResponse, Resend, Resume, Void};

/// Error when a body does not match its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not a CBOR map of definite length with ascending integer keys, or an entry of the wrong
    /// type.
    #[error("malformed payload")]
    Malformed,
    /// A required entry is missing.
    #[error("the payload has no entry {key}")]
    Missing {
        /// The key of the entry.
        key: u8,
    },
    /// A text or byte string exceeds its limit.
    #[error("an entry of the payload exceeds {limit_bytes} bytes")]
    TooLong {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// A list exceeds its limit.
    #[error("too many items in entry {key} of the payload")]
    TooMany {
        /// The key of the entry.
        key: u8,
    },
    /// The descriptor of an attachment is invalid.
    #[error("the payload has an invalid attachment")]
    Attachment,
}

impl From<minicbor::decode::Error> for PayloadError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
mod tests;
