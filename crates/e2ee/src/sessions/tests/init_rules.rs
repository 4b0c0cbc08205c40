use super::parties::{body, paired};
use crate::prekeys::Scope;
use crate::sessions::{Continuity, InitReason, RejectReason, Remedy, prefix_hash};
use sealpost_proto::limits::{OLD_SESSION_RETENTION, SESSION_EPOCH_AHEAD_MAX};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn known_prefix_opens_in_its_session() {
    let (mut a, mut b, conn_id) = paired(40);
    a.now = a.now.plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let (first, second, third) = (a.seal(b"1"), a.seal(b"2"), a.seal(b"3"));
    b.open_and_commit(&a, conn_id, &first);
    b.bundles.clear();
    assert_eq!(
        body(&b.open_and_commit(&a, conn_id, &second)),
        b"2",
        "the bundle is not needed again"
    );

    a.now = a.now.plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let newer = a.seal(b"4");
    b.open_and_commit(&a, conn_id, &newer);
    assert_eq!(
        body(&b.open_and_commit(&a, conn_id, &third)),
        b"3",
        "the old session still receives"
    );

    b.now = b.now.plus(OLD_SESSION_RETENTION).plus(SECOND);
    let refused = b.reject_and_commit(&a, conn_id, &third);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::RetiredSession, Remedy::ResumeDue)
    );
}

#[test]
fn init_without_bundle_is_rejected() {
    let (mut a, mut b, conn_id) = paired(41);
    a.now = a.now.plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"lost bundle");
    b.bundles.clear();
    let refused = b.reject_and_commit(&a, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::BundleUnknown, Remedy::InitDesync)
    );
    assert!(!b.sessions.has_init_prefix(&prefix_hash(&inner).unwrap()));

    b.now = b.now.plus(SECOND * 2);
    b.initiate(&mut a, conn_id, InitReason::Desync);
    let refused = b.reject_and_commit(&a, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::BundleUnknown, Remedy::ResumeDue)
    );
    assert!(b.sessions.has_init_prefix(&prefix_hash(&inner).unwrap()));
    assert_eq!(
        b.reject_and_commit(&a, conn_id, &inner).reason,
        RejectReason::RetiredSession
    );
}

#[test]
fn invalid_init_only_raises_last() {
    let (mut a, mut b, conn_id) = paired(42);
    a.now = a.now.plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let mut inner = a.seal(b"x");
    inner[8 + 100] ^= 1;
    let current = b.sessions.current_id();
    let refused = b.reject_and_commit(&a, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::HandshakeInvalid, Remedy::Discard)
    );
    assert_eq!(b.sessions.current_id(), current);
    assert_eq!(b.sessions.last_epoch, a.now.as_millis());
    assert!(
        b.reject_and_commit(&a, conn_id, &inner).sessions.is_none(),
        "nothing changes twice"
    );
}

#[test]
fn higher_epoch_wins_on_both_sides() {
    let (mut a, mut b, conn_id) = paired(43);
    a.now = a.now.plus(SECOND);
    b.now = b.now.plus(SECOND * 2);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let winner = b.initiate(&mut a, conn_id, InitReason::Rotate);
    let (from_a, from_b) = (a.seal(b"from a"), b.seal(b"from b"));
    let refused = b.reject_and_commit(&a, conn_id, &from_a);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::Superseded, Remedy::ResumeDue)
    );
    assert_eq!(refused.used_bundle, Some(b.bundles[1].bundle_id()));
    let opened = a.open_and_commit(&b, conn_id, &from_b);
    assert_eq!(opened.new_session.unwrap().continuity, Continuity::Proven);
    assert_eq!(
        (a.sessions.current_id(), b.sessions.current_id()),
        (Some(winner.session_id), Some(winner.session_id))
    );
    let answer = a.seal(b"answer");
    assert!(b.open_and_commit(&a, conn_id, &answer).is_newly_confirmed);
    let repeated = b.reject_and_commit(&a, conn_id, &from_a);
    assert_eq!(
        (repeated.reason, repeated.used_bundle),
        (RejectReason::RetiredSession, None)
    );
}

