use super::*;
use crate::testing::{START, TestNode, carry, connect_nodes, settle};
use sealpost_node_core::model::{ConnectionStatus, UserId};
use sealpost_proto::wire::DeliveryOutcome;

fn three() -> [TestNode; 3] {
    [
        TestNode::new("Acme", 300),
        TestNode::new("Bolt", 301),
        TestNode::new("Carl", 302),
    ]
}

/// Submits everything that `from` can send. Returns the outcomes at `to`.
fn submit(from: &mut TestNode, to: &mut TestNode) -> Vec<DeliveryOutcome> {
    from.run_relay_jobs();
    let sealed = from.seal();
    from.record_accepted(&sealed);
    sealed.iter().map(|envelope| to.receive(envelope)).collect()
}

/// Sends a request to Acme, which must refuse it and retain nothing but a count.
fn expect_refusal(acme: &mut TestNode, sender: &mut TestNode, invite: InviteId) {
    let rows = "SELECT (SELECT count(*) FROM connections) + (SELECT count(*) FROM outbox)
                + (SELECT count(*) FROM opened_digests) + (SELECT count(*) FROM received_uuids)
                + (SELECT count(*) FROM relay_jobs) + (SELECT count(*) FROM events)";
    acme.run_relay_jobs();
    let before = (
        acme.query_number(rows),
        acme.step(|tx, _| load_invite(tx, invite)).refused_requests,
    );
    assert_eq!(submit(sender, acme), [DeliveryOutcome::Refused]);
    let after = (
        acme.query_number(rows),
        acme.step(|tx, _| load_invite(tx, invite)).refused_requests,
    );
    assert_eq!(after, (before.0, before.1 + 1));
}

#[test]
fn late_requests_are_only_counted() {
    let [mut acme, mut bolt, mut carl] = three();
    let (id, invite, prekeys) = acme.invite(true);
    let at_bolt = bolt.connect(&invite, &prekeys);
    carl.connect(&invite, &prekeys);
    settle(&mut bolt, &mut acme);
    assert_eq!(
        acme.step(|tx, _| load_invite(tx, id)).status,
        InviteStatus::Used
    );
    expect_refusal(&mut acme, &mut carl, id);
    assert_eq!(bolt.connection(at_bolt).status, ConnectionStatus::Accepted);
}

