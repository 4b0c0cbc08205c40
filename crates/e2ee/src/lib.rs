//! End-to-end encryption between two nodes: identities and their cards, prekeys, the PQXDH handshake, the Double
//! Ratchet with header encryption, the padded outer envelope, and what stands inside it.
//!
//! Nothing here reads a clock, draws randomness by itself or touches a disk or socket: time, random source and stored
//! state are arguments, results are values. The relay never depends on this crate. Every byte is fixed in
//! `docs/e2ee.md`.
//!
//! Start reading at [`sessions::Sessions`], the state of one connection: what it seals goes through
//! [`envelope::seal_envelope`], what arrives through [`envelope::open_envelope`], and what it carries is a
//! [`plaintext::Plaintext`] with a body from [`payload`].

#![warn(missing_docs)]

pub mod attachment;
pub mod card;
pub mod envelope;
pub mod invite;
pub mod keys;
pub mod payload;
pub mod plaintext;
pub mod prekeys;
pub mod safety_number;
pub mod sessions;
pub mod vault;

mod handshake;
mod padme;
mod primitive;
mod ratchet;
mod record;

pub use card::{Card, CardError, SignedCard};
pub use envelope::{EnvelopeDirection, OuterKey};
pub use keys::{
    ConnId, ExpPairing, Fingerprint, Identity, Incarnation, InviteSecret, PeerIdentity, SessionId,
};
pub use plaintext::{Kind, Plaintext};
pub use prekeys::{PrekeyBase, PrekeySecrets, Scope};
pub use sessions::Sessions;
