//! Connection with all its secrets: one value that is loaded, changed and committed as a whole.
//! The caller must load, change and commit it within one job of the database's single writer.
//!
//! | phase | event | next phase |
//! |---|---|---|
//! | (none) | we use an invite: [`Connection::request`] | `RequestSent` |
//! | (none) | a request arrives at our invite: [`Connection::receive_request`] | `RequestReceived` |
//! | `RequestSent` | `connection.accept` arrives | `Accepted` |
//! | `RequestSent` | `connection.reject` arrives | `Rejected` |
//! | `RequestReceived` | a person accepts: [`Connection::accept`] | `Accepting` |
//! | `RequestReceived` | a person rejects: [`Connection::reject`] | `Rejected` |
//! | `Accepting` | a receipt or any message other than a request arrives | `Accepted` |
//! | any but `Blocked` | a person blocks: [`Connection::block`] | `Blocked` |
//!
//! Messages are sent in `Accepted` only. `Blocked` is final, and from `Rejected` only a block is
//! possible.

mod codec;
mod healing;
mod pairing;
mod receive;
mod received_seqs;
mod repair;
mod send;

pub use codec::ParseConnectionError;
pub use healing::StartSessionError;
pub use pairing::{
    AcceptError, ReceivedRequest, RequestArgs, RequestError, SentRequest, truncate_note,
};
pub use receive::{
    Event, Incoming, MessageMetadata, OpenedEnvelope, RejectedEnvelope, StartedSession,
};
pub use received_seqs::ReceivedSeqs;
pub use repair::{RepairRate, ScheduledRepair};
pub use send::{FirstSealing, Outgoing, SealRefusal, SealedEnvelope};

use crate::prekey_bundles::add_bundle;
use rand_core::CryptoRng;
use sealpost_e2ee::{
    ConnId, EnvelopeDirection, ExporterSecret, Identity, Incarnation, InviteSecret, OuterKey,
    PeerIdentity, PrekeySecrets, Scope, Sessions,
    payload::Capability,
    prekeys::{BundleId, BundleParameters, SealedPrekeysKey, next_epoch, seal_prekeys},
};
use sealpost_proto::{InviteId, MailboxId, MailboxRef, MessageId, SendKey, Timestamp, limits};

/// This node's role in the pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This node created the invite and decides about the request.
    Inviter,
    /// This node used the invite and sent the request (`invitee` in docs/e2ee.md).
    Invitee,
}

impl Role {
    /// Returns the direction of envelopes that this side receives.
    #[must_use]
    pub const fn inbound(self) -> EnvelopeDirection {
        match self {
            Self::Inviter => EnvelopeDirection::InviteeToInviter,
            Self::Invitee => EnvelopeDirection::InviterToInvitee,
        }
    }

    /// Returns the direction of envelopes that this side sends.
    #[must_use]
    pub const fn outbound(self) -> EnvelopeDirection {
        match self {
            Self::Inviter => EnvelopeDirection::InviterToInvitee,
            Self::Invitee => EnvelopeDirection::InviteeToInviter,
        }
    }
}

/// Phase of the pairing; the module documentation has the table of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// We sent a request and wait for the response.
    RequestSent,
    /// The peer sent a request; a person has to accept or reject it.
    RequestReceived,
    /// We accepted; the peer has not confirmed it.
    Accepting,
    /// Both sides know that the request was accepted.
    Accepted,
    /// One side rejected the request.
    Rejected,
    /// A person on this side blocked the peer; our mailbox is closed.
    Blocked,
}

impl Phase {
    /// Every phase, in lifecycle order.
    pub const ALL: [Self; 6] = [
        Self::RequestSent,
        Self::RequestReceived,
        Self::Accepting,
        Self::Accepted,
        Self::Rejected,
        Self::Blocked,
    ];
}

/// Mailbox of this node for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnMailbox {
    /// Id at our relay.
    pub id: MailboxId,
    /// Key that permits the peer to post to the mailbox.
    pub send_key: SendKey,
}

/// Mailbox of the invite: the destination of our request until the peer's own mailbox is known.
#[derive(Clone)]
pub struct InviteMailbox {
    /// Address of the mailbox.
    pub mailbox: MailboxRef,
    /// Invite's secret, from which the outer key is derived.
    pub secret: InviteSecret,
    /// Key that permits us to post to the mailbox.
    pub send_key: SendKey,
    /// When the invite expires, and the request with it.
    pub expires_at: Option<Timestamp>,
}

/// New prekey bundle that the caller publishes in our mailbox at the relay. During pairing the
/// mailbox must be opened too, before its capability is sent to the peer.
#[derive(Debug, Clone)]
pub struct PrekeyPublication {
    /// Mailbox to publish in.
    pub mailbox: OwnMailbox,
    /// Sealed prekey bundle to publish.
    pub sealed_bundle: [u8; limits::SEALED_PREKEYS_BYTES],
}

