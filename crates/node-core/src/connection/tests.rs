use super::*;
use crate::issued_invite::IssuedInvite;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use sealpost_e2ee::{
    OuterKey,
    envelope::open_envelope,
    invite::{Invite, InviteKind},
    payload::{Message, Receipt, ReceiptKind},
    plaintext::Kind,
    sessions::{InitReason, RejectReason, Remedy},
};
use sealpost_proto::{MailboxRef, Origin};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_766_000_000_000);

struct World {
    rng: ChaCha20Rng,
    relay: Origin,
    acme: Identity,
    bolt: Identity,
    issued: IssuedInvite,
    sealed_prekeys: Vec<u8>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let relay = Origin::parse("https://relay.example").unwrap();
        let (acme, bolt) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
        let mailbox = MailboxRef {
            relay: relay.clone(),
            id: MailboxId::from_bytes([1; 16]),
        };
        let kind = InviteKind::SingleUse {
            expires: NOW.plus(limits::INVITE_LIFETIME_DEFAULT),
        };
        let mut issued = IssuedInvite::new(Invite::generate(
            kind,
            mailbox,
            *acme.fingerprint(),
            &mut rng,
        ));
        let card = acme.sign_card("Acme", NOW).unwrap();
        let sealed = issued
            .generate_bundle(&acme, &card, limits::INVITE_LIFETIME_DEFAULT, NOW, &mut rng)
            .unwrap();
        let issued = IssuedInvite::parse(&issued.encode()).unwrap();
        Self {
            rng,
            relay,
            acme,
            bolt,
            issued,
            sealed_prekeys: sealed.to_vec(),
        }
    }

    fn request(&mut self) -> SentRequest {
        let card = self.bolt.sign_card("Bolt", NOW).unwrap();
        let args = RequestArgs {
            identity: &self.bolt,
            card: &card,
            relay: &self.relay,
            invite: &self.issued.invite,
            sealed_prekeys: &self.sealed_prekeys,
            note: Some("hello".to_owned()),
            now: NOW,
        };
        Connection::request(&args, &mut self.rng).unwrap()
    }

    fn seal(
        &mut self,
        connection: &mut Connection,
        kind: Kind,
        id: u8,
        body: &[u8],
    ) -> SealedEnvelope {
        *connection = Connection::parse(&connection.encode()).unwrap();
        let outgoing = outgoing(kind, id, body);
        connection.seal(&outgoing, NOW, &mut self.rng).unwrap()
    }

    fn received(&mut self, envelope: &[u8]) -> Option<ReceivedRequest> {
        let key = OuterKey::for_invite(self.issued.invite.secret());
        let inner = open_envelope(&key, &self.issued.invite.mailbox().id, envelope).unwrap();
        Connection::receive_request(
            &self.acme,
            &self.issued.invite,
            &self.issued.bundles,
            &inner,
            NOW,
            &mut self.rng,
        )
    }

    /// Starts a session at acme, or at bolt, with a bundle of the other side, and seals a message in
    /// it.
    fn rotate(
        &mut self,
        at_acme: bool,
        connection: &mut Connection,
        sealed_bundle: &[u8],
        now: Timestamp,
    ) -> SealedEnvelope {
        let me = if at_acme { &self.acme } else { &self.bolt };
        connection
            .start_session(me, sealed_bundle, InitReason::Rotate, now, &mut self.rng)
            .unwrap();
        self.seal(connection, Kind::MESSAGE, 7, &Message::text("new").encode())
    }

    fn receive(&mut self, at_acme: bool, connection: &Connection, envelope: &[u8]) -> Incoming {
        let me = if at_acme { &self.acme } else { &self.bolt };
        let stored = Connection::parse(&connection.encode()).unwrap();
        stored.receive(me, envelope, NOW, NOW, &mut self.rng)
    }

    fn open(
        &mut self,
        at_acme: bool,
        connection: &mut Connection,
        envelope: &[u8],
    ) -> OpenedEnvelope {
        let Incoming::Opened(opened) = self.receive(at_acme, connection, envelope) else {
            panic!("the envelope cannot be opened")
        };
        *connection = opened.connection.clone();
        *opened
    }

    /// Both sides accepted, and the acceptance is confirmed.
    fn paired(&mut self) -> (Connection, Connection) {
        let requested = self.request();
        let mut bolt = requested.connection;
        let request = self.seal(&mut bolt, Kind::CONNECTION_REQUEST, 1, &requested.body);
        let mut acme = self.received(&request.envelope).unwrap().connection;
        let (_, body) = acme
            .accept(&self.acme, &self.relay, id(2), NOW, &mut self.rng)
            .unwrap();
        let accept = self.seal(&mut acme, Kind::CONNECTION_ACCEPT, 2, &body);
        let opened = self.open(false, &mut bolt, &accept.envelope);
        assert!(matches!(opened.event, Event::Accepted) && opened.receipt_for == Some(id(2)));
        let receipt = Receipt {
            kind: ReceiptKind::DELIVERED,
            ids: vec![id(2)],
            at: NOW,
        }
        .encode();
        let receipt = self.seal(&mut bolt, Kind::RECEIPT, 3, &receipt);
        self.open(true, &mut acme, &receipt.envelope);
        assert_eq!((acme.phase, bolt.phase), (Phase::Accepted, Phase::Accepted));
        (acme, bolt)
    }
}

