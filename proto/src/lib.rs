//! The words of Sealpost: ids, statuses and their legal moves, limits, error codes and wire types.
//!
//! Floor 0 of the house: everything else may use these words, and they use nothing of ours. Nothing here touches a
//! disk, a socket, a clock or a random source, and nothing here encrypts.
//!
//! Start reading at [`status`], then [`wire`]. The routes these types travel on are in `docs/protocol.md`.

#![warn(missing_docs)]

pub mod b64;
pub mod backoff;
pub mod blob;
pub mod error;
pub mod ids;
pub mod limits;
pub mod origin;
#[cfg(feature = "openapi")]
pub mod schema;
pub mod secret;
pub mod status;
pub mod time;
pub mod wire;

pub use b64::B64;
pub use blob::BlobSize;
pub use error::{ErrorCode, Problem};
pub use ids::{
    AccountId, BlobId, BlobRef, DeliveryId, EnvelopeId, InviteId, MailboxId, MailboxRef, MessageId,
};
pub use origin::Origin;
pub use secret::{FetchToken, SendKey, SessionKey, WebhookSecret};
pub use status::{DeliveryStatus, EnvelopeState, FailureCode};
pub use time::Timestamp;
