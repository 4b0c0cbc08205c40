//! Client of the relay's API for nodes, with one typed method per route of `docs/protocol.md`.
//!
//! [`RelayClient`] signs in automatically, renews expired sessions, and adopts the relay's clock
//! when the clocks differ. It does not retry for any other reason: that is the outbox's decision.
//! It follows no redirects, uses no proxy, and reads no more of a response than the route allows.
//!
//! Start reading at [`RelayClient`]; `transport` signs and repeats requests.

#![warn(missing_docs)]
#![expect(
    clippy::disallowed_methods,
    reason = "the client measures responses and limits the rate of requests"
)]

mod account;
mod blobs;
mod deliveries;
mod envelopes;
mod error;
mod mailboxes;
mod request_limit;
mod transport;

pub use account::StoredCheckpoint;
pub use deliveries::PulledBatch;
pub use error::{ClientError, RequestLoss};
pub use transport::{ProgressCallback, RelayClient, ResponseBody, build_http_client};

#[cfg(test)]
mod tests;
