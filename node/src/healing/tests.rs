use super::*;
use crate::{
    conversation, recovery,
    testing::{Pair, TestNode, carry, connected_pair, settle},
};
use sealpost_node_core::model::{MessageId, UserId};
use sealpost_proto::{DeliveryStatus, limits};
use std::time::Duration;

/// Lets the session of Acme become due for rotation and replaces it.
fn rotate(pair: &mut Pair) {
    age(pair);
    let to_bolt = pair.to_bolt;
    pair.acme.step(|tx, identity| {
        let loaded = connections::load_secrets(tx, to_bolt)?;
        rotate_if_due(tx, identity, &loaded)
    });
    assert_eq!(pair.acme.start_sessions(&mut pair.bolt), 1);
}

fn age(pair: &mut Pair) {
    for node in [&mut pair.acme, &mut pair.bolt] {
        node.advance(limits::SESSION_ROTATION_HIGHER);
    }
}

fn status(node: &mut TestNode, message: &MessageId) -> DeliveryStatus {
    node.delivery(message).status
}

#[test]
fn accepted_messages_survive_a_lost_session() {
    let mut pair = connected_pair(800);
    let messages = ["one", "two"].map(|text| pair.acme.send(pair.to_bolt, text));
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    // The envelopes never arrive.
    rotate(&mut pair);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["one", "two"]);
    for message in &messages {
        assert_eq!(status(&mut pair.acme, message), DeliveryStatus::Delivered);
    }
}

#[test]
fn losing_init_loses_no_message() {
    let mut pair = connected_pair(810);
    rotate(&mut pair);
    let to_acme = pair.to_acme;
    pair.bolt.step(|tx, identity| {
        let loaded = connections::load_secrets(tx, to_acme)?;
        rotate_if_due(tx, identity, &loaded)
    });
    assert_eq!(pair.bolt.start_sessions(&mut pair.acme), 1);
    let from_acme = pair.acme.send(pair.to_bolt, "from Acme");
    let from_bolt = pair.bolt.send(pair.to_acme, "from Bolt");
    let (acme_sealed, bolt_sealed) = (pair.acme.seal(), pair.bolt.seal());
    pair.acme.record_accepted(&acme_sealed);
    pair.bolt.record_accepted(&bolt_sealed);
    for envelope in &acme_sealed {
        pair.bolt.receive(envelope);
    }
    for envelope in &bolt_sealed {
        pair.acme.receive(envelope);
    }
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["from Acme"]);
    assert_eq!(pair.acme.received_texts(), ["from Bolt"]);
    assert_eq!(
        status(&mut pair.acme, &from_acme),
        DeliveryStatus::Delivered
    );
    assert_eq!(
        status(&mut pair.bolt, &from_bolt),
        DeliveryStatus::Delivered
    );
}

/// Sends two messages from Acme, of which the user of Bolt reads the first, and loses the receipts.
fn lose_receipts(pair: &mut Pair) -> [MessageId; 2] {
    let messages = ["one", "two"].map(|text| pair.acme.send(pair.to_bolt, text));
    carry(&mut pair.acme, &mut pair.bolt);
    let delivered = pair.bolt.seal();
    pair.bolt.record_accepted(&delivered);
    let first = pair.bolt.received().remove(0).id;
    pair.bolt
        .step(|tx, _| conversation::mark_read(tx, UserId::FIRST, first));
    let read = pair.bolt.seal();
    assert!(!delivered.is_empty() && !read.is_empty());
    pair.bolt.record_accepted(&read);
    messages
}

#[test]
fn new_session_asks_for_lost_receipts() {
    let mut pair = connected_pair(820);
    let messages = lose_receipts(&mut pair);
    age(&mut pair);
    let to_acme = pair.to_acme;
    pair.bolt.step(|tx, identity| {
        let loaded = connections::load_secrets(tx, to_acme)?;
        rotate_if_due(tx, identity, &loaded)
    });
    pair.bolt.start_sessions(&mut pair.acme);
    settle(&mut pair.bolt, &mut pair.acme);
    let statuses = messages.map(|message| status(&mut pair.acme, &message));
    assert_eq!(statuses, [DeliveryStatus::Read, DeliveryStatus::Delivered]);
}

