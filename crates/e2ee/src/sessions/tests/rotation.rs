use super::parties::{Party, START, body, paired};
use crate::keys::{ConnId, Incarnation};
use crate::payload::Resume;
use crate::prekeys::Scope;
use crate::sessions::{Continuity, InitReason, InitiateArgs, RejectReason, Remedy, Sessions};
use sealpost_proto::limits::{OLD_SESSIONS_MAX, REPLACED_SESSIONS_MAX, SESSION_MESSAGES_MAX};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Rotates from `a` and delivers one message each way, so that both sides confirm.
fn rotate(a: &mut Party, b: &mut Party, conn_id: ConnId) -> Continuity {
    a.now = a.now.plus(DAY);
    b.now = a.now;
    a.initiate(b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"new session");
    let continuity = b
        .open_and_commit(a, conn_id, &inner)
        .new_session
        .unwrap()
        .continuity;
    let inner = b.seal(b"seen");
    assert!(a.open_and_commit(b, conn_id, &inner).is_newly_confirmed);
    let inner = a.seal(b"without prefix");
    assert!(b.open_and_commit(a, conn_id, &inner).is_newly_confirmed);
    continuity
}

#[test]
fn repeated_rotations_prove_continuity() {
    let (mut a, mut b, conn_id) = paired(60);
    for _ in 0..4 {
        assert_eq!(rotate(&mut a, &mut b, conn_id), Continuity::Proven);
        assert_eq!(rotate(&mut b, &mut a, conn_id), Continuity::Proven);
    }
}

#[test]
fn restored_peer_gives_a_reset() {
    let (mut a, mut b, conn_id) = paired(61);
    a.sessions = Sessions::new();
    a.now = a.now.plus(DAY);
    a.initiate(&mut b, conn_id, InitReason::Restore);
    let inner = a.seal(b"restored");
    let new = b.open_and_commit(&a, conn_id, &inner).new_session.unwrap();
    assert_eq!(
        (new.continuity, new.reason),
        (Continuity::Reset, InitReason::Restore)
    );
}

#[test]
fn repeated_pairing_is_a_reset() {
    let (mut a, mut b, conn_id) = paired(62);
    a.now = a.now.plus(DAY);
    a.initiate(&mut b, conn_id, InitReason::Pairing);
    let inner = a.seal(b"again");
    assert_eq!(
        b.open_and_commit(&a, conn_id, &inner)
            .new_session
            .unwrap()
            .continuity,
        Continuity::Reset
    );
}

#[test]
fn continuity_is_proven_before_confirmation_arrives() {
    let (mut a, mut b, conn_id) = paired(63);
    a.now = a.now.plus(DAY);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"new");
    b.open_and_commit(&a, conn_id, &inner);
    let inner = b.seal(b"seen");
    a.open_and_commit(&b, conn_id, &inner);
    b.now = a.now.plus(DAY);
    b.initiate(&mut a, conn_id, InitReason::Desync);
    let inner = b.seal(b"newer");
    assert_eq!(
        a.open_and_commit(&b, conn_id, &inner)
            .new_session
            .unwrap()
            .continuity,
        Continuity::Proven
    );
}

/// `a` starts a session, and confirms it with the answer of `b`, which does not confirm it.
fn rotate_without_confirmation(a: &mut Party, b: &mut Party, conn_id: ConnId) {
    a.now = a.now.plus(DAY);
    b.now = a.now;
    a.initiate(b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"new session");
    b.open_and_commit(a, conn_id, &inner);
    let inner = b.seal(b"seen");
    assert!(a.open_and_commit(b, conn_id, &inner).is_newly_confirmed);
    assert!(!b.sessions.is_confirmed());
}

#[test]
fn replaced_unconfirmed_session_proves_continuity() {
    let (mut a, mut b, conn_id) = paired(69);
    rotate_without_confirmation(&mut a, &mut b, conn_id);
    for _ in 0..3 {
        b.now = b.now.plus(Duration::from_secs(1));
        b.initiate(&mut a, conn_id, InitReason::Desync);
    }
    b.sessions = Sessions::parse(&b.sessions.encode()).unwrap();
    a.now = b.now.plus(DAY);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"names the session that b has replaced");
    let new = b.open_and_commit(&a, conn_id, &inner).new_session.unwrap();
    assert_eq!(new.continuity, Continuity::Proven);
}

#[test]
fn many_sessions_confirmed_by_one_side_prove_continuity() {
    let (mut a, mut b, conn_id) = paired(72);
    for _ in 0..10 {
        rotate_without_confirmation(&mut a, &mut b, conn_id);
    }
    b.now = b.now.plus(DAY);
    b.initiate(&mut a, conn_id, InitReason::Desync);
    let inner = b.seal(b"b has opened no message without prefix");
    let new = a.open_and_commit(&b, conn_id, &inner).new_session.unwrap();
    assert_eq!(new.continuity, Continuity::Proven);
}

