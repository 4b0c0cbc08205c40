//! Shared vocabulary of Sealpost: ids, statuses and their transitions, limits, error codes and wire
//! types.
//!
//! This is the lowest layer: every other crate may depend on it, and it depends on none of them. It
//! does no I/O, reads no clock, generates no random numbers and does not encrypt.
//!
//! Start reading at [`status`], then [`wire`]. The routes that carry these types are in
//! `docs/protocol.md`.

#![warn(missing_docs)]

pub mod b64;
pub mod backoff;
pub mod batch_size;
pub mod blob;
pub mod error;
pub mod ids;
pub mod limits;
pub mod origin;
#[cfg(feature = "openapi")]
pub mod schema;
pub mod secret;
pub mod status;
pub mod string_enum;
pub mod time;
pub mod webhook_url;
pub mod wire;

pub use b64::B64;
pub use batch_size::BatchSize;
pub use blob::BlobSize;
pub use error::{ErrorCode, Problem};
pub use ids::{
    AccountId, BlobId, BlobRef, DeliveryId, EnvelopeId, InviteId, MailboxId, MailboxRef, MessageId,
};
pub use origin::Origin;
pub use secret::{FetchToken, SendKey, SessionKey, WebhookSecret};
pub use status::{DeliveryStatus, EnvelopeState, FailureCode};
pub use time::Timestamp;
pub use webhook_url::WebhookUrl;