#[test]
fn old_read_receipts_are_asked_for_after_two_lost_sessions() {
    let mut pair = connected_pair(825);
    let message = lose_receipts(&mut pair)[0];
    // The first receipt arrived.
    pair.acme
        .sql("UPDATE outbox SET state = 'confirmed'; UPDATE deliveries SET status = 'delivered'");
    // Bolt replaces the session twice before Acme responds, which takes three weeks.
    for _ in 0..2 {
        age(&mut pair);
        let to_acme = pair.to_acme;
        pair.bolt.step(|tx, _| {
            let loaded = connections::load_secrets(tx, to_acme)?;
            let now = tx.now;
            queue_session(tx, &loaded, InitReason::Desync, now)
        });
        pair.bolt.start_sessions(&mut pair.acme);
        let lost = pair.bolt.seal();
        pair.bolt.record_accepted(&lost);
    }
    rotate(&mut pair);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Read);
}

#[test]
fn lost_read_receipts_are_asked_for_every_week() {
    let mut pair = connected_pair(827);
    let message = lose_receipts(&mut pair)[0];
    pair.acme.advance(limits::RECEIPT_QUERY_INTERVAL);
    pair.acme.step(|tx, _| query_overdue(tx));
    pair.bolt.sql("UPDATE chats SET read_reported = 0");
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Delivered);
    pair.bolt.sql("UPDATE chats SET read_reported = 1");
    pair.acme.advance(limits::RECEIPT_QUERY_INTERVAL);
    pair.acme.step(|tx, _| query_overdue(tx));
    assert_eq!(carry(&mut pair.acme, &mut pair.bolt), 0, "not due yet");
    pair.acme.advance(limits::READ_RECEIPT_QUERY_INTERVAL);
    pair.acme.step(|tx, _| query_overdue(tx));
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Read);
}

#[test]
fn receipt_queries_that_cannot_be_sent_do_not_accumulate() {
    let mut pair = connected_pair(829);
    lose_receipts(&mut pair);
    pair.acme.sql("UPDATE outbox SET state = 'confirmed'");
    let query_for_weeks = |node: &mut TestNode| {
        for _ in 0..5 {
            node.advance(limits::READ_RECEIPT_QUERY_INTERVAL);
            node.step(|tx, _| query_overdue(tx));
        }
        node.query_number("SELECT count(*) FROM outbox WHERE kind = 32 AND state = 'waiting'")
    };
    assert_eq!(query_for_weeks(&mut pair.acme), 1);
    pair.acme
        .sql("DELETE FROM outbox; UPDATE connections SET health = 'broken'");
    assert_eq!(query_for_weeks(&mut pair.acme), 0);
}

#[test]
fn repeated_message_is_receipted_as_read() {
    let mut pair = connected_pair(828);
    let message = lose_receipts(&mut pair)[0];
    rotate(&mut pair);
    pair.acme.sql("DELETE FROM outbox WHERE kind = 32");
    carry(&mut pair.acme, &mut pair.bolt);
    carry(&mut pair.bolt, &mut pair.acme);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Read);
}

#[test]
fn new_session_repeats_only_what_is_missing() {
    let mut pair = connected_pair(830);
    for text in ["one", "two"] {
        pair.acme.send(pair.to_bolt, text);
    }
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    pair.bolt.receive(&sealed[0]);
    // Bolt's hello states that only the second is missing; its receipts get lost.
    age(&mut pair);
    let to_acme = pair.to_acme;
    pair.bolt.step(|tx, identity| {
        let loaded = connections::load_secrets(tx, to_acme)?;
        rotate_if_due(tx, identity, &loaded)
    });
    pair.bolt.start_sessions(&mut pair.acme);
    pair.bolt.sql("DELETE FROM receipts_due");
    pair.bolt.send(pair.to_acme, "carries the INIT");
    carry(&mut pair.bolt, &mut pair.acme);
    pair.acme.seal();
    let resealed = "SELECT count(*) FROM outbox WHERE message IS NOT NULL AND state = 'sealed'";
    assert_eq!(pair.acme.query_number(resealed), 1);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["one", "two"]);
}

