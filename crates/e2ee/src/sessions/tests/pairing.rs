use super::parties::{INVITE, Party, START, body, paired};
use crate::keys::{ConnId, Fingerprint};
use crate::prekeys::Scope;
use crate::sessions::{
    Content, Continuity, InitReason, Pairing, RejectReason, SealError, Sessions, open_pairing,
    prefix_hash,
};
use sealpost_proto::limits::SESSION_EPOCH_AHEAD_MAX;

fn request(acceptor: &mut Party, inviter: &mut Party) -> (ConnId, Vec<u8>) {
    let conn_id = ConnId::derive(
        acceptor.identity.fingerprint(),
        inviter.identity.fingerprint(),
        &INVITE,
    );
    let base = inviter.publish(Scope::invite(&INVITE));
    acceptor.initiate_with(inviter, conn_id, InitReason::Pairing, &base);
    (conn_id, acceptor.seal(b"request"))
}

fn open(inviter: &Party, inner: &[u8]) -> Result<Pairing, RejectReason> {
    open_pairing(
        &inviter.identity,
        &INVITE,
        &inviter.bases,
        inner,
        inviter.now,
    )
}

#[test]
fn request_identifies_the_acceptor() {
    let (mut acceptor, mut inviter) = (Party::new(1), Party::new(2));
    let (conn_id, inner) = request(&mut acceptor, &mut inviter);
    let pairing = open(&inviter, &inner).ok().unwrap();
    assert_eq!(pairing.peer_card, acceptor.card);
    assert_eq!(pairing.conn_id, conn_id);
    assert_eq!(pairing.new_session.continuity, Continuity::NotApplicable);
    assert_eq!(
        pairing.new_session.session_id,
        acceptor.sessions.current_id().unwrap()
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
    let (mut acceptor, mut inviter) = (Party::new(1), Party::new(2));
    let conn_id = ConnId::derive(
        acceptor.identity.fingerprint(),
        inviter.identity.fingerprint(),
        &INVITE,
    );
    let base = inviter.publish(Scope::invite(&INVITE));
    let initiated = acceptor.initiate_with(&inviter, conn_id, InitReason::Pairing, &base);
    let inner = acceptor.seal(b"request");
    let pairing = open(&inviter, &inner).ok().unwrap();
    assert!(initiated.exp == pairing.new_session.exp);
    assert_eq!(initiated.session_epoch, pairing.new_session.session_epoch);
}

#[test]
fn prefix_is_repeated_until_the_peer_answers() {
    let (mut acceptor, mut inviter) = (Party::new(3), Party::new(4));
    let (conn_id, first) = request(&mut acceptor, &mut inviter);
    acceptor.sessions = Sessions::parse(&acceptor.sessions.encode()).unwrap();
    let second = acceptor.seal(b"again");
    assert_eq!(prefix_hash(&first), prefix_hash(&second));
    let common = first
        .iter()
        .zip(&second)
        .take_while(|(a, b)| a == b)
        .count();
    assert!(common >= 1_161 + 4, "prefix and all before the nonce");
    inviter.sessions = open(&inviter, &second).ok().unwrap().sessions;
    assert_eq!(
        body(&inviter.open_and_commit(&acceptor, conn_id, &first)),
        b"request"
    );
    let accept = inviter.seal(b"accept");
    acceptor.open_and_commit(&inviter, conn_id, &accept);
    assert_eq!(prefix_hash(&acceptor.seal(b"receipt")), None);
}

#[test]
fn altered_request_does_not_open() {
    let (mut acceptor, mut inviter) = (Party::new(5), Party::new(6));
    let (_, inner) = request(&mut acceptor, &mut inviter);
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
    let base = party.publish(Scope::invite(&INVITE));
    let mut twin = Party::new(7);
    twin.initiate_with(&party, conn_id, InitReason::Pairing, &base);
    let inner = twin.seal(b"request");
    assert_eq!(
        open(&party, &inner).err(),
        Some(RejectReason::HandshakeInvalid)
    );
}

#[test]
fn request_opens_only_for_its_invite() {
    let (mut acceptor, mut inviter) = (Party::new(8), Party::new(9));
    let (_, inner) = request(&mut acceptor, &mut inviter);
    let other = sealpost_proto::InviteId::from_bytes([8; 16]);
    let opened = open_pairing(&inviter.identity, &other, &inviter.bases, &inner, START);
    assert_eq!(
        opened.err(),
        Some(RejectReason::BodyInvalid),
        "the name of the connection is in AD"
    );
    let unknown = open_pairing(&inviter.identity, &INVITE, &[], &inner, START);
    assert_eq!(unknown.err(), Some(RejectReason::BaseNotHeld));
    let stranger = Party::new(10);
    assert_eq!(
        open(&stranger, &inner).err(),
        Some(RejectReason::HandshakeInvalid)
    );
}

#[test]
fn epoch_far_ahead_is_refused() {
    let (mut acceptor, mut inviter) = (Party::new(11), Party::new(12));
    acceptor.now = START
        .plus(SESSION_EPOCH_AHEAD_MAX)
        .plus(std::time::Duration::from_millis(1));
    let (_, inner) = request(&mut acceptor, &mut inviter);
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
    let (mut acceptor, mut inviter, conn_id) = paired(14);
    let mut impostor = Party::new(99);
    let base = inviter.publish(Scope::connection(&conn_id));
    impostor.initiate_with(&inviter, conn_id, InitReason::Pairing, &base);
    let inner = impostor.seal(b"i am the acceptor");
    let refused = inviter.reject_and_commit(&acceptor, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (
            RejectReason::OtherIdentity,
            crate::sessions::Remedy::Suspend
        )
    );
    let inner = acceptor.seal(b"still here");
    assert_eq!(
        body(&inviter.open_and_commit(&acceptor, conn_id, &inner)),
        b"still here"
    );
    assert_ne!(
        impostor.identity.fingerprint(),
        &Fingerprint::from_bytes([0; 32])
    );
}
