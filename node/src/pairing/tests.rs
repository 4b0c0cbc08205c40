use super::*;
use crate::testing::{TestNode, carry, settle};
use sealpost_node_core::model::{ConnectionStatus, UserId};
use sealpost_proto::{
    ErrorCode,
    wire::{DeliveryOutcome, SubmitOutcome},
};

fn three() -> [TestNode; 3] {
    [
        TestNode::new("Acme", 300),
        TestNode::new("Bolt", 301),
        TestNode::new("Carl", 302),
    ]
}

/// Returns the status and note that Carl sees if he uses the invite after `before` ran at Acme.
fn refused(before: impl FnOnce(&mut TestNode, InviteId)) -> (ConnectionStatus, String) {
    let [mut acme, _, mut carl] = three();
    let (name, invite, prekeys) = acme.invite(true);
    let at_carl = carl.connect(&invite, &prekeys);
    before(&mut acme, name);
    settle(&mut carl, &mut acme);
    let seen = carl.connection(at_carl);
    (seen.status, seen.note)
}

#[test]
fn later_requests_are_rejected_with_a_reason() {
    let [mut acme, mut bolt, mut carl] = three();
    let (name, invite, prekeys) = acme.invite(true);
    let (at_bolt, at_carl) = (
        bolt.connect(&invite, &prekeys),
        carl.connect(&invite, &prekeys),
    );
    settle(&mut bolt, &mut acme);
    assert_eq!(
        acme.step(|tx, _| load_invite(tx, name)).status,
        InviteStatus::Used
    );
    settle(&mut carl, &mut acme);
    assert_eq!(bolt.connection(at_bolt).status, ConnectionStatus::Accepted);
    let late = carl.connection(at_carl);
    assert_eq!(
        (late.status, late.note.as_str()),
        (ConnectionStatus::Rejected, "the invite was used before")
    );
}

#[test]
fn accepting_rejects_the_other_pending_requests() {
    let [mut acme, mut bolt, mut carl] = three();
    let (_, invite, prekeys) = acme.invite(false);
    let (at_bolt, at_carl) = (
        bolt.connect(&invite, &prekeys),
        carl.connect(&invite, &prekeys),
    );
    settle(&mut bolt, &mut acme);
    let asked = acme
        .step(|tx, _| connections::find_by_invite(tx, &invite.id()))
        .remove(0);
    settle(&mut carl, &mut acme);
    acme.step(|tx, identity| accept(tx, identity, asked));
    acme.run_relay_jobs();
    let sealed = acme.seal();
    acme.record_accepted(&sealed);
    for (node, at) in [(&mut bolt, at_bolt), (&mut carl, at_carl)] {
        assert_eq!(
            sealed
                .iter()
                .filter(|envelope| node.receive(envelope) == DeliveryOutcome::Stored)
                .count(),
            1,
            "{at}"
        );
    }
    assert_eq!(bolt.connection(at_bolt).status, ConnectionStatus::Accepted);
    let beside = carl.connection(at_carl);
    assert_eq!(
        (beside.status, beside.note.as_str()),
        (ConnectionStatus::Rejected, USED)
    );
}

#[test]
fn revoked_invites_reject_requests() {
    let (status, note) = refused(|acme, name| acme.step(|tx, _| revoke_invite(tx, name)));
    assert_eq!(
        (status, note.as_str()),
        (ConnectionStatus::Rejected, "the invite was revoked")
    );
}

#[test]
fn expired_invites_reject_requests() {
    let expire = |acme: &mut TestNode, name: InviteId| {
        acme.advance(limits::INVITE_LIFETIME_DEFAULT);
        acme.step(maintain_invites);
        assert_eq!(
            acme.step(|tx, _| load_invite(tx, name)).status,
            InviteStatus::Expired
        );
    };
    let expected = (
        ConnectionStatus::Rejected,
        "the invite has expired".to_owned(),
    );
    assert_eq!(refused(expire), expected);
    assert_eq!(
        refused(|acme, _| acme.advance(limits::INVITE_LIFETIME_DEFAULT)),
        expected,
        "before the next maintenance run"
    );
}

#[test]
fn invites_can_be_revoked_once() {
    let [mut acme, ..] = three();
    let (name, ..) = acme.invite(true);
    acme.step(|tx, _| revoke_invite(tx, name));
    let again = acme.commit(|tx, _| revoke_invite(tx, name));
    assert!(matches!(again, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::Conflict));
}

#[test]
fn foreign_prekeys_are_not_trusted() {
    let [mut acme, mut bolt, mut carl] = three();
    let ((_, invite, _), (_, _, strange)) = (acme.invite(true), bolt.invite(true));
    let refused = carl.commit(|tx, identity| connect(tx, identity, &invite, &strange, None));
    assert!(matches!(
        refused,
        Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::InviteUntrusted
    ));
    assert_eq!(carl.query_number("SELECT count(*) FROM connections"), 0);
}