/// State and secrets of one connection.
#[derive(Clone)]
pub struct Connection {
    /// Which side of the pairing this node is.
    pub role: Role,
    /// Phase of the pairing.
    pub phase: Phase,
    /// Invite from which the connection was created.
    pub invite_id: InviteId,
    /// Id of the connection, the same on both sides.
    pub conn_id: ConnId,
    /// Verified public identity of the peer.
    pub peer: PeerIdentity,
    /// Secret from which the keys of both mailboxes are derived; never changes.
    pub exp_pairing: ExporterSecret,
    /// Our mailbox, once it exists.
    pub own_mailbox: Option<OwnMailbox>,
    /// Mailbox of the peer, once known.
    pub peer_mailbox: Option<Capability>,
    /// Destination of the request until the mailbox of the peer is known.
    pub invite_mailbox: Option<InviteMailbox>,
    /// Id of our `connection.accept` until its receipt arrives.
    pub accept_id: Option<MessageId>,
    /// Ratchet sessions with the peer.
    pub sessions: Sessions,
    /// Secrets of our prekey bundles that an INIT may still use.
    pub bundles: Vec<PrekeySecrets>,
    /// Bundles that an INIT has used; their secrets are deleted once its session is confirmed.
    pub used_bundles: Vec<BundleId>,
    /// Epoch and number of our latest bundle.
    pub latest_bundle: BundleId,
    /// Whether the peer has started a session with a bundle of our mailbox.
    pub has_used_own_bundle: bool,
    /// Highest epoch of any bundle of the peer that we used.
    pub peer_bundle_epoch: u64,
    /// Incarnation that this node generated for the connection.
    pub incarnation: Incarnation,
    /// Sequence number of the next message that this node seals.
    pub next_seq: u64,
    /// Numbers of the peer's messages that arrived.
    pub received_seqs: ReceivedSeqs,
    /// When the sessions were discarded after a restore from a backup, if ever.
    pub recovered_at: Option<Timestamp>,
    /// Rate of the sessions that this node starts because an envelope cannot be opened.
    pub session_repairs: RepairRate,
    /// Rate of the requests to the peer to send messages again.
    pub resume_repairs: RepairRate,
    /// Rate of the occasions on which the peer makes this node send again.
    pub answers: RepairRate,
}

impl Connection {
    /// Derives the outer key of the envelopes in our mailbox.
    pub(crate) fn inbound_key(&self) -> OuterKey {
        OuterKey::for_mailbox(&self.exp_pairing, self.role.inbound())
    }

    /// Generates a new prekey bundle for our mailbox, stores its secrets and seals it for the
    /// relay. Returns `None` if we have no mailbox. The caller publishes the result.
    pub fn renew_prekeys(
        &mut self,
        identity: &Identity,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Option<PrekeyPublication> {
        let mailbox = self.own_mailbox.clone()?;
        let parameters = BundleParameters {
            scope: Scope::connection(&self.conn_id),
            incarnation: self.incarnation,
            epoch: next_epoch(self.latest_bundle.epoch, now),
            spk_id: self.latest_bundle.spk_id.wrapping_add(1),
            now,
            lifetime: limits::PREKEYS_LIFETIME,
        };
        let (secrets, bundle) = PrekeySecrets::generate(identity, &parameters, rng);
        let key = SealedPrekeysKey::for_mailbox(&self.exp_pairing, self.role.inbound());
        let sealed_bundle = seal_prekeys(&key, &mailbox.id, None, &bundle, rng).ok()?;
        add_bundle(&mut self.bundles, secrets, now);
        self.latest_bundle = BundleId {
            epoch: parameters.epoch,
            spk_id: parameters.spk_id,
        };
        Some(PrekeyPublication {
            mailbox,
            sealed_bundle,
        })
    }

    /// Whether our prekey bundle has reached [`limits::PREKEYS_ROTATION_INTERVAL`] and the peer may
    /// still use it, so that it is due for replacement although no INIT used it.
    #[must_use]
    pub fn is_bundle_rotation_due(&self, now: Timestamp) -> bool {
        let is_in_use = matches!(
            self.phase,
            Phase::RequestSent | Phase::Accepting | Phase::Accepted
        );
        is_in_use
            && now.since(Timestamp::from_millis(self.latest_bundle.epoch))
                >= limits::PREKEYS_ROTATION_INTERVAL
    }

    /// Blocks the peer permanently. The caller closes our mailbox at the relay.
    pub fn block(&mut self) {
        self.phase = Phase::Blocked;
    }
}

#[cfg(test)]
mod tests;
