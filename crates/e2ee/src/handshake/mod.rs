//! The PQXDH handshake that starts a session (docs/e2ee.md#handshake).
//!
//! The symbols are those of the specification: A sends the INIT, B owns the prekey bundle.

mod hello;
mod key_schedule;
mod prefix;

use crate::card::SignedCard;
use crate::keys::{ConnId, Identity, Incarnation, PeerIdentity, SessionId};
use crate::payload::Resume;
use crate::prekeys::{PrekeyBundle, PrekeySecrets};
use crate::primitive::{Key, diffie_hellman, generate_secret};
use crate::record::push_lp;
pub(crate) use hello::Hello;
pub use hello::InitReason;
pub(crate) use key_schedule::SessionKeys;
use key_schedule::{SharedSecrets, Transcript, derive_static_key};
use ml_kem::kem::{Decapsulate as _, Encapsulate as _};
pub(crate) use prefix::InitPrefix;
use prefix::{encode_fixed_prefix, push_sealed};
use rand_core::CryptoRng;
use sealpost_proto::Timestamp;
use x25519_dalek::PublicKey;

/// Size of an ML-KEM-768 ciphertext.
const CT_BYTES: usize = 1_088;
/// Size of `AD`: two X25519 keys with a type byte each, and TH.
pub(crate) const AD_BYTES: usize = 33 + 33 + 32;

/// Input for starting a session.
pub struct InitiateArgs<'a> {
    /// This node's identity.
    pub identity: &'a Identity,
    /// The peer's identity.
    pub peer: &'a PeerIdentity,
    /// The connection that the session belongs to.
    pub conn_id: ConnId,
    /// The peer's prekey bundle, verified and fresh.
    pub bundle: &'a PrekeyBundle,
    /// Why the session is started.
    pub reason: InitReason,
    /// This node's incarnation for the connection.
    pub incarnation: Incarnation,
    /// Which of the peer's messages this node has received, if any.
    pub resume: Option<&'a Resume>,
    /// This node's card: required at pairing, and sent until the peer has confirmed a new card by a
    /// receipt.
    pub sealed_card: Option<&'a SignedCard>,
    /// The current time.
    pub now: Timestamp,
}

/// Error when a session cannot be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InitiateError {
    /// A key of the peer is of low order.
    #[error("a key of the peer is not usable")]
    WeakKey,
    /// The INIT of a pairing must carry this node's card.
    #[error("pairing requires a card")]
    CardMissing,
    /// The encoded resume exceeds 256 bytes.
    #[error("resume is too large")]
    ResumeTooLarge,
}

/// Id and EXP of a confirmed session. Both sides retain them to prove continuity in a later one.
#[derive(Clone)]
pub(crate) struct PreviousSession {
    pub(crate) id: SessionId,
    pub(crate) exp: Key,
}

/// The handshake as A leaves it: the INIT's prefix and the derived keys.
pub(crate) struct InitiatorHandshake {
    pub(crate) prefix: Vec<u8>,
    pub(crate) keys: SessionKeys,
}

/// Starts a session as A.
pub(crate) fn start_handshake(
    args: &InitiateArgs<'_>,
    session_epoch: u64,
    previous: Option<&PreviousSession>,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<InitiatorHandshake, InitiateError> {
    let ephemeral = generate_secret(rng);
    let ek = PublicKey::from(&ephemeral).to_bytes();
    let (ct, ss) = args.bundle.pqspk().encapsulate_with_rng(rng);
    let (ct, ss) = (<[u8; CT_BYTES]>::from(ct), Key(ss.into()));
    let weak = InitiateError::WeakKey;
    let dh1 = diffie_hellman(args.identity.agreement_key(), args.bundle.spk()).ok_or(weak)?;
    let dh2 = diffie_hellman(&ephemeral, args.peer.ik_x()).ok_or(weak)?;
    let dh3 = diffie_hellman(&ephemeral, args.bundle.spk()).ok_or(weak)?;
    let transcript = Transcript {
        conn_id: &args.conn_id,
        initiator: args.identity.public(),
        responder: args.peer,
        session_epoch,
        ek: &ek,
        bundle: args.bundle.as_bytes(),
        ct: &ct,
    };
    let keys = SessionKeys::derive(
        &SharedSecrets {
            dh1: &dh1,
            dh2: &dh2,
            dh3: &dh3,
            ss: &ss,
        },
        &transcript,
    );
    let mut prefix = encode_fixed_prefix(args, session_epoch, &ek, &ct);
    match args.sealed_card {
        Some(card) => push_sealed(&mut prefix, &derive_static_key(&dh3, &ss), card.as_bytes()),
        None => push_lp(&mut prefix, b""),
    }
    push_sealed(
        &mut prefix,
        &keys.derive_hello_key(),
        &Hello::encode(args, previous, &keys)?,
    );
    Ok(InitiatorHandshake { prefix, keys })
}

/// The handshake at B before A is known: DH3 and SS.
pub(crate) struct ResponderHandshake<'a> {
    prefix: &'a InitPrefix<'a>,
    identity: &'a Identity,
    secrets: &'a PrekeySecrets,
    dh3: Key,
    ss: Key,
}

impl<'a> ResponderHandshake<'a> {
    /// Derives DH3 and SS. Returns `None` if EK_A is of low order.
    pub(crate) fn new(
        prefix: &'a InitPrefix<'a>,
        identity: &'a Identity,
        secrets: &'a PrekeySecrets,
    ) -> Option<Self> {
        let dh3 = diffie_hellman(secrets.spk(), &prefix.ek)?;
        let ss = Key(secrets
            .decapsulation_key()
            .decapsulate(&(*prefix.ct).into())
            .into());
        Some(Self {
            prefix,
            identity,
            secrets,
            dh3,
            ss,
        })
    }

    /// Opens and verifies the card in `sealed`. Returns `None` if either fails.
    pub(crate) fn open_card(&self) -> Option<SignedCard> {
        let bytes = self
            .prefix
            .sealed
            .open(&derive_static_key(&self.dh3, &self.ss))?;
        SignedCard::parse_verified(&bytes).ok()
    }

    /// Derives the session keys with A and opens `hello`. Returns `None` if either fails.
    pub(crate) fn finish(
        &self,
        peer: &PeerIdentity,
        conn_id: &ConnId,
    ) -> Option<(SessionKeys, Hello)> {
        let dh1 = diffie_hellman(self.secrets.spk(), peer.ik_x())?;
        let dh2 = diffie_hellman(self.identity.agreement_key(), &self.prefix.ek)?;
        let transcript = Transcript {
            conn_id,
            initiator: peer,
            responder: self.identity.public(),
            session_epoch: self.prefix.session_epoch,
            ek: &self.prefix.ek,
            bundle: self.secrets.bundle(),
            ct: self.prefix.ct,
        };
        let secrets = SharedSecrets {
            dh1: &dh1,
            dh2: &dh2,
            dh3: &self.dh3,
            ss: &self.ss,
        };
        let keys = SessionKeys::derive(&secrets, &transcript);
        let hello = self.prefix.hello.open(&keys.derive_hello_key())?;
        Some((keys, Hello::parse(&hello).ok()?))
    }
}
