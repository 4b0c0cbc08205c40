//! How a relay knows who asks, and a node who calls: HTTP Message Signatures (RFC 9421) with account and session keys,
//! proofs for mailboxes, and Standard Webhooks.
//!
//! Pure: times, random bytes and keys come in as arguments. Comparisons of secrets take constant time, and nothing secret
//! has `Debug`. Start reading at [`request`]; what is signed when is in `docs/protocol.md`.

#![warn(missing_docs)]

pub mod account;
mod mac;
pub mod proofs;
pub mod request;
pub mod session;
pub mod webhook;

pub use account::AccountKey;
pub use request::{
    ContentDigest, Nonce, ReceivedSignature, RequestParts, SignatureError, SignedHeaders, Signer,
};
pub use session::{RelaySecret, SessionId};