#[test]
fn reusing_an_invite_returns_the_same_connection() {
    let [mut acme, mut bolt, _] = three();
    let (_, invite, prekeys) = acme.invite(true);
    let once = bolt.connect(&invite, &prekeys);
    assert_eq!(bolt.connect(&invite, &prekeys), once);
    settle(&mut bolt, &mut acme);
    assert_eq!(bolt.connect(&invite, &prekeys), once);
    assert_eq!(acme.query_number("SELECT count(*) FROM connections"), 1);
}

#[test]
fn requests_can_be_accepted_once() {
    let [mut acme, mut bolt, _] = three();
    let (_, invite, prekeys) = acme.invite(false);
    let at_bolt = bolt.connect(&invite, &prekeys);
    settle(&mut bolt, &mut acme);
    let at_acme = acme
        .step(|tx, _| connections::find_by_invite(tx, &invite.id()))
        .remove(0);
    assert_eq!(acme.connection(at_acme).status, ConnectionStatus::Pending);
    acme.step(|tx, identity| accept(tx, identity, at_acme));
    let again = acme.commit(|tx, identity| accept(tx, identity, at_acme));
    assert!(matches!(again, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::Conflict));
    settle(&mut acme, &mut bolt);
    assert_eq!(bolt.connection(at_bolt).status, ConnectionStatus::Accepted);
}

#[test]
fn blocking_fails_open_deliveries() {
    let [mut acme, mut bolt, _] = three();
    let (to_bolt, to_acme) = crate::testing::connect_nodes(&mut acme, &mut bolt);
    let message = acme.send(to_bolt, "hello");
    acme.step(|tx, _| block(tx, to_bolt));
    let shown = acme.delivery(&message);
    assert_eq!(
        (shown.status, shown.code),
        (DeliveryStatus::Failed, Some(FailureCode::Cancelled))
    );
    bolt.send(to_acme, "are you there?");
    let sealed = bolt.seal();
    bolt.record_accepted(&sealed);
    acme.receive(&sealed[0]);
    assert!(acme.received_texts().is_empty());
    assert_eq!(carry(&mut acme, &mut bolt), 0);
}

#[test]
fn messages_fail_with_an_undeliverable_accept() {
    let [mut acme, mut bolt, _] = three();
    let (_, invite, prekeys) = acme.invite(false);
    bolt.connect(&invite, &prekeys);
    settle(&mut bolt, &mut acme);
    let at_acme = acme
        .step(|tx, _| connections::find_by_invite(tx, &invite.id()))
        .remove(0);
    acme.step(|tx, identity| accept(tx, identity, at_acme));
    acme.run_relay_jobs();
    let message = acme.send(at_acme, "welcome");
    let sealed = acme.seal();
    let gone = SubmitOutcome::Refused {
        code: ErrorCode::MailboxUnknown,
        retry_after_ms: None,
    };
    acme.record_outcome(&sealed, &gone);
    let shown = acme.delivery(&message);
    assert_eq!(
        (shown.status, shown.code),
        (DeliveryStatus::Failed, Some(FailureCode::MailboxUnknown))
    );
    assert_eq!(acme.query_number("SELECT count(*) FROM outbox"), 0);
    let draft = crate::testing::draft(at_acme, "are you there?");
    let again = acme.commit(|tx, identity| crate::outbox::send(tx, identity, &draft, 0));
    assert!(matches!(
        again,
        Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::NotAccepted
    ));
}

#[test]
fn blocked_connections_have_no_due_receipts() {
    let [mut acme, mut bolt, _] = three();
    let (to_bolt, to_acme) = crate::testing::connect_nodes(&mut acme, &mut bolt);
    for text in ["read before", "read after"] {
        bolt.send(to_acme, text);
    }
    let sealed = bolt.seal();
    bolt.record_accepted(&sealed);
    for envelope in &sealed {
        acme.receive(envelope);
    }
    let [first, second] = acme.received().try_into().ok().unwrap();
    acme.step(|tx, _| crate::conversation::mark_read(tx, UserId::FIRST, first.id));
    acme.step(|tx, _| block(tx, to_bolt));
    acme.step(|tx, _| crate::conversation::mark_read(tx, UserId::FIRST, second.id));
    assert!(acme.seal().is_empty());
    assert_eq!(
        acme.query_number(
            "SELECT (SELECT count(*) FROM receipts_due) + (SELECT count(*) FROM outbox)"
        ),
        0
    );
}
