use super::*;
use crate::testing::{TestNode, carry, connect_nodes, connected_pair, settle};
use sealpost_e2ee::payload::ReceiptKind;
use sealpost_proto::{
    DeliveryId, EnvelopeState, ErrorCode, FailureCode,
    wire::{StatusEvent, SubmitOutcome},
};
use std::time::Duration;

#[test]
fn one_request_per_connection_is_in_flight() {
    let mut pair = connected_pair(100);
    let texts: Vec<_> = (0..20).map(|number| format!("number {number}")).collect();
    for text in &texts {
        pair.acme.send(pair.to_bolt, text);
    }
    let first = pair.acme.seal();
    assert_eq!(first.len(), limits::SEALED_PER_CONNECTION_MAX);
    assert_eq!(
        pair.acme.seal(),
        first,
        "unchanged until the relay responds"
    );
    pair.acme.record_accepted(&first);
    let second = pair.acme.seal();
    assert_eq!(second.len(), texts.len() - first.len());
    for envelope in first.iter().chain(&second) {
        pair.bolt.receive(envelope);
    }
    assert_eq!(pair.bolt.received_texts(), texts);
}

#[test]
fn duplicates_without_a_receipt_fail_eventually() {
    let mut pair = connected_pair(105);
    let message = pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    pair.acme.record_outcome(
        &sealed,
        &SubmitOutcome::Duplicate {
            state: EnvelopeState::Stored,
        },
    );
    assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
    pair.acme.advance(
        limits::ENVELOPE_LIFETIME_DEFAULT + limits::UNCONFIRMED_AFTER + Duration::from_secs(1),
    );
    pair.acme.step(crate::daemon::maintenance::maintain);
    let shown = pair.acme.delivery(&message);
    assert_eq!(
        (shown.status, shown.code),
        (DeliveryStatus::Failed, Some(FailureCode::Unconfirmed))
    );
}

#[test]
fn resealing_reuses_sequence_number_and_time() {
    let mut pair = connected_pair(110);
    let (message, to_bolt) = (pair.acme.send(pair.to_bolt, "hello"), pair.to_bolt);
    let first = pair.acme.seal();
    let (seq, sent_at) = ("SELECT seq FROM outbox", "SELECT sent_at FROM outbox");
    let before = (pair.acme.query_number(seq), pair.acme.query_number(sent_at));
    pair.acme.advance(Duration::from_secs(300));
    pair.acme
        .step(|tx, _| outbox::requeue_unconfirmed(tx, to_bolt, tx.now));
    let second = pair.acme.seal();
    assert_eq!(
        (pair.acme.query_number(seq), pair.acme.query_number(sent_at)),
        before
    );
    assert_ne!(
        (first[0].id, &first[0].bytes),
        (second[0].id, &second[0].bytes)
    );
    pair.acme.record_unknown_mailbox(&first);
    assert_eq!(
        pair.acme.delivery(&message).status,
        DeliveryStatus::Pending,
        "the replaced envelope is ignored"
    );
    pair.bolt.receive(&second[0]);
    let arrived = pair.bolt.received().remove(0);
    assert_eq!(arrived.message.sent_at, crate::testing::START);
}

#[test]
fn receipts_are_batched_by_kind() {
    let mut pair = connected_pair(120);
    let to_acme = pair.to_acme;
    for number in 0..130 {
        let id = MessageUuid::from_bytes([number; 16]);
        pair.bolt
            .step(|tx, _| receipts::add(tx, to_acme, &id, ReceiptKind::DELIVERED));
    }
    let id = MessageUuid::from_bytes([1; 16]);
    pair.bolt
        .step(|tx, _| receipts::add(tx, to_acme, &id, ReceiptKind::READ));
    assert_eq!(
        pair.bolt.seal().len(),
        4,
        "64, 64 and 2 delivered, and one read"
    );
    assert_eq!(
        pair.bolt.query_number("SELECT count(*) FROM receipts_due"),
        0
    );
}

/// Returns two nodes and an accept from Acme that the relay has stored.
fn with_submitted_accept(seed: u64) -> (TestNode, TestNode, Vec<SubmittedEnvelope>) {
    let (mut acme, mut bolt) = (TestNode::new("Acme", seed), TestNode::new("Bolt", seed + 1));
    let (_, invite, prekeys) = acme.invite(true);
    bolt.connect(&invite, &prekeys);
    carry(&mut bolt, &mut acme);
    acme.run_relay_jobs();
    let accept = acme.seal();
    acme.record_accepted(&accept);
    (acme, bolt, accept)
}