#[test]
fn stored_replaced_sessions_are_bounded() {
    let (mut a, mut b, conn_id) = paired(70);
    for _ in 0..REPLACED_SESSIONS_MAX + 2 {
        a.now = a.now.plus(DAY);
        a.initiate(&mut b, conn_id, InitReason::Desync);
        let inner = a.seal(b"no answer arrives");
        b.open_and_commit(&a, conn_id, &inner);
    }
    assert_eq!(b.sessions.replaced.len(), REPLACED_SESSIONS_MAX);
    let bytes = b.sessions.encode();
    assert_eq!(*Sessions::parse(&bytes).unwrap().encode(), *bytes);
    assert!(Sessions::parse(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn old_session_receives_without_dh_steps() {
    let (mut a, mut b, conn_id) = paired(64);
    let (skipped, arrives) = (b.seal(b"skipped"), b.seal(b"arrives"));
    a.open_and_commit(&b, conn_id, &arrives);
    let in_chain = b.seal(b"same chain");
    let reply = a.seal(b"reply");
    b.open_and_commit(&a, conn_id, &reply);
    let next_chain = b.seal(b"next chain");
    a.now = a.now.plus(DAY);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    assert_eq!(body(&a.open_and_commit(&b, conn_id, &skipped)), b"skipped");
    assert_eq!(
        body(&a.open_and_commit(&b, conn_id, &in_chain)),
        b"same chain"
    );
    let refused = a.reject_and_commit(&b, conn_id, &next_chain);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::NoHeaderKey, Remedy::ResumeDue)
    );
    assert!(!a.sessions.is_confirmed());
}

#[test]
fn rotation_is_due_by_age_or_count() {
    let (mut a, _, _) = paired(65);
    let at = |days: u32| START.plus(DAY * days);
    assert!(!a.sessions.is_rotation_due(at(6), true));
    assert!(a.sessions.is_rotation_due(at(7), true));
    assert!(!a.sessions.is_rotation_due(at(7), false));
    assert!(a.sessions.is_rotation_due(at(8), false));
    for _ in 0..10_000 {
        assert!(!a.sessions.is_rotation_due(START, true));
        a.seal(b"");
        if a.sessions.is_rotation_due(START, true) {
            return;
        }
    }
    panic!("10,000 messages and no rotation");
}

#[test]
fn rotation_waits_for_the_answer_to_an_init() {
    let (mut a, mut b, conn_id) = paired(71);
    a.now = a.now.plus(DAY * 7);
    assert!(a.sessions.is_rotation_due(a.now, true));
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let started = a.now;
    assert_eq!(a.sessions.current_started(), Some(started));
    for _ in 0..SESSION_MESSAGES_MAX {
        a.seal(b"");
    }
    a.now = started.plus(DAY * 30);
    assert!(!a.sessions.is_rotation_due(a.now, true), "no answer yet");

    let (mut a, mut b, conn_id) = paired(71);
    a.now = a.now.plus(DAY * 7);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"new session");
    b.now = a.now.plus(DAY * 7);
    b.open_and_commit(&a, conn_id, &inner);
    assert_eq!(b.sessions.current_started(), Some(b.now));
    let answer = b.seal(b"answer");
    a.open_and_commit(&b, conn_id, &answer);
    assert!(!a.sessions.is_rotation_due(started.plus(DAY * 6), true));
    assert!(a.sessions.is_rotation_due(started.plus(DAY * 7), true));
}

#[test]
fn old_sessions_are_bounded() {
    let (mut a, mut b, conn_id) = paired(66);
    for _ in 0..OLD_SESSIONS_MAX + 3 {
        a.now = a.now.plus(Duration::from_secs(1));
        a.initiate(&mut b, conn_id, InitReason::Rotate);
        let inner = a.seal(b"new session");
        b.open_and_commit(&a, conn_id, &inner);
    }
    assert_eq!(b.sessions.old.len(), OLD_SESSIONS_MAX);
    assert!(Sessions::parse(&b.sessions.encode()).is_ok());
}

#[test]
fn hello_carries_resume_and_card() {
    let (mut a, mut b, conn_id) = paired(67);
    let bundle = b.publish(Scope::connection(&conn_id));
    let resume = Resume {
        incarnation: Incarnation::from_bytes([5; 8]),
        upto: 3,
        bitmap: vec![0x40; 128],
    };
    let args = InitiateArgs {
        identity: &a.identity,
        peer: b.identity.public(),
        conn_id,
        bundle: &bundle,
        reason: InitReason::Desync,
        incarnation: Incarnation::from_bytes([6; 8]),
        resume: Some(&resume),
        sealed_card: Some(&a.card),
        now: a.now.plus(DAY),
    };
    a.sessions.initiate(&args, &mut a.rng).unwrap();
    let inner = a.seal(b"x");
    let new = b.open_and_commit(&a, conn_id, &inner).new_session.unwrap();
    assert_eq!(new.resume, Some(resume));
    assert_eq!(new.peer_incarnation, Incarnation::from_bytes([6; 8]));
    assert_eq!(new.peer_card.as_ref(), Some(&a.card));
}

#[test]
fn largest_body_with_init_fits_an_envelope() {
    let (mut a, mut b, conn_id) = paired(68);
    let bundle = b.publish(Scope::connection(&conn_id));
    let resume = Resume {
        incarnation: Incarnation::from_bytes([5; 8]),
        upto: u64::MAX,
        bitmap: vec![1; 128],
    };
    let card = a.identity.sign_card(&"x".repeat(64), START).unwrap();
    let args = InitiateArgs {
        identity: &a.identity,
        peer: b.identity.public(),
        conn_id,
        bundle: &bundle,
        reason: InitReason::Desync,
        incarnation: Incarnation::from_bytes([6; 8]),
        resume: Some(&resume),
        sealed_card: Some(&card),
        now: a.now.plus(DAY),
    };
    a.sessions.initiate(&args, &mut a.rng).unwrap();
    let inner = a.seal(&vec![7; 240 * 1024]);
    let key =
        crate::envelope::OuterKey::for_invite(&crate::keys::InviteSecret::from_bytes([1; 32]));
    let mailbox = sealpost_proto::MailboxId::from_bytes([2; 16]);
    assert!(crate::envelope::seal_envelope(&key, &mailbox, &inner, &mut a.rng).is_ok());
    assert_eq!(
        body(&b.open_and_commit(&a, conn_id, &inner)).len(),
        240 * 1024
    );
}
