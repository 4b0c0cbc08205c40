//! Request and response bodies between a node and a relay, as specified in `docs/protocol.md`: JSON
//! in snake_case, with bytes and ids as base64url without padding. Readers ignore unknown fields.

mod account;
mod blobs;
mod deliveries;
mod envelopes;
mod mailboxes;

pub use account::*;
pub use blobs::*;
pub use deliveries::*;
pub use envelopes::*;
pub use mailboxes::*;

/// Request header with the proof for a mailbox, base64url of 16 bytes.
pub const PROOF_HEADER: &str = "sealpost-proof";
/// Request header with the Unix milliseconds that a proof for reading prekeys covers.
pub const PROOF_TIME_HEADER: &str = "sealpost-proof-time";
/// Request header with a blob's fetch token, base64url of 32 bytes.
pub const FETCH_TOKEN_HEADER: &str = "sealpost-fetch-token";
/// The `tag` parameter of every request signature.
pub const SIGNATURE_TAG: &str = "sealpost";
/// The protocol version in `/.well-known/sealpost`.
pub const PROTOCOL_VERSION: u32 = 1;
