//! Authentication between nodes and relays: HTTP Message Signatures (RFC 9421) with account and
//! session keys, proofs for mailboxes, and Standard Webhooks.
//!
//! The crate is pure: times, random bytes and keys are arguments. Secrets are compared in constant
//! time and never printed. Start reading at [`request`]; `docs/protocol.md` specifies which key
//! signs what.

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
