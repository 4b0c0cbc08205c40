use super::parties::{INVITE, Party, START, body, paired};
use crate::keys::{ConnId, Fingerprint};
use crate::prekeys::Scope;
use crate::sessions::{
    Content, Continuity, InitReason, Pairing, RejectReason, SealError, Sessions, open_pairing,
    prefix_hash,
};
use sealpost_proto::limits::SESSION_EPOCH_AHEAD_MAX;

fn request(invitee: &mut Party, inviter: &mut Party) -> (ConnId, Vec<u8>) {
    let conn_id = ConnId::derive(
        invitee.identity.fingerprint(),
        inviter.identity.fingerprint(),
        &INVITE,
    );
    let bundle = inviter.publish(Scope::invite(&INVITE));
    invitee.initiate_with(inviter, conn_id, InitReason::Pairing, &bundle);
    (conn_id, invitee.seal(b"request"))
}

fn open(inviter: &Party, inner: &[u8]) -> Result<Pairing, RejectReason> {
    open_pairing(
        &inviter.identity,
        &INVITE,
        &inviter.bundles,
        inner,
        inviter.now,
    )
}

#[test]
fn request_identifies_the_invitee() {
    let (mut invitee, mut inviter) = (Party::new(1), Party::new(2));
    let (conn_id, inner) = request(&mut invitee, &mut inviter);
    let pairing = open(&inviter, &inner).ok().unwrap();
    assert_eq!(pairing.peer_card, invitee.card);
    assert_eq!(pairing.conn_id, conn_id);
    assert_eq!(pairing.new_session.continuity, Continuity::NotApplicable);
    assert_eq!(
        pairing.new_session.session_id,
        invitee.sessions.current_id().unwrap()
    );
    assert_eq!(Some(pairing.prefix_hash), prefix_hash(&inner));
    assert!(pairing.sessions.has_init_prefix(&pairing.prefix_hash));
    let Content::Plaintext(plaintext) = pairing.content else {
        panic!("unparseable")
    };
    assert_eq!(plaintext.body, b"request");
}

#[test]
fn both_sides_derive_the_same_exp() {
    let (mut invitee, mut inviter) = (Party::new(1), Party::new(2));
    let conn_id = ConnId::derive(
        invitee.identity.fingerprint(),
        inviter.identity.fingerprint(),
        &INVITE,
    );
    let bundle = inviter.publish(Scope::invite(&INVITE));
    let initiated = invitee.initiate_with(&inviter, conn_id, InitReason::Pairing, &bundle);
    let inner = invitee.seal(b"request");
    let pairing = open(&inviter, &inner).ok().unwrap();
    assert!(initiated.exp == pairing.new_session.exp);
    assert_eq!(initiated.session_epoch, pairing.new_session.session_epoch);
}

#[test]
fn prefix_is_repeated_until_the_peer_answers() {
    let (mut invitee, mut inviter) = (Party::new(3), Party::new(4));
    let (conn_id, first) = request(&mut invitee, &mut inviter);
    invitee.sessions = Sessions::parse(&invitee.sessions.encode()).unwrap();
    let second = invitee.seal(b"again");
    assert_eq!(prefix_hash(&first), prefix_hash(&second));
    let common = first
        .iter()
        .zip(&second)
        .take_while(|(a, b)| a == b)
        .count();
    assert!(common >= 1_161 + 4, "prefix and all before the nonce");
    inviter.sessions = open(&inviter, &second).ok().unwrap().sessions;
    assert_eq!(
        body(&inviter.open_and_commit(&invitee, conn_id, &first)),
        b"request"
    );
    let accept = inviter.seal(b"accept");
    invitee.open_and_commit(&inviter, conn_id, &accept);
    assert_eq!(prefix_hash(&invitee.seal(b"receipt")), None);
}

#[test]
fn altered_request_does_not_open() {
    let (mut invitee, mut inviter) = (Party::new(5), Party::new(6));
    let (_, inner) = request(&mut invitee, &mut inviter);
    for bit in (0..inner.len() * 8).step_by(7).chain(0..80 * 8) {
        let mut changed = inner.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&inviter, &changed).is_err(), "bit {bit}");
    }
    for len in (0..inner.len()).step_by(13) {
        assert!(open(&inviter, &inner[..len]).is_err(), "length {len}");
    }
}

#[test]
fn own_card_is_refused_at_pairing() {
    let mut party = Party::new(7);
    let conn_id = ConnId::derive(
        party.identity.fingerprint(),
        party.identity.fingerprint(),
        &INVITE,
    );
    let bundle = party.publish(Scope::invite(&INVITE));
    let mut twin = Party::new(7);
    twin.initiate_with(&party, conn_id, InitReason::Pairing, &bundle);
    let inner = twin.seal(b"request");
    assert_eq!(
        open(&party, &inner).err(),
        Some(RejectReason::HandshakeInvalid)
    );
}

#[test]
fn request_opens_only_for_its_invite() {
    let (mut invitee, mut inviter) = (Party::new(8), Party::new(9));
    let (_, inner) = request(&mut invitee, &mut inviter);
    let other = sealpost_proto::InviteId::from_bytes([8; 16]);
    let opened = open_pairing(&inviter.identity, &other, &inviter.bundles, &inner, START);
    assert_eq!(
        opened.err(),
        Some(RejectReason::BodyInvalid),
        "the name of the connection is in AD"
    );
    let unknown = open_pairing(&inviter.identity, &INVITE, &[], &inner, START);
    assert_eq!(unknown.err(), Some(RejectReason::BundleUnknown));
    let stranger = Party::new(10);
    assert_eq!(
        open(&stranger, &inner).err(),
        Some(RejectReason::HandshakeInvalid)
    );
}

#[test]
fn epoch_far_ahead_is_refused() {
    let (mut invitee, mut inviter) = (Party::new(11), Party::new(12));
    invitee.now = START
        .plus(SESSION_EPOCH_AHEAD_MAX)
        .plus(std::time::Duration::from_millis(1));
    let (_, inner) = request(&mut invitee, &mut inviter);
    assert_eq!(
        open(&inviter, &inner).err(),
        Some(RejectReason::EpochTooFarAhead)
    );
}

#[test]
fn sealing_without_a_session_fails() {
    let mut party = Party::new(13);
    let plaintext = party.plaintext(b"x");
    let sealed = party.sessions.seal(&plaintext, START, &mut party.rng);
    assert_eq!(sealed, Err(SealError::NoSession));
}

#[test]
fn card_of_another_identity_suspends() {
    let (mut invitee, mut inviter, conn_id) = paired(14);
    let mut impostor = Party::new(99);
    let bundle = inviter.publish(Scope::connection(&conn_id));
    impostor.initiate_with(&inviter, conn_id, InitReason::Pairing, &bundle);
    let inner = impostor.seal(b"i am the invitee");
    let refused = inviter.reject_and_commit(&invitee, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (
            RejectReason::OtherIdentity,
            crate::sessions::Remedy::Suspend
        )
    );
    let inner = invitee.seal(b"still here");
    assert_eq!(
        body(&inviter.open_and_commit(&invitee, conn_id, &inner)),
        b"still here"
    );
    assert_ne!(
        impostor.identity.fingerprint(),
        &Fingerprint::from_bytes([0; 32])
    );
}
