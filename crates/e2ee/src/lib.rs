//! End-to-end encryption between two nodes: identities and cards, prekeys, the PQXDH handshake, the
//! Double Ratchet with header encryption, the padded outer envelope, and its content.
//!
//! The crate performs no I/O. Callers pass the time, the random source and stored state as
//! arguments. The relay does not depend on this crate. `docs/e2ee.md` specifies every byte.
//!
//! Start reading at [`sessions::Sessions`], the state of one connection.
//! [`envelope::seal_envelope`] wraps what a session seals, and [`envelope::open_envelope`] unwraps
//! what a node receives. The content is a [`plaintext::Plaintext`] with a body from [`payload`].

#![warn(missing_docs)]

pub mod attachment;
pub mod card;
pub mod checkpoint;
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
pub use checkpoint::{Checkpoint, CheckpointMark};
pub use envelope::{EnvelopeDirection, OuterKey};
pub use keys::{
    ConnId, ExporterSecret, Fingerprint, Identity, Incarnation, InviteSecret, PeerIdentity,
    SessionId,
};
pub use plaintext::{Kind, Plaintext};
pub use prekeys::{PrekeyBundle, PrekeySecrets, Scope};
pub use sessions::Sessions;
