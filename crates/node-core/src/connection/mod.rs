//! One connection with all that is secret about it, as one value: loaded, stepped and committed as a whole. The caller
//! holds the connection's lock (its row, in the one writer) from load to commit.
//!
//! | phase | event | next phase |
//! |---|---|---|
//! | (none) | we take up an invite: [`Connection::request`] | `RequestSent` |
//! | (none) | a request arrives at our invite: [`Connection::receive_request`] | `RequestReceived` |
//! | `RequestSent` | `connection.accept` arrives | `Accepted` |
//! | `RequestSent` | `connection.reject` arrives | `Rejected` |
//! | `RequestReceived` | a person says yes: [`Connection::accept`] | `Accepting` |
//! | `RequestReceived` | a person says no: [`Connection::reject`] | `Rejected` |
//! | `Accepting` | the accept is receipted, or anything but a request arrives | `Accepted` |
//! | any but `Blocked` | a person blocks: [`Connection::block`] | `Blocked` |
//!
//! Only in `Accepted` do messages flow. `Rejected` and `Blocked` are final.

mod codec;
mod pairing;
mod receive;
mod send;

pub use codec::ParseConnectionError;
pub use pairing::{
    AcceptError, ReceivedRequest, RequestArgs, RequestError, SentRequest, truncate_note,
};
pub use receive::{Event, Frame, Incoming, Opened, Unopened};
pub use send::{Outgoing, SealRefusal, Sealed};

use rand_core::CryptoRng;
use sealpost_e2ee::{
    ConnId, EnvelopeDirection, ExpPairing, Identity, Incarnation, InviteSecret, OuterKey,
    PeerIdentity, PrekeySecrets, Scope, Sessions,
    payload::Capability,
    prekeys::{
        BaseId, BaseParameters, PrekeyBase, SealedPrekeysKey, next_epoch, open_prekeys,
        seal_prekeys,
    },
    sessions::{InitReason, InitiateArgs},
};
use sealpost_proto::{InviteId, MailboxId, MailboxRef, MessageId, SendKey, Timestamp, limits};

/// Which side of the pairing this node was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It made the invite.
    Inviter,
    /// It took the invite up.
    Acceptor,
}

impl Role {
    /// The direction of envelopes that this side receives.
    #[must_use]
    pub const fn inbound(self) -> EnvelopeDirection {
        match self {
            Self::Inviter => EnvelopeDirection::AcceptorToInviter,
            Self::Acceptor => EnvelopeDirection::InviterToAcceptor,
        }
    }

    /// The direction of envelopes that this side sends.
    #[must_use]
    pub const fn outbound(self) -> EnvelopeDirection {
        match self {
            Self::Inviter => EnvelopeDirection::InviterToAcceptor,
            Self::Acceptor => EnvelopeDirection::AcceptorToInviter,
        }
    }
}

/// How far the pairing has come; the table stands at the top of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// We asked and wait for the answer.
    RequestSent,
    /// The peer asked; a person has to answer.
    RequestReceived,
    /// We said yes; the peer has not confirmed that it knows.
    Accepting,
    /// Both know.
    Accepted,
    /// One side said no.
    Rejected,
    /// We closed our mailbox.
    Blocked,
}

impl Phase {
    /// Every phase, in the order of life.
    pub const ALL: [Self; 6] = [
        Self::RequestSent,
        Self::RequestReceived,
        Self::Accepting,
        Self::Accepted,
        Self::Rejected,
        Self::Blocked,
    ];
}

/// A mailbox of ours and the key that lets the peer post to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnMailbox {
    /// Its id at our relay.
    pub id: MailboxId,
    /// Its send key.
    pub send_key: SendKey,
}

/// Where the request goes while there is no mailbox of the peer's yet: the invite's.
#[derive(Clone)]
pub struct Rendezvous {
    /// The invite's mailbox.
    pub mailbox: MailboxRef,
    /// The invite's secret.
    pub secret: InviteSecret,
    /// The key of the invite's mailbox.
    pub send_key: SendKey,
    /// When the invite ends, and the request with it.
    pub expires_at: Option<Timestamp>,
}

/// What the relay has to be told before a capability is handed out: open the mailbox, publish the base.
#[derive(Debug, Clone)]
pub struct PrekeyPublication {
    /// Our mailbox.
    pub mailbox: OwnMailbox,
    /// The sealed base, for the relay.
    pub sealed_base: [u8; limits::SEALED_PREKEYS_BYTES],
}

