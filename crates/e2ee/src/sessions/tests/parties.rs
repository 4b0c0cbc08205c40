//! The two parties of every test here.

use crate::card::SignedCard;
use crate::keys::{ConnId, Identity, Incarnation};
use crate::plaintext::{Kind, Plaintext};
use crate::prekeys::{BundleId, BundleParameters, PrekeyBundle, PrekeySecrets, Scope};
use crate::sessions::{
    Content, InitReason, InitiateArgs, Initiated, OpenContext, OpenOutcome, OpenedMessage,
    RejectedMessage, Sessions, open_pairing,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_proto::limits::PREKEYS_LIFETIME;
use sealpost_proto::{InviteId, MessageId, Timestamp};

pub(super) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(super) const INVITE: InviteId = InviteId::from_bytes([9; 16]);

/// One party: its identity, its sessions and its bundles.
pub(super) struct Party {
    pub(super) identity: Identity,
    pub(super) card: SignedCard,
    pub(super) sessions: Sessions,
    pub(super) bundles: Vec<PrekeySecrets>,
    pub(super) rng: ChaCha20Rng,
    pub(super) now: Timestamp,
    seq: u64,
}

impl Party {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let identity = Identity::generate(&mut rng);
        let card = identity.sign_card("Party", START).unwrap();
        Self {
            identity,
            card,
            sessions: Sessions::new(),
            bundles: Vec::new(),
            rng,
            now: START,
            seq: 0,
        }
    }

    /// Publishes a new bundle for this scope and returns it as the peer verifies it.
    pub(super) fn publish(&mut self, scope: Scope) -> PrekeyBundle {
        let id = BundleId {
            epoch: self.now.as_millis() + self.bundles.len() as u64,
            spk_id: u32::try_from(self.bundles.len()).unwrap(),
        };
        self.publish_as(scope, id)
    }

    pub(super) fn publish_as(&mut self, scope: Scope, id: BundleId) -> PrekeyBundle {
        let parameters = BundleParameters {
            scope,
            incarnation: Incarnation::NONE,
            epoch: id.epoch,
            spk_id: id.spk_id,
            now: self.now,
            lifetime: PREKEYS_LIFETIME,
        };
        let (secrets, bundle) = PrekeySecrets::generate(&self.identity, &parameters, &mut self.rng);
        self.bundles.push(secrets);
        PrekeyBundle::parse_verified(&bundle, self.identity.public(), &scope).unwrap()
    }

    pub(super) fn initiate(
        &mut self,
        peer: &mut Self,
        conn_id: ConnId,
        reason: InitReason,
    ) -> Initiated {
        let bundle = peer.publish(Scope::connection(&conn_id));
        self.initiate_with(peer, conn_id, reason, &bundle)
    }

    pub(super) fn initiate_with(
        &mut self,
        peer: &Self,
        conn_id: ConnId,
        reason: InitReason,
        bundle: &PrekeyBundle,
    ) -> Initiated {
        let args = InitiateArgs {
            identity: &self.identity,
            peer: peer.identity.public(),
            conn_id,
            bundle,
            reason,
            incarnation: Incarnation::from_bytes([1; 8]),
            resume: None,
            sealed_card: (reason == InitReason::Pairing).then_some(&self.card),
            now: self.now,
        };
        self.sessions.initiate(&args, &mut self.rng).unwrap()
    }

    pub(super) fn plaintext(&mut self, body: &[u8]) -> Plaintext {
        self.seq += 1;
        Plaintext {
            kind: Kind::MESSAGE,
            message_id: MessageId::from_bytes([7; 16]),
            incarnation: Incarnation::from_bytes([1; 8]),
            seq: self.seq,
            sent_at: self.now,
            body: body.to_vec(),
        }
    }

    pub(super) fn seal(&mut self, body: &[u8]) -> Vec<u8> {
        let plaintext = self.plaintext(body);
        self.sessions
            .seal(&plaintext, self.now, &mut self.rng)
            .unwrap()
    }

    pub(super) fn outcome(&self, peer: &Self, conn_id: ConnId, inner: &[u8]) -> OpenOutcome {
        let context = OpenContext {
            identity: &self.identity,
            peer: peer.identity.public(),
            conn_id,
            bundles: &self.bundles,
            now: self.now,
        };
        self.sessions.open(&context, inner)
    }

    /// Opens a message that must open, and commits the state.
    pub(super) fn open_and_commit(
        &mut self,
        peer: &Self,
        conn_id: ConnId,
        inner: &[u8],
    ) -> OpenedMessage {
        let OpenOutcome::Opened(opened) = self.outcome(peer, conn_id, inner) else {
            panic!("did not open")
        };
        self.sessions = opened.sessions.clone();
        *opened
    }

    /// Opens a message that must be rejected, and commits the bookkeeping.
    pub(super) fn reject_and_commit(
        &mut self,
        peer: &Self,
        conn_id: ConnId,
        inner: &[u8],
    ) -> RejectedMessage {
        let OpenOutcome::Rejected(refused) = self.outcome(peer, conn_id, inner) else {
            panic!("opened")
        };
        if let Some(sessions) = &refused.sessions {
            self.sessions = sessions.clone();
        }
        *refused
    }
}

pub(super) fn body(opened: &OpenedMessage) -> &[u8] {
    match &opened.content {
        Content::Plaintext(plaintext) => &plaintext.body,
        Content::Unparseable => panic!("unparseable"),
    }
}

/// Pairs an invitee and an inviter: both sides confirmed, nothing in flight.
pub(super) fn paired(seed: u64) -> (Party, Party, ConnId) {
    let (mut invitee, mut inviter) = (Party::new(seed * 2), Party::new(seed * 2 + 1));
    let conn_id = ConnId::derive(
        invitee.identity.fingerprint(),
        inviter.identity.fingerprint(),
        &INVITE,
    );
    let bundle = inviter.publish(Scope::invite(&INVITE));
    invitee.initiate_with(&inviter, conn_id, InitReason::Pairing, &bundle);
    let request = invitee.seal(b"request");
    let pairing = open_pairing(
        &inviter.identity,
        &INVITE,
        &inviter.bundles,
        &request,
        inviter.now,
    )
    .ok()
    .unwrap();
    inviter.sessions = pairing.sessions;
    let accept = inviter.seal(b"accept");
    assert!(
        invitee
            .open_and_commit(&inviter, conn_id, &accept)
            .is_newly_confirmed
    );
    let receipt = invitee.seal(b"receipt");
    assert!(
        inviter
            .open_and_commit(&invitee, conn_id, &receipt)
            .is_newly_confirmed
    );
    (invitee, inviter, conn_id)
}