#[test]
fn overdue_receipts_are_asked_for() {
    let mut pair = connected_pair(840);
    let message = pair.acme.send(pair.to_bolt, "hello");
    carry(&mut pair.acme, &mut pair.bolt);
    let receipts = pair.bolt.seal();
    pair.bolt.record_accepted(&receipts);
    // The receipts never arrive.
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Sent);
    pair.acme.step(|tx, _| query_overdue(tx));
    assert_eq!(carry(&mut pair.acme, &mut pair.bolt), 0, "not overdue yet");
    pair.acme.advance(limits::RECEIPT_QUERY_INTERVAL);
    pair.acme.step(|tx, _| query_overdue(tx));
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Delivered);
}

#[test]
fn missing_messages_are_requested_when_the_sender_asks() {
    let mut pair = connected_pair(850);
    let message = pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    // The envelope never arrives.
    pair.acme.advance(limits::RECEIPT_QUERY_INTERVAL);
    pair.acme.step(|tx, _| query_overdue(tx));
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["hello"]);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Delivered);
}

#[test]
fn numbers_that_will_not_be_sent_are_void() {
    let mut pair = connected_pair(860);
    let lost = pair.acme.send(pair.to_bolt, "lost");
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    let key = pair.acme.delivery(&lost).key;
    pair.acme.step(|tx, _| outbox::remove_for_delivery(tx, key));
    pair.acme.send(pair.to_bolt, "arrives");
    settle(&mut pair.acme, &mut pair.bolt);
    let to_acme = pair.to_acme;
    let upto = |pair: &mut Pair| {
        let loaded = pair
            .bolt
            .step(|tx, _| connections::load_secrets(tx, to_acme));
        let resume = loaded.secrets.received_seqs.resumes().remove(0);
        (resume.upto, resume.bitmap.len())
    };
    let (before, gaps) = upto(&mut pair);
    assert_eq!(gaps, 1);
    pair.bolt.step(|tx, _| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        schedule_resume(tx, &mut loaded)
    });
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(upto(&mut pair), (before + 2, 0));
}

/// Sends a message from Acme that arrives, and sets Bolt back to the time before it.
fn set_bolt_back(pair: &mut Pair, recover: bool) {
    let to_acme = pair.to_acme;
    let backup = pair
        .bolt
        .step(|tx, _| connections::load_secrets(tx, to_acme))
        .secrets;
    let message = pair.acme.send(pair.to_bolt, "one");
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(status(&mut pair.acme, &message), DeliveryStatus::Delivered);
    pair.bolt.sql(
        "DELETE FROM postings; DELETE FROM messages; DELETE FROM received_uuids;
         DELETE FROM opened_digests; UPDATE chats SET last_number = 0;",
    );
    pair.bolt.step(|tx, identity| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        loaded.secrets = backup;
        connections::save(tx, &mut loaded)?;
        if recover {
            recovery::recover(tx, identity)?;
        }
        Ok(())
    });
}

#[test]
fn restored_side_receives_everything_again() {
    let mut pair = connected_pair(870);
    set_bolt_back(&mut pair, true);
    pair.bolt.advance(Duration::from_secs(60));
    assert_eq!(pair.bolt.start_sessions(&mut pair.acme), 1);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(pair.bolt.received_texts(), ["one"]);
}

#[test]
fn every_new_session_asks_for_missing_messages() {
    for is_started_by_bolt in [false, true] {
        let mut pair = connected_pair(872);
        set_bolt_back(&mut pair, false);
        if is_started_by_bolt {
            let to_acme = pair.to_acme;
            age(&mut pair);
            pair.bolt.step(|tx, identity| {
                let loaded = connections::load_secrets(tx, to_acme)?;
                rotate_if_due(tx, identity, &loaded)
            });
            assert_eq!(pair.bolt.start_sessions(&mut pair.acme), 1);
        } else {
            rotate(&mut pair);
        }
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.bolt.received_texts(), ["one"], "{is_started_by_bolt}");
    }
}