#[test]
fn accepts_are_repeated_until_confirmed() {
    let (mut acme, mut bolt, lost) = with_submitted_accept(130);
    acme.advance(limits::ACCEPT_RETRY_INTERVAL - Duration::from_secs(1));
    assert!(acme.seal().is_empty());
    acme.advance(Duration::from_secs(1));
    let repeated = acme.seal();
    assert_eq!(repeated.len(), 1);
    assert_ne!(repeated[0].id, lost[0].id);
    acme.record_accepted(&repeated);
    bolt.receive(&repeated[0]);
    settle(&mut bolt, &mut acme);
    acme.advance(2 * limits::ACCEPT_RETRY_INTERVAL);
    assert!(acme.seal().is_empty());
}

#[test]
fn expired_accepts_are_sent_again() {
    let (mut acme, mut bolt, expired) = with_submitted_accept(134);
    let (envelope, at) = (expired[0].id, acme.now);
    let event = StatusEvent {
        id: DeliveryId(1),
        envelope,
        state: EnvelopeState::Expired,
        attempts: 0,
        reason: None,
        next_attempt_at: None,
        at,
    };
    acme.step(|tx, _| inbox::apply_status_event(tx, &event));
    settle(&mut acme, &mut bolt);
    assert_eq!(
        bolt.query_number("SELECT count(*) FROM connections WHERE status = 'accepted'"),
        1
    );
}

#[test]
fn accepts_are_repeated_after_a_clock_setback() {
    let (mut acme, _, _) = with_submitted_accept(132);
    assert!(acme.seal().is_empty());
    acme.now = acme.now.minus(Duration::from_secs(1));
    assert_eq!(
        acme.seal().len(),
        1,
        "the retry time is further ahead than the retry interval"
    );
}

#[test]
fn messages_wait_for_files_in_order() {
    let mut pair = connected_pair(140);
    let file = pair.acme.stage(10);
    pair.acme.send_files(pair.to_bolt, "with a file", &[file]);
    pair.acme.send(pair.to_bolt, "without");
    assert!(pair.acme.seal().is_empty());
    pair.acme.record_uploaded(file);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["with a file", "without"]);
}

#[test]
fn receipts_do_not_wait_behind_messages() {
    let mut pair = connected_pair(145);
    let (file, to_bolt) = (pair.acme.stage(10), pair.to_bolt);
    for _ in 0..=limits::SEALED_PER_CONNECTION_MAX {
        pair.acme.send_files(to_bolt, "with a file", &[file]);
    }
    let id = MessageUuid::from_bytes([1; 16]);
    pair.acme
        .step(|tx, _| receipts::add(tx, to_bolt, &id, ReceiptKind::DELIVERED));
    assert_eq!(pair.acme.seal().len(), 1);
}

/// A full batch of requests waits until the relay has opened their mailboxes.
#[test]
fn waiting_connections_do_not_delay_others() {
    let (mut acme, mut bolt) = (TestNode::new("Acme", 150), TestNode::new("Bolt", 151));
    let (_, to_acme) = connect_nodes(&mut acme, &mut bolt);
    for _ in 0..limits::CONNECTIONS_PER_SEAL_BATCH_MAX {
        let (_, invite, prekeys) = acme.invite(true);
        bolt.step(|tx, identity| crate::pairing::connect(tx, identity, &invite, &prekeys, None));
    }
    bolt.send(to_acme, "hello");
    assert_eq!(bolt.seal().len(), 1);
}

#[test]
fn delivery_status_follows_the_relay() {
    let mut pair = connected_pair(160);
    let message = pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    let full = SubmitOutcome::Refused {
        code: ErrorCode::MailboxFull,
        retry_after_ms: Some(60_000),
    };
    pair.acme.record_outcome(&sealed, &full);
    let waits = pair.acme.delivery(&message);
    assert_eq!(waits.status, DeliveryStatus::Pending);
    assert!(
        waits.reason.is_some()
            && waits.next_attempt_at >= Some(pair.acme.now.plus(Duration::from_secs(60)))
    );
    assert!(
        pair.acme.seal().is_empty(),
        "not before the next attempt is due"
    );
    pair.acme.now = waits.next_attempt_at.unwrap();
    assert_eq!(pair.acme.seal(), sealed);
    pair.acme.record_accepted(&sealed);
    assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
    pair.bolt.receive(&sealed[0]);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(
        pair.acme.delivery(&message).status,
        DeliveryStatus::Delivered
    );
    let unconfirmed = "SELECT count(*) FROM outbox WHERE state <> 'confirmed'";
    assert_eq!(pair.acme.query_number(unconfirmed), 0);
}

#[test]
fn messages_wait_for_a_mailbox_that_is_reopened() {
    let mut pair = connected_pair(163);
    let message = pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    let unknown = SubmitOutcome::Refused {
        code: ErrorCode::MailboxUnknown,
        retry_after_ms: None,
    };
    pair.acme.record_outcome(&sealed, &unknown);
    let waiting = pair.acme.delivery(&message);
    assert_eq!(waiting.status, DeliveryStatus::Pending);
    let reason = waiting.reason.unwrap();
    assert!(reason.contains("the mailbox does not exist"), "{reason}");
    let at = waiting.next_attempt_at.unwrap();
    assert!(pair.acme.seal().is_empty());
    pair.acme.now = at;
    assert_eq!(pair.acme.seal(), sealed, "unchanged");
    pair.acme.record_accepted(&sealed);
    let status = pair.acme.delivery(&message).status;
    assert_eq!(status, DeliveryStatus::Sent);
}