#[test]
fn newest_request_is_refused_when_many_are_pending() {
    let mut acme = TestNode::new("Acme", 300);
    let (id, invite, prekeys) = acme.invite(false);
    for number in 0..limits::PENDING_REQUESTS_MAX as u64 {
        let mut sender = TestNode::new("Sender", 1_000 + number);
        sender.connect(&invite, &prekeys);
        assert_eq!(submit(&mut sender, &mut acme), [DeliveryOutcome::Stored]);
    }
    let pending = acme.step(|tx, _| connections::find_pending(tx, id));
    let mut late = TestNode::new("Late", 999);
    late.connect(&invite, &prekeys);
    expect_refusal(&mut acme, &mut late, id);
    assert_eq!(
        acme.step(|tx, _| connections::find_pending(tx, id)),
        pending
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
fn closed_invites_refuse_requests() {
    let [mut acme, mut bolt, mut carl] = three();
    let (revoked, invite, prekeys) = acme.invite(true);
    bolt.connect(&invite, &prekeys);
    acme.step(|tx, _| revoke_invite(tx, revoked));
    expect_refusal(&mut acme, &mut bolt, revoked);
    let (expired, invite, prekeys) = acme.invite(true);
    carl.connect(&invite, &prekeys);
    bolt.connect(&invite, &prekeys);
    acme.advance(limits::INVITE_LIFETIME_DEFAULT);
    // Before the next maintenance run.
    expect_refusal(&mut acme, &mut carl, expired);
    acme.step(maintain_invites);
    assert_eq!(
        acme.step(|tx, _| load_invite(tx, expired)).status,
        InviteStatus::Expired
    );
    expect_refusal(&mut acme, &mut bolt, expired);
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
    let (to_bolt, to_acme) = connect_nodes(&mut acme, &mut bolt);
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
    acme.record_unknown_mailbox(&sealed);
    let shown = acme.delivery(&message);
    assert_eq!(
        (shown.status, shown.code),
        (DeliveryStatus::Failed, Some(FailureCode::MailboxUnknown))
    );
    assert_eq!(acme.query_number("SELECT count(*) FROM outbox"), 0);
    let outgoing = crate::testing::outgoing_message(at_acme, "are you there?");
    let again = acme.commit(|tx, identity| crate::outbox::send(tx, identity, &outgoing, 0));
    assert!(matches!(
        again,
        Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::NotAccepted
    ));
}

#[test]
fn blocked_connections_have_no_due_receipts() {
    let [mut acme, mut bolt, _] = three();
    let (to_bolt, to_acme) = connect_nodes(&mut acme, &mut bolt);
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

#[test]
fn blocked_connections_refuse_late_envelopes() {
    let [mut acme, mut bolt, _] = three();
    let (to_bolt, to_acme) = connect_nodes(&mut acme, &mut bolt);
    bolt.send(to_acme, "late");
    let sealed = bolt.seal();
    acme.step(|tx, _| block(tx, to_bolt));
    let outcomes = sealed.iter().map(|envelope| acme.receive(envelope));
    assert!(outcomes.eq([DeliveryOutcome::Refused]));
    assert!(acme.received().is_empty());
}

#[test]
fn invites_use_the_time_of_the_relay() {
    let behind = Duration::from_secs(8 * 86_400);
    let (mut acme, mut bolt) = (TestNode::new("Acme", 350), TestNode::new("Bolt", 351));
    (acme.now, acme.relay_ahead) = (START.minus(behind), behind);
    let (_, invite, _) = acme.invite(true);
    assert!(
        invite
            .check(START, bolt.identity.keys.fingerprint())
            .is_ok()
    );
    let (to_bolt, _) = connect_nodes(&mut acme, &mut bolt);
    acme.send(to_bolt, "hello");
    settle(&mut acme, &mut bolt);
    assert_eq!(bolt.received()[0].message.sent_at, START);
    let unconfirmed = "SELECT count(*) FROM outbox WHERE state <> 'confirmed'";
    assert_eq!(acme.query_number(unconfirmed), 0);
    acme.step(crate::daemon::maintenance::maintain);
    assert_eq!(
        acme.query_number("SELECT count(*) FROM invites WHERE status = 'open'"),
        1,
        "the invite is not older by our clock"
    );
}

#[test]
fn secrets_of_closed_invites_are_erased() {
    let bundles = |acme: &mut TestNode, id| acme.step(|tx, _| load_invite(tx, id)).issued.bundles;
    let [mut acme, mut bolt, _] = three();
    let (used, invite, prekeys) = acme.invite(true);
    let (revoked, _, _) = acme.invite(true);
    let (expired, _, _) = acme.invite(true);
    for id in [used, revoked, expired] {
        assert_eq!(bundles(&mut acme, id).len(), 1);
    }
    bolt.connect(&invite, &prekeys);
    settle(&mut bolt, &mut acme);
    acme.step(|tx, _| revoke_invite(tx, revoked));
    acme.advance(limits::INVITE_LIFETIME_DEFAULT);
    acme.step(crate::daemon::maintenance::maintain);
    for id in [used, revoked, expired] {
        assert!(bundles(&mut acme, id).is_empty());
    }
}

#[test]
fn session_of_the_pairing_is_replaced_at_once() {
    let [mut acme, mut bolt, _] = three();
    let (to_bolt, to_acme) = connect_nodes(&mut acme, &mut bolt);
    for (node, id) in [(&mut acme, to_bolt), (&mut bolt, to_acme)] {
        let loaded = node.step(|tx, _| connections::load_secrets(tx, id));
        assert!(!loaded.secrets.is_pairing_session());
        assert!(loaded.secrets.has_used_own_bundle || loaded.secrets.peer_bundle_epoch > 0);
    }
}