const fn id(byte: u8) -> MessageId {
    MessageId::from_bytes([byte; 16])
}

fn outgoing(kind: Kind, byte: u8, body: &[u8]) -> Outgoing {
    Outgoing {
        kind,
        message_id: id(byte),
        first_sealing: None,
        body: body.to_vec(),
    }
}

#[test]
fn paired_nodes_exchange_messages() {
    let mut world = World::new(1);
    let (mut acme, mut bolt) = world.paired();
    let text = Message::text("**hello**").encode();
    for round in 10..20 {
        let there = world.seal(&mut acme, Kind::MESSAGE, round, &text);
        let Event::Message { metadata, message } =
            world.open(false, &mut bolt, &there.envelope).event
        else {
            panic!("no message")
        };
        assert_eq!(
            (metadata.message_id, message.content.as_str()),
            (id(round), "**hello**")
        );
        let back = world.seal(&mut bolt, Kind::MESSAGE, round, &text);
        assert_eq!(
            world.open(true, &mut acme, &back.envelope).receipt_for,
            Some(id(round))
        );
    }
    assert_eq!(
        acme.next_seq, 12,
        "the acceptance and ten messages are counted, receipts are not"
    );
}

#[test]
fn phase_determines_sendable_kinds() {
    let mut world = World::new(2);
    let (mut connection, _) = world.paired();
    let kinds = [
        Kind::CONNECTION_REQUEST,
        Kind::CONNECTION_ACCEPT,
        Kind::CONNECTION_REJECT,
        Kind::MESSAGE,
        Kind::RECEIPT,
    ];
    let expected = |phase| match phase {
        Phase::RequestSent => [true, false, false, false, false],
        Phase::RequestReceived | Phase::Blocked => [false; 5],
        Phase::Accepting => [false, true, false, false, false],
        Phase::Accepted => [true; 5],
        Phase::Rejected => [false, false, true, false, false],
    };
    for phase in Phase::ALL {
        connection.phase = phase;
        assert_eq!(
            kinds.map(|kind| connection.can_send(kind)),
            expected(phase),
            "{phase:?}"
        );
    }
}

#[test]
fn decisions_require_a_pending_request() {
    let mut world = World::new(3);
    let (connection, _) = world.paired();
    for phase in Phase::ALL {
        let mut one = Connection {
            phase,
            ..connection.clone()
        };
        let accepted = one
            .accept(&world.acme, &world.relay, id(9), NOW, &mut world.rng)
            .is_ok();
        assert_eq!(accepted, phase == Phase::RequestReceived, "{phase:?}");
        assert_eq!(one.phase, if accepted { Phase::Accepting } else { phase });
        let mut one = Connection {
            phase,
            ..connection.clone()
        };
        assert_eq!(
            one.reject(None).is_ok(),
            phase == Phase::RequestReceived,
            "{phase:?}"
        );
        one.block();
        assert_eq!(one.phase, Phase::Blocked);
    }
}

#[test]
fn relay_cannot_impersonate_the_inviter() {
    let mut world = World::new(4);
    let mallory = Identity::generate(&mut world.rng);
    let card = mallory.sign_card("Acme", NOW).unwrap();
    let forged = world
        .issued
        .generate_bundle(
            &mallory,
            &card,
            limits::INVITE_LIFETIME_DEFAULT,
            NOW,
            &mut world.rng,
        )
        .unwrap();
    let mut altered = world.sealed_prekeys.clone();
    altered[100] ^= 1;
    for sealed_prekeys in [forged.to_vec(), altered, Vec::new()] {
        let card = world.bolt.sign_card("Bolt", NOW).unwrap();
        let args = RequestArgs {
            identity: &world.bolt,
            card: &card,
            relay: &world.relay,
            invite: &world.issued.invite,
            sealed_prekeys: &sealed_prekeys,
            note: None,
            now: NOW,
        };
        assert!(matches!(
            Connection::request(&args, &mut world.rng),
            Err(RequestError::Untrusted)
        ));
        let late = RequestArgs {
            sealed_prekeys: &world.sealed_prekeys,
            now: NOW.plus(limits::INVITE_LIFETIME_MAX),
            ..args
        };
        assert!(matches!(
            Connection::request(&late, &mut world.rng),
            Err(RequestError::Stale)
        ));
    }
}