/// Sets the numbers of Bolt's messages back, as if Bolt continued an older copy of its data.
fn set_numbers_back(pair: &mut Pair) {
    let to_acme = pair.to_acme;
    pair.bolt.step(|tx, _| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        loaded.secrets.next_seq = 2;
        connections::save(tx, &mut loaded)
    });
}

/// Lets Bolt send messages that arrive, sets it back, and lets it send one that gets lost.
fn send_with_reused_number(pair: &mut Pair) -> MessageId {
    for text in ["one", "two"] {
        pair.bolt.send(pair.to_acme, text);
    }
    settle(&mut pair.bolt, &mut pair.acme);
    set_numbers_back(pair);
    let lost = pair.bolt.send(pair.to_acme, "three");
    let sealed = pair.bolt.seal();
    pair.bolt.record_accepted(&sealed);
    lost
}

fn request_missing_at_acme(pair: &mut Pair) {
    let to_bolt = pair.to_bolt;
    pair.acme.step(|tx, _| {
        let loaded = connections::load_secrets(tx, to_bolt)?;
        request_missing(tx, &loaded, Timestamp::default())
    });
}

fn incarnation_of_bolt(pair: &mut Pair) -> sealpost_e2ee::Incarnation {
    let to_acme = pair.to_acme;
    let loaded = pair
        .bolt
        .step(|tx, _| connections::load_secrets(tx, to_acme));
    loaded.secrets.incarnation
}

fn check_healed(pair: &mut Pair, lost: &MessageId) {
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.acme.received_texts(), ["one", "two", "three"]);
    assert_eq!(status(&mut pair.bolt, lost), DeliveryStatus::Delivered);
    let (to_acme, to_bolt) = (pair.to_acme, pair.to_bolt);
    let shown = pair.bolt.connection(to_acme);
    assert_eq!(shown.warning, Some(ConnectionWarning::RolledBack));
    assert_eq!(shown.health, HealthState::Ok);
    assert_eq!(pair.acme.connection(to_bolt).warning, None);
}

#[test]
fn reused_numbers_are_noticed_in_a_request() {
    let mut pair = connected_pair(906);
    let lost = send_with_reused_number(&mut pair);
    let before = incarnation_of_bolt(&mut pair);
    request_missing_at_acme(&mut pair);
    carry(&mut pair.acme, &mut pair.bolt);
    assert_ne!(incarnation_of_bolt(&mut pair), before);
    assert_eq!(pair.bolt.start_sessions(&mut pair.acme), 1);
    check_healed(&mut pair, &lost);
}

#[test]
fn reused_numbers_are_noticed_in_an_init() {
    let mut pair = connected_pair(890);
    let lost = send_with_reused_number(&mut pair);
    let before = incarnation_of_bolt(&mut pair);
    rotate(&mut pair);
    pair.acme.send(pair.to_bolt, "carries the INIT");
    carry(&mut pair.acme, &mut pair.bolt);
    assert_ne!(incarnation_of_bolt(&mut pair), before);
    check_healed(&mut pair, &lost);
}

#[test]
fn reused_numbers_do_not_count_as_arrived() {
    let mut pair = connected_pair(908);
    let lost = send_with_reused_number(&mut pair);
    request_missing_at_acme(&mut pair);
    carry(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.start_sessions(&mut pair.acme), 1);
    let sealed = pair.bolt.seal();
    pair.bolt.record_accepted(&sealed);
    // The new session gets lost, so Acme still states what has arrived of the old incarnation.
    rotate(&mut pair);
    pair.acme.send(pair.to_bolt, "carries the INIT");
    carry(&mut pair.acme, &mut pair.bolt);
    check_healed(&mut pair, &lost);
}

#[test]
fn reused_numbers_that_are_not_ahead_hide_no_message() {
    let mut pair = connected_pair(909);
    send_with_reused_number(&mut pair);
    for text in ["four", "five"] {
        pair.bolt.send(pair.to_acme, text);
    }
    let sealed = pair.bolt.seal();
    pair.bolt.record_accepted(&sealed);
    let before = incarnation_of_bolt(&mut pair);
    // What Acme has received does not show that Bolt was rolled back.
    request_missing_at_acme(&mut pair);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(incarnation_of_bolt(&mut pair), before);
    pair.bolt.advance(limits::RECEIPT_QUERY_INTERVAL);
    pair.bolt.step(|tx, _| query_overdue(tx));
    settle(&mut pair.bolt, &mut pair.acme);
    let mut texts = pair.acme.received_texts();
    texts.sort();
    assert_eq!(texts, ["five", "four", "one", "three", "two"]);
}