/// All that is secret about one connection.
#[derive(Clone)]
pub struct Connection {
    /// Which side we were.
    pub role: Role,
    /// How far the pairing has come.
    pub phase: Phase,
    /// The invite it came from.
    pub invite_id: InviteId,
    /// Its name, the same on both sides.
    pub conn_id: ConnId,
    /// Who is on the other side.
    pub peer: PeerIdentity,
    /// Keys the two mailboxes; never changes.
    pub exp_pairing: ExpPairing,
    /// Our mailbox, once there is one.
    pub inbound: Option<OwnMailbox>,
    /// The peer's mailbox, once we know it.
    pub outbound: Option<Capability>,
    /// How the request travels, while there is no other rendezvous.
    pub rendezvous: Option<Rendezvous>,
    /// The id of our `connection.accept`, while it is not receipted.
    pub accept_id: Option<MessageId>,
    /// The ratchets.
    pub sessions: Sessions,
    /// Secrets of the bases in our mailbox that an INIT may still use.
    pub bases: Vec<PrekeySecrets>,
    /// Bases that an INIT has used; their secrets go when its session is confirmed.
    pub used_bases: Vec<BaseId>,
    /// The epoch and number of our latest base.
    pub latest_base: BaseId,
    /// The highest epoch seen on a base of the peer's.
    pub peer_base_epoch: u64,
    /// Our incarnation.
    pub incarnation: Incarnation,
    /// The next number in our count.
    pub next_seq: u64,
    /// The peer's incarnation, once it is known.
    pub peer_incarnation: Option<Incarnation>,
}

/// Why no new session could be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// What lay at the relay is no base of the peer's for this connection, or too old.
    #[error("the peer's prekeys cannot be used")]
    Prekeys,
    /// The connection has no mailbox of the peer's.
    #[error("the connection is not accepted")]
    NotAccepted,
}

impl Connection {
    /// The key of envelopes in our mailbox.
    pub(crate) fn inbound_key(&self) -> OuterKey {
        OuterKey::for_mailbox(&self.exp_pairing, self.role.inbound())
    }

    /// Draws a new base for our mailbox, keeps its secrets and seals it for the relay. `None` while we have no mailbox.
    pub fn publish_base(
        &mut self,
        me: &Identity,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Option<PrekeyPublication> {
        let mailbox = self.inbound.clone()?;
        let terms = BaseParameters {
            scope: Scope::connection(&self.conn_id),
            incarnation: self.incarnation,
            epoch: next_epoch(self.latest_base.epoch, now),
            spk_id: self.latest_base.spk_id.wrapping_add(1),
            now,
            lifetime: limits::PREKEYS_LIFETIME,
        };
        let (secrets, base) = PrekeySecrets::generate(me, &terms, rng);
        let key = SealedPrekeysKey::for_mailbox(&self.exp_pairing, self.role.inbound());
        let sealed_base = seal_prekeys(&key, &mailbox.id, None, &base, rng).ok()?;
        self.bases
            .retain(|base| base.not_after().plus(limits::ENVELOPE_LIFETIME_MAX) > now);
        self.bases.push(secrets);
        self.latest_base = BaseId {
            epoch: terms.epoch,
            spk_id: terms.spk_id,
        };
        Some(PrekeyPublication {
            mailbox,
            sealed_base,
        })
    }

    /// Whether our base should be replaced though nobody used it.
    #[must_use]
    pub fn is_base_old(&self, now: Timestamp) -> bool {
        let flows = matches!(
            self.phase,
            Phase::RequestSent | Phase::Accepting | Phase::Accepted
        );
        flows
            && now.since(Timestamp::from_millis(self.latest_base.epoch))
                >= limits::PREKEYS_ROTATION_INTERVAL
    }

    /// Whether the session should be replaced.
    #[must_use]
    pub fn is_rotation_due(&self, me: &Identity, now: Timestamp) -> bool {
        self.phase == Phase::Accepted
            && self
                .sessions
                .is_rotation_due(now, me.fingerprint() < self.peer.fingerprint())
    }

    /// Starts a new session with the peer's base as it lay at the relay; the next message carries its INIT.
    ///
    /// # Errors
    /// [`RotateError`]; then the old session goes on.
    pub fn rotate(
        &mut self,
        me: &Identity,
        sealed_base: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), RotateError> {
        let outbound = self.outbound.as_ref().ok_or(RotateError::NotAccepted)?;
        let key = SealedPrekeysKey::for_mailbox(&self.exp_pairing, self.role.outbound());
        let (_, base) = open_prekeys(&key, &outbound.mailbox.id, sealed_base)
            .map_err(|_| RotateError::Prekeys)?;
        let scope = Scope::connection(&self.conn_id);
        let base = PrekeyBase::parse_verified(&base, &self.peer, &scope)
            .map_err(|_| RotateError::Prekeys)?;
        base.check_fresh(now, self.peer_base_epoch)
            .map_err(|_| RotateError::Prekeys)?;
        let args = InitiateArgs {
            me,
            peer: &self.peer,
            conn_id: self.conn_id,
            base: &base,
            reason: InitReason::Rotate,
            incarnation: self.incarnation,
            resume: None,
            sealed_card: None,
            now,
        };
        self.sessions
            .initiate(&args, rng)
            .map_err(|_| RotateError::Prekeys)?;
        self.peer_base_epoch = base.base_id().epoch;
        Ok(())
    }

    /// Closes the connection for good. The caller closes our mailbox at the relay.
    pub fn block(&mut self) {
        self.phase = Phase::Blocked;
    }
}

#[cfg(test)]
mod tests;