#[test]
fn repeated_request_reaches_its_connection() {
    let mut world = World::new(5);
    let requested = world.request();
    let mut bolt = requested.connection;
    let first = world.seal(&mut bolt, Kind::CONNECTION_REQUEST, 1, &requested.body);
    let second = world.seal(&mut bolt, Kind::CONNECTION_REQUEST, 1, &requested.body);
    let acme = world.received(&first.envelope).unwrap().connection;
    let key = OuterKey::for_invite(world.issued.invite.secret());
    let inner = open_envelope(&key, &world.issued.invite.mailbox().id, &second.envelope).unwrap();
    let prefix = sealpost_e2ee::sessions::prefix_hash(&inner).unwrap();
    assert!(acme.sessions.has_init_prefix(&prefix));
    let Incoming::Opened(opened) = acme.receive_inner(&world.acme, &inner, NOW, &mut world.rng)
    else {
        panic!("the repetition cannot be opened")
    };
    assert!(matches!(opened.event, Event::Ignored));
    assert_eq!(
        first.expires_at,
        Some(NOW.plus(limits::INVITE_LIFETIME_DEFAULT)),
        "a request ends with its invite"
    );
}

#[test]
fn invalid_envelopes_change_nothing() {
    let mut world = World::new(6);
    let (mut acme, mut bolt) = world.paired();
    let sealed = world.seal(&mut acme, Kind::MESSAGE, 7, &Message::text("once").encode());
    world.open(false, &mut bolt, &sealed.envelope);
    assert!(matches!(
        world.receive(false, &bolt, &sealed.envelope),
        Incoming::Rejected(_)
    ));
    for at in [0, 30, 100, sealed.envelope.len() - 1] {
        let mut altered = sealed.envelope.clone();
        altered[at] ^= 1;
        assert!(
            matches!(
                world.receive(false, &bolt, &altered),
                Incoming::OuterLayerInvalid
            ),
            "byte {at}"
        );
    }
    let elsewhere = bolt.own_mailbox.clone().unwrap();
    let mut wrong_mailbox = bolt.clone();
    wrong_mailbox.own_mailbox = Some(OwnMailbox {
        id: MailboxId::from_bytes([9; 16]),
        ..elsewhere
    });
    assert!(matches!(
        world.receive(false, &wrong_mailbox, &sealed.envelope),
        Incoming::OuterLayerInvalid
    ));
}

#[test]
fn rejection_carries_a_note() {
    let mut world = World::new(7);
    let requested = world.request();
    let mut bolt = requested.connection;
    let request = world.seal(&mut bolt, Kind::CONNECTION_REQUEST, 1, &requested.body);
    let received = world.received(&request.envelope).unwrap();
    assert_eq!(
        (
            received.note.as_deref(),
            received.peer_card.card().name.as_str()
        ),
        (Some("hello"), "Bolt")
    );
    let mut acme = received.connection;
    let body = acme.reject(Some("not now".to_owned())).unwrap();
    let reject = world.seal(&mut acme, Kind::CONNECTION_REJECT, 2, &body);
    let opened = world.open(false, &mut bolt, &reject.envelope);
    assert!(matches!(opened.event, Event::Rejected(Some(ref why)) if why == "not now"));
    assert_eq!((bolt.phase, opened.receipt_for), (Phase::Rejected, None));
}

#[test]
fn unsupported_kinds_require_a_receipt() {
    let mut world = World::new(8);
    let (mut acme, mut bolt) = world.paired();
    let sealed = world.seal(&mut acme, Kind(0x7777), 8, b"not supported yet");
    let opened = world.open(false, &mut bolt, &sealed.envelope);
    assert!(matches!(
        opened.event,
        Event::Unsupported { kind: Kind(0x7777), ref body, .. } if body == b"not supported yet"
    ));
    assert_eq!(opened.receipt_for, Some(id(8)));
    let broken = world.seal(&mut acme, Kind::MESSAGE, 9, b"no map");
    let opened = world.open(false, &mut bolt, &broken.envelope);
    assert!(matches!(opened.event, Event::Ignored) && opened.receipt_for.is_none());
}