#[test]
fn requests_about_older_incarnations_start_no_session() {
    let mut pair = connected_pair(895);
    let lost = send_with_reused_number(&mut pair);
    request_missing_at_acme(&mut pair);
    settle(&mut pair.acme, &mut pair.bolt);
    check_healed(&mut pair, &lost);
    let incarnation = incarnation_of_bolt(&mut pair);
    // Acme knows both incarnations and asks about each.
    request_missing_at_acme(&mut pair);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(incarnation_of_bolt(&mut pair), incarnation);
    let jobs = "SELECT count(*) FROM relay_jobs WHERE kind = 'start_session'";
    assert_eq!(pair.bolt.query_number(jobs), 0);
}

/// Lets Acme claim to have received messages that Bolt has never sent. Returns when Bolt replaces
/// the session.
fn claim_unsent_messages(pair: &mut Pair) -> i64 {
    let (to_acme, incarnation) = (pair.to_acme, incarnation_of_bolt(pair));
    let claim = Resend {
        resume: Some(Resume {
            incarnation,
            upto: u64::MAX,
            bitmap: vec![0xff],
        }),
        ..Resend::default()
    };
    pair.bolt.step(|tx, identity| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        answer_resend(tx, identity, &mut loaded, &claim)
    });
    pair.bolt
        .query_number("SELECT next_at FROM relay_jobs WHERE kind = 'start_session'")
}

#[test]
fn false_claims_start_few_sessions() {
    let mut pair = connected_pair(898);
    let mut delays = Vec::new();
    for _ in 0..8 {
        let due_at = claim_unsent_messages(&mut pair);
        for _ in 0..20 {
            assert_eq!(claim_unsent_messages(&mut pair), due_at);
        }
        let due_at = Timestamp::from_millis(u64::try_from(due_at).unwrap());
        delays.push(due_at.since(pair.bolt.now).as_secs());
        pair.bolt.now = due_at;
        pair.bolt
            .sql("DELETE FROM relay_jobs WHERE kind = 'start_session'");
    }
    assert_eq!(delays, [0, 60, 120, 240, 480, 960, 1_920, 3_600]);
}

#[test]
fn claims_about_unknown_incarnations_are_harmless() {
    let mut pair = connected_pair(899);
    let to_acme = pair.to_acme;
    let before = incarnation_of_bolt(&mut pair);
    let claim = Resend {
        resume: Some(Resume {
            incarnation: sealpost_e2ee::Incarnation::from_bytes([9; 8]),
            upto: u64::MAX,
            bitmap: vec![0xff; limits::RESUME_BITMAP_BYTES_MAX],
        }),
        ..Resend::default()
    };
    pair.bolt.step(|tx, identity| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        answer_resend(tx, identity, &mut loaded, &claim)
    });
    assert_eq!(incarnation_of_bolt(&mut pair), before);
}

#[test]
fn recovery_replaces_prekeys_of_contact_addresses() {
    let mut node = TestNode::new("Acme", 901);
    let options = pairing::InviteOptions {
        kind: sealpost_node_core::model::InviteKind::Contact,
        lifetime: limits::INVITE_LIFETIME_DEFAULT,
        auto_accept: true,
    };
    node.step(|tx, identity| pairing::create_invite(tx, identity, options));
    let before = node.run_relay_jobs();
    node.step(recovery::recover);
    let after = node.run_relay_jobs();
    assert!(!after.is_empty() && after != before);
}

