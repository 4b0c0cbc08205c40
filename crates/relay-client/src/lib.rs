//! The relay's API as a node uses it: one method for each route of `docs/protocol.md`, signed, typed and bounded.
//!
//! [`RelayClient`] signs in by itself and again when its session has ended, and follows the relay's clock when the two
//! differ. It never retries for any other reason: when to try again is the outbox's decision. It follows no redirect, uses
//! no proxy, and reads no more of an response than the route allows.
//!
//! Start reading at [`RelayClient`]; how a request is signed and repeated is in `transport`.

#![warn(missing_docs)]

mod account;
mod blobs;
mod deliveries;
mod envelopes;
mod error;
mod mailboxes;
mod transport;

pub use account::StoredCheckpoint;
pub use error::ClientError;
pub use transport::{ProgressCallback, RelayClient, ResponseBody, http_client};

#[cfg(test)]
mod tests;