#[test]
fn lower_id_wins_between_equal_epochs() {
    for seed in 44..52 {
        let (mut a, mut b, conn_id) = paired(seed);
        a.now = a.now.plus(SECOND);
        b.now = a.now;
        let (by_a, by_b) = (
            a.initiate(&mut b, conn_id, InitReason::Rotate),
            b.initiate(&mut a, conn_id, InitReason::Rotate),
        );
        assert_eq!(by_a.session_epoch, by_b.session_epoch);
        let (from_a, from_b) = (a.seal(b"from a"), b.seal(b"from b"));
        if by_a.session_id < by_b.session_id {
            b.open_and_commit(&a, conn_id, &from_a);
            assert_eq!(
                a.reject_and_commit(&b, conn_id, &from_b).reason,
                RejectReason::Superseded
            );
        } else {
            a.open_and_commit(&b, conn_id, &from_b);
            assert_eq!(
                b.reject_and_commit(&a, conn_id, &from_a).reason,
                RejectReason::Superseded
            );
        }
        assert_eq!(a.sessions.current_id(), b.sessions.current_id());
        assert_eq!(
            a.sessions.current_id(),
            Some(by_a.session_id.min(by_b.session_id))
        );
    }
}

#[test]
fn losing_init_triggers_a_new_one() {
    let (mut a, mut b, conn_id) = paired(53);
    a.now = a.now.plus(SECOND);
    let late = {
        a.initiate(&mut b, conn_id, InitReason::Rotate);
        a.seal(b"late")
    };
    a.now = a.now.plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let newer = a.seal(b"newer");
    b.open_and_commit(&a, conn_id, &newer);
    let refused = b.reject_and_commit(&a, conn_id, &late);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::Superseded, Remedy::InitDesync)
    );
    assert_eq!(refused.used_bundle, Some(b.bundles[1].bundle_id()));
    b.now = a.now;
    let answer = b.initiate(&mut a, conn_id, InitReason::Desync);
    assert_eq!(answer.session_epoch, a.now.as_millis() + 1, "above both");
    let inner = b.seal(b"healed");
    assert_eq!(body(&a.open_and_commit(&b, conn_id, &inner)), b"healed");
}

#[test]
fn invalid_message_changes_only_last() {
    let (mut a, mut b, conn_id) = paired(54);
    a.now = a.now.plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let mut inner = a.seal(b"x");
    let end = inner.len() - 1;
    inner[end] ^= 1;
    let current = b.sessions.current_id();
    let refused = b.reject_and_commit(&a, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::BodyInvalid, Remedy::Discard)
    );
    assert_eq!(
        (b.sessions.current_id(), b.sessions.last_epoch),
        (current, a.now.as_millis())
    );
    inner[end] ^= 1;
    b.open_and_commit(&a, conn_id, &inner);
}

#[test]
fn gap_in_a_new_session_requires_an_init() {
    let (mut a, mut b, conn_id) = paired(58);
    a.now = a.now.plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    for _ in 0..1_001 {
        a.seal(b"lost");
    }
    let inner = a.seal(b"after the gap");
    let mut expected = b.sessions.clone();
    expected.last_epoch = a.now.as_millis();
    let refused = b.reject_and_commit(&a, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::GapTooLarge, Remedy::InitDesync)
    );
    assert_eq!(
        b.sessions.encode(),
        expected.encode(),
        "only `last` changes"
    );
    b.initiate(&mut a, conn_id, InitReason::Desync);
    let inner = b.seal(b"healed");
    assert_eq!(body(&a.open_and_commit(&b, conn_id, &inner)), b"healed");
}

#[test]
fn epoch_ten_years_ahead_leaves_no_trace() {
    let (mut a, mut b, conn_id) = paired(55);
    a.now = a.now.plus(SESSION_EPOCH_AHEAD_MAX).plus(SECOND);
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"x");
    let refused = b.reject_and_commit(&a, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::EpochTooFarAhead, Remedy::Discard)
    );
    assert!(refused.sessions.is_none());
}

#[test]
fn sides_with_clocks_a_day_apart_converge() {
    let (mut a, mut b, conn_id) = paired(56);
    a.now = a.now.plus(Duration::from_secs(86_400));
    a.initiate(&mut b, conn_id, InitReason::Rotate);
    let inner = a.seal(b"from the future");
    b.open_and_commit(&a, conn_id, &inner);
    let late = b.initiate(&mut a, conn_id, InitReason::Desync);
    assert_eq!(late.session_epoch, a.now.as_millis() + 1);
    let inner = b.seal(b"from the past");
    a.open_and_commit(&b, conn_id, &inner);
    assert_eq!(a.sessions.current_id(), b.sessions.current_id());
}

#[test]
fn init_for_another_connection_is_refused() {
    let (mut a, mut b, conn_id) = paired(57);
    a.now = a.now.plus(SECOND);
    let bundle = b.publish(Scope::connection(&conn_id));
    let elsewhere = crate::keys::ConnId::from_bytes([3; 32]);
    a.initiate_with(&b, elsewhere, InitReason::Rotate, &bundle);
    let inner = a.seal(b"x");
    assert_eq!(
        b.reject_and_commit(&a, conn_id, &inner).reason,
        RejectReason::BodyInvalid,
        "the name of the connection is in AD"
    );
}