#[test]
fn messages_fail_if_the_mailbox_stays_unknown() {
    let mut pair = connected_pair(164);
    let message = pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    pair.acme.record_unknown_mailbox(&sealed);
    let failed = pair.acme.delivery(&message);
    assert_eq!(
        (failed.status, failed.code),
        (DeliveryStatus::Failed, Some(FailureCode::MailboxUnknown))
    );
    let health = pair.acme.connection(pair.to_bolt).health;
    assert_eq!(health, HealthState::Broken);
}

#[test]
fn connections_are_broken_while_the_mailbox_is_closed() {
    let mut pair = connected_pair(165);
    let to_bolt = pair.to_bolt;
    let mut send = |refusal: Option<ErrorCode>| {
        pair.acme.send(to_bolt, "hello");
        let sealed = pair.acme.seal();
        match refusal {
            Some(code) => {
                let retry_after_ms = None;
                let refused = SubmitOutcome::Refused {
                    code,
                    retry_after_ms,
                };
                pair.acme.record_outcome(&sealed, &refused);
            }
            None => pair.acme.record_accepted(&sealed),
        }
        let row = pair.acme.connection(to_bolt);
        (row.health, row.health_reason)
    };
    assert_eq!(send(None), (HealthState::Ok, None));
    let closed = connections::CLOSED_BY_PARTNER.to_owned();
    assert_eq!(
        send(Some(ErrorCode::MailboxClosed)),
        (HealthState::Broken, Some(closed))
    );
    assert_eq!(send(None), (HealthState::Ok, None));
}

#[test]
fn permanent_refusals_fail_only_their_message() {
    let mut pair = connected_pair(170);
    let messages = ["one", "two"].map(|text| pair.acme.send(pair.to_bolt, text));
    let sealed = pair.acme.seal();
    let closed = SubmitOutcome::Refused {
        code: ErrorCode::MailboxClosed,
        retry_after_ms: None,
    };
    pair.acme.record_outcome(&sealed[..1], &closed);
    pair.acme.record_accepted(&sealed[1..]);
    let [failed, sent] = messages.map(|message| pair.acme.delivery(&message));
    assert_eq!(
        (failed.status, failed.code),
        (DeliveryStatus::Failed, Some(FailureCode::MailboxUnknown))
    );
    assert_eq!(sent.status, DeliveryStatus::Sent);
}

#[test]
fn envelopes_are_due_with_the_first_of_their_connection() {
    let mut pair = connected_pair(180);
    for text in ["one", "two"] {
        pair.acme.send(pair.to_bolt, text);
    }
    let sealed = pair.acme.seal();
    let full = SubmitOutcome::Refused {
        code: ErrorCode::MailboxFull,
        retry_after_ms: Some(60_000),
    };
    pair.acme.record_outcome(&sealed, &full);
    let first_due = pair
        .acme
        .query_number("SELECT next_at FROM outbox WHERE state = 'sealed'");
    // The second is due earlier or later than the first.
    for second_due in [first_due - 30_000, first_due + 30_000] {
        pair.acme.sql(&format!(
            "UPDATE outbox SET next_at = {second_due}
             WHERE id = (SELECT max(id) FROM outbox)"
        ));
        pair.acme.now = Timestamp::from_millis((first_due - 1).cast_unsigned());
        assert!(pair.acme.seal().is_empty());
        pair.acme.now = Timestamp::from_millis(first_due.cast_unsigned());
        assert_eq!(pair.acme.seal(), sealed);
    }
}

#[test]
fn refused_send_names_the_step_for_its_status() {
    let mut pair = connected_pair(109);
    let to_bolt = pair.to_bolt;
    for (change, next) in [
        (
            "status = 'pending', direction = 'in'",
            "accept the request first",
        ),
        ("status = 'pending', direction = 'out'", "wait until"),
        ("status = 'rejected'", "use a new invite"),
        ("status = 'blocked'", "use a new invite"),
        ("status = 'suspended'", "sealpost connections acknowledge"),
        (
            "status = 'accepted', health = 'broken', last_contact_at = NULL",
            "connect again with a new invite",
        ),
    ] {
        pair.acme.sql(&format!("UPDATE connections SET {change}"));
        let refused = pair
            .acme
            .step(|tx, _| match find_sendable_chat(tx, to_bolt) {
                Err(Fault::Refused(refusal)) => Ok(refusal),
                _ => panic!("{change}"),
            });
        assert_eq!(refused.code, RefusalCode::NotAccepted, "{change}");
        let advice = refused.next.unwrap();
        assert!(advice.contains(next), "{change}: {advice}");
    }
}