#[test]
fn nothing_is_sealed_until_recovery_has_a_session() {
    let mut pair = connected_pair(903);
    let message = pair.bolt.send(pair.to_acme, "sealed before");
    assert_eq!(pair.bolt.seal().len(), 1);
    pair.bolt.step(recovery::recover);
    assert!(pair.bolt.seal().is_empty(), "neither in the old session");
    let to_acme = pair.to_acme;
    assert_eq!(pair.bolt.connection(to_acme).health, HealthState::Healing);
    pair.bolt.advance(Duration::from_secs(60));
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(pair.acme.received_texts(), ["sealed before"]);
    assert_eq!(status(&mut pair.bolt, &message), DeliveryStatus::Delivered);
}

#[test]
fn peers_cannot_make_a_node_send_again_without_limit() {
    let mut pair = connected_pair(880);
    pair.acme.send(pair.to_bolt, "hello");
    settle(&mut pair.acme, &mut pair.bolt);
    let to_bolt = pair.to_bolt;
    let everything = |pair: &mut Pair| {
        pair.acme.step(|tx, identity| {
            let mut loaded = connections::load_secrets(tx, to_bolt)?;
            let request = Resend {
                resume: Some(Resume {
                    incarnation: loaded.secrets.incarnation,
                    upto: 0,
                    bitmap: Vec::new(),
                }),
                ..Resend::default()
            };
            answer_resend(tx, identity, &mut loaded, &request)
        });
        let sealed = pair.acme.seal();
        pair.acme.record_accepted(&sealed);
        sealed.len()
    };
    // The session that replaced the one of the pairing counts too, and so does the request in it.
    for _ in 2..limits::IMMEDIATE_RESENDS_PER_DAY_MAX {
        assert!(everything(&mut pair) > 0);
    }
    assert_eq!(everything(&mut pair), 0);
    assert_eq!(everything(&mut pair), 0);
    let beyond = Resume {
        incarnation: sealpost_e2ee::Incarnation::from_bytes([1; 8]),
        upto: u64::MAX,
        bitmap: vec![0xff; 128],
    };
    pair.acme.step(|tx, _| {
        let loaded = connections::load_secrets(tx, to_bolt)?;
        let now = tx.now;
        answer_resume(tx, &loaded, &beyond, now)
    });
    pair.acme.advance(limits::REPAIR_INTERVAL_MAX);
    assert!(!pair.acme.seal().is_empty());
}

#[test]
fn prekeys_are_replaced_with_a_session_that_failed() {
    let mut pair = connected_pair(905);
    let to_acme = pair.to_acme;
    pair.bolt.step(|tx, _| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        schedule_session(tx, &mut loaded, &RejectReason::NoHeaderKey)
    });
    pair.bolt.start_sessions(&mut pair.acme);
    let jobs = "SELECT count(*) FROM relay_jobs WHERE kind = 'publish_prekeys'";
    assert_eq!(pair.bolt.query_number(jobs), 1);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(pair.bolt.query_number(jobs), 0);
}

#[test]
fn unanswered_init_is_replaced_after_a_while() {
    let mut pair = connected_pair(907);
    rotate(&mut pair);
    let to_bolt = pair.to_bolt;
    let schedule = |pair: &mut Pair| {
        pair.acme.step(|tx, _| {
            let mut loaded = connections::load_secrets(tx, to_bolt)?;
            schedule_session(tx, &mut loaded, &RejectReason::UnknownSession)
        });
    };
    schedule(&mut pair);
    assert_eq!(pair.acme.start_sessions(&mut pair.bolt), 0);
    pair.acme.advance(limits::REPAIR_INTERVAL_FIRST);
    let session = |pair: &mut Pair| {
        let loaded = pair
            .acme
            .step(|tx, _| connections::load_secrets(tx, to_bolt));
        loaded.secrets.sessions.current_id()
    };
    let before = session(&mut pair);
    assert_eq!(pair.acme.start_sessions(&mut pair.bolt), 1);
    assert_ne!(session(&mut pair), before, "Bolt has not answered");
    schedule(&mut pair);
    settle(&mut pair.acme, &mut pair.bolt);
    let before = session(&mut pair);
    pair.acme.advance(limits::REPAIR_INTERVAL_MAX);
    assert_eq!(pair.acme.start_sessions(&mut pair.bolt), 1);
    assert_eq!(session(&mut pair), before, "Bolt has answered");
}