#[test]
fn rotated_session_proves_continuity() {
    let mut world = World::new(9);
    let (mut acme, mut bolt) = world.paired();
    let published = bolt
        .renew_prekeys(&world.bolt, NOW, &mut world.rng)
        .unwrap();
    let before = acme.sessions.current_id();
    acme.start_session(
        &world.acme,
        &published.sealed_bundle,
        InitReason::Rotate,
        NOW,
        &mut world.rng,
    )
    .unwrap();
    assert_ne!(acme.sessions.current_id(), before);
    let sealed = world.seal(
        &mut acme,
        Kind::MESSAGE,
        7,
        &Message::text("new session").encode(),
    );
    let opened = world.open(false, &mut bolt, &sealed.envelope);
    assert!(!opened.new_session.unwrap().is_reset && opened.publication.is_some());
    let answer = world.seal(&mut bolt, Kind::MESSAGE, 8, &Message::text("well").encode());
    assert!(matches!(
        world.open(true, &mut acme, &answer.envelope).event,
        Event::Message { .. }
    ));
    assert!(acme.sessions.is_confirmed());
    assert_eq!(
        acme.start_session(
            &world.acme,
            &world.sealed_prekeys,
            InitReason::Rotate,
            NOW,
            &mut world.rng
        ),
        Err(StartSessionError::UnusablePrekeys)
    );
}

fn holds_bundle(connection: &Connection, bundle: BundleId) -> bool {
    let mut bundles = connection.bundles.iter();
    bundles.any(|secrets| secrets.bundle_id() == bundle)
}

#[test]
fn bundle_of_a_losing_init_is_replaced() {
    let mut world = World::new(11);
    let (mut acme, mut bolt) = world.paired();
    let at_acme = acme
        .renew_prekeys(&world.acme, NOW, &mut world.rng)
        .unwrap();
    let at_bolt = bolt
        .renew_prekeys(&world.bolt, NOW, &mut world.rng)
        .unwrap();
    let used = bolt.latest_bundle;
    let later = |seconds| NOW.plus(Duration::from_secs(seconds));
    let mut acme_again = acme.clone();
    let losing = world.rotate(true, &mut acme, &at_bolt.sealed_bundle, later(1));
    let winning = world.rotate(false, &mut bolt, &at_acme.sealed_bundle, later(2));

    let Incoming::Rejected(rejected) = world.receive(false, &bolt, &losing.envelope) else {
        panic!("the losing INIT is opened")
    };
    assert_eq!(rejected.reason, RejectReason::Superseded);
    assert!(rejected.publication.is_some());
    bolt = rejected.connection.unwrap();
    assert_ne!(bolt.latest_bundle, used, "another bundle is published");
    assert!(
        holds_bundle(&bolt, used),
        "no session is confirmed since the bundle was used"
    );
    let repeated = world.rotate(true, &mut acme_again, &at_bolt.sealed_bundle, later(1));
    let Incoming::Rejected(rejected) = world.receive(false, &bolt, &repeated.envelope) else {
        panic!("another losing INIT is opened")
    };
    assert!(
        rejected.publication.is_none(),
        "the bundle has been replaced already"
    );
    bolt = rejected.connection.unwrap();
    assert_eq!(bolt.used_bundles, [used]);

    world.open(true, &mut acme, &winning.envelope);
    let answer = world.seal(&mut acme, Kind::MESSAGE, 8, &Message::text("well").encode());
    world.open(false, &mut bolt, &answer.envelope);
    assert!(bolt.sessions.is_confirmed() && bolt.used_bundles.is_empty());
    assert!(!holds_bundle(&bolt, used));
}

#[test]
fn envelopes_from_before_a_recovery_start_no_session() {
    let mut world = World::new(12);
    let (mut acme, mut bolt) = world.paired();
    let sealed = world.seal(&mut acme, Kind::MESSAGE, 7, &Message::text("old").encode());
    bolt.discard_sessions(NOW, &mut world.rng);
    let before = NOW.minus(Duration::from_millis(1));
    for (accepted_at, remedy) in [(before, Remedy::ResumeDue), (NOW, Remedy::InitDesync)] {
        let incoming = bolt.receive(
            &world.bolt,
            &sealed.envelope,
            accepted_at,
            NOW,
            &mut world.rng,
        );
        let Incoming::Rejected(rejected) = incoming else {
            panic!("an envelope of an unknown session is opened")
        };
        assert_eq!(
            (rejected.reason, rejected.remedy),
            (RejectReason::UnknownSession, remedy)
        );
    }
}

#[test]
fn stored_connection_round_trips() {
    let mut world = World::new(10);
    let (acme, bolt) = world.paired();
    let requested = world.request().connection;
    for connection in [&acme, &bolt, &requested] {
        let bytes = connection.encode();
        assert_eq!(*Connection::parse(&bytes).unwrap().encode(), *bytes);
        for len in (0..bytes.len()).step_by(37) {
            assert!(Connection::parse(&bytes[..len]).is_err(), "{len}");
        }
    }
}
