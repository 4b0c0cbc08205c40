use super::*;
use crate::{
    recovery,
    store::connections,
    testing::{Pair, TestNode, carry, connected_pair, settle},
};
use sealpost_e2ee::{SessionId, sessions::RejectReason};
use sealpost_node_core::model::ConnectionId;
use sealpost_proto::{DeliveryStatus, limits, wire::SubmittedEnvelope};
use std::time::Duration;

fn read(pair: &mut Pair, id: MessageId) -> u64 {
    pair.bolt.step(|tx, _| mark_read(tx, UserId::FIRST, id))
}

fn receipts_due(pair: &Pair) -> i64 {
    pair.bolt.query_number("SELECT count(*) FROM receipts_due")
}

#[test]
fn earlier_messages_become_read_too() {
    let mut pair = connected_pair(240);
    let sent = ["one", "two", "three"].map(|text| pair.acme.send(pair.to_bolt, text));
    settle(&mut pair.acme, &mut pair.bolt);
    let received: Vec<_> = pair
        .bolt
        .received()
        .iter()
        .map(|posting| posting.id)
        .collect();
    assert_eq!(read(&mut pair, received[1]), 2);
    assert_eq!(receipts_due(&pair), 2);
    let is_read: Vec<_> = pair
        .bolt
        .received()
        .iter()
        .map(|posting| posting.is_read)
        .collect();
    assert_eq!(is_read, [true, true, false]);
    settle(&mut pair.bolt, &mut pair.acme);
    let statuses = sent.map(|message| pair.acme.delivery(&message).status);
    let expected = [
        DeliveryStatus::Read,
        DeliveryStatus::Read,
        DeliveryStatus::Delivered,
    ];
    assert_eq!(statuses, expected);
}

#[test]
fn read_receipts_are_sent_once() {
    let mut pair = connected_pair(245);
    let message = pair.acme.send(pair.to_bolt, "hello");
    settle(&mut pair.acme, &mut pair.bolt);
    let arrived = pair.bolt.received().remove(0).id;
    assert_eq!(read(&mut pair, arrived), 1);
    assert_eq!(read(&mut pair, arrived), 0);
    assert_eq!(receipts_due(&pair), 1);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Read);
    // Moves the position back, as a future "mark as unread" does.
    pair.bolt.sql("DELETE FROM read_positions");
    assert_eq!(read(&mut pair, arrived), 1);
    assert_eq!(receipts_due(&pair), 0);
}

#[test]
fn own_messages_are_not_reported() {
    let mut pair = connected_pair(248);
    let own = pair.bolt.send(pair.to_acme, "hello");
    assert_eq!(read(&mut pair, own), 0);
    assert_eq!(receipts_due(&pair), 0);
}

/// Returns the texts of a direct chat in the order in which it shows them.
fn shown_texts(node: &mut TestNode, connection: ConnectionId) -> Vec<String> {
    let chat = node.connection(connection).chat;
    let filter = postings::Filter {
        chat,
        limit: 100,
        ..postings::Filter::default()
    };
    let page = node.step(|tx, _| postings::load_page(tx, &filter));
    page.into_iter().map(|row| row.message.content).collect()
}

fn find(node: &mut TestNode, text: &str) -> postings::Posting {
    let mut received = node.received().into_iter();
    received.find(|row| row.message.content == text).unwrap()
}

fn unread_texts(node: &mut TestNode) -> Vec<String> {
    let unread = node.received().into_iter().filter(|row| !row.is_read);
    unread.map(|row| row.message.content).collect()
}

fn receive_all<'a>(node: &mut TestNode, sealed: impl IntoIterator<Item = &'a SubmittedEnvelope>) {
    for envelope in sealed {
        node.receive(envelope);
    }
}

/// Lets Bolt receive Acme's second message after the third and after an own one.
fn receive_late_message(pair: &mut Pair) {
    for text in ["one", "two", "three"] {
        pair.acme.send(pair.to_bolt, text);
    }
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    receive_all(&mut pair.bolt, [&sealed[0], &sealed[2]]);
    pair.bolt.send(pair.to_acme, "answer");
    receive_all(&mut pair.bolt, [&sealed[1]]);
}

#[test]
fn late_message_is_shown_where_it_was_sent() {
    let mut pair = connected_pair(250);
    receive_late_message(&mut pair);
    let to_acme = pair.to_acme;
    let texts = shown_texts(&mut pair.bolt, to_acme);
    assert_eq!(texts, ["one", "two", "three", "answer"]);
    let late = find(&mut pair.bolt, "two");
    assert_eq!(late.id.number, 4, "numbers count arrivals");
    assert!(late.position.is_late());
    assert!(!find(&mut pair.bolt, "three").position.is_late());
    let chat = pair.bolt.step(|tx, _| chats::load(tx, late.id.chat));
    let last = chat.and_then(|chat| chat.last_message()).unwrap();
    assert_eq!(last.number, 3, "the answer is shown last");
}

#[test]
fn late_message_is_unread_until_it_is_read() {
    let mut pair = connected_pair(252);
    receive_late_message(&mut pair);
    let [one, two, three] = ["one", "two", "three"].map(|text| find(&mut pair.bolt, text).id);
    pair.bolt.sql("DELETE FROM receipts_due");
    assert_eq!(read(&mut pair, one), 1);
    assert_eq!(unread_texts(&mut pair.bolt), ["three", "two"]);
    // A position cannot pass the third message, which is shown below.
    assert_eq!(read(&mut pair, two), 0);
    assert_eq!(receipts_due(&pair), 1);
    assert_eq!(read(&mut pair, three), 2);
    assert_eq!(receipts_due(&pair), 3);
    assert!(unread_texts(&mut pair.bolt).is_empty());
}

#[test]
fn late_message_is_read_after_all_others() {
    let mut pair = connected_pair(254);
    for text in ["one", "two", "three"] {
        pair.acme.send(pair.to_bolt, text);
    }
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    receive_all(&mut pair.bolt, [&sealed[0], &sealed[2]]);
    let three = find(&mut pair.bolt, "three").id;
    assert_eq!(read(&mut pair, three), 2);
    pair.bolt.send(pair.to_acme, "answer");
    receive_all(&mut pair.bolt, [&sealed[1]]);
    assert_eq!(unread_texts(&mut pair.bolt), ["two"]);
    let [one, two] = ["one", "two"].map(|text| find(&mut pair.bolt, text).id);
    assert_eq!(read(&mut pair, one), 0);
    assert_eq!(unread_texts(&mut pair.bolt), ["two"]);
    assert_eq!(read(&mut pair, two), 1);
    assert!(unread_texts(&mut pair.bolt).is_empty());
    settle(&mut pair.bolt, &mut pair.acme);
    let read = "SELECT count(*) FROM deliveries WHERE status = 'read'";
    assert_eq!(pair.acme.query_number(read), 3);
}

#[test]
fn order_continues_over_a_change_of_session() {
    let mut pair = connected_pair(256);
    for text in ["one", "two"] {
        pair.acme.send(pair.to_bolt, text);
    }
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    receive_all(&mut pair.bolt, [&sealed[0]]);
    let to_bolt = pair.to_bolt;
    for node in [&mut pair.acme, &mut pair.bolt] {
        node.advance(limits::SESSION_ROTATION_HIGHER);
    }
    pair.acme.send(pair.to_bolt, "three");
    let before = current_session(&mut pair.acme, to_bolt);
    pair.acme.step(|tx, identity| {
        let loaded = connections::load_secrets(tx, to_bolt)?;
        crate::healing::rotate_if_due(tx, identity, &loaded)
    });
    pair.acme.start_sessions(&mut pair.bolt);
    assert_ne!(current_session(&mut pair.acme, to_bolt), before);
    let sealed_again = pair.acme.seal();
    pair.acme.record_accepted(&sealed_again);
    receive_all(&mut pair.bolt, sealed_again.iter().rev());
    let to_acme = pair.to_acme;
    assert_eq!(find(&mut pair.bolt, "two").id.number, 3);
    assert_eq!(
        shown_texts(&mut pair.bolt, to_acme),
        ["one", "two", "three"]
    );
}

fn current_session(node: &mut TestNode, connection: ConnectionId) -> Option<SessionId> {
    let loaded = node.step(|tx, _| connections::load_secrets(tx, connection));
    loaded.secrets.sessions.current_id()
}

/// Starts a new incarnation of Acme, as after a restore.
fn restart_acme(pair: &mut Pair) {
    pair.acme.step(recovery::recover);
    pair.acme.advance(Duration::from_secs(60));
    assert_eq!(pair.acme.start_sessions(&mut pair.bolt), 1);
}

#[test]
fn earlier_incarnation_is_shown_first() {
    let mut pair = connected_pair(258);
    for text in ["one", "two"] {
        pair.acme.send(pair.to_bolt, text);
    }
    let lost = pair.acme.seal();
    pair.acme.record_accepted(&lost);
    restart_acme(&mut pair);
    pair.acme.send(pair.to_bolt, "three");
    pair.acme.send(pair.to_bolt, "four");
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    receive_all(&mut pair.bolt, sealed.iter().rev());
    let to_acme = pair.to_acme;
    assert_eq!(find(&mut pair.bolt, "one").id.number, 4);
    let texts = shown_texts(&mut pair.bolt, to_acme);
    assert_eq!(texts, ["one", "two", "three", "four"]);
}

#[test]
fn later_incarnation_is_shown_last_whatever_its_clock() {
    let mut pair = connected_pair(260);
    pair.acme.advance(Duration::from_secs(3_600));
    pair.bolt.advance(Duration::from_secs(3_600));
    pair.acme.send(pair.to_bolt, "one");
    settle(&mut pair.acme, &mut pair.bolt);
    restart_acme(&mut pair);
    pair.acme.now = crate::testing::START;
    pair.acme.send(pair.to_bolt, "two");
    settle(&mut pair.acme, &mut pair.bolt);
    let lives = "SELECT count(DISTINCT life) FROM lives";
    assert_eq!(pair.bolt.query_number(lives), 2);
    let to_acme = pair.to_acme;
    assert_eq!(shown_texts(&mut pair.bolt, to_acme), ["one", "two"]);
    assert!(!find(&mut pair.bolt, "two").position.is_late());
}

#[test]
fn bundle_announces_the_current_incarnation() {
    let mut pair = connected_pair(261);
    pair.acme.advance(Duration::from_secs(3_600));
    pair.bolt.advance(Duration::from_secs(3_600));
    pair.acme.send(pair.to_bolt, "one");
    settle(&mut pair.acme, &mut pair.bolt);
    // Bolt replaces the session before Acme, which has published its new incarnation, can.
    pair.acme.step(recovery::recover);
    let to_acme = pair.to_acme;
    pair.bolt.step(|tx, _| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        crate::healing::schedule_session(tx, &mut loaded, &RejectReason::NoHeaderKey)
    });
    assert_eq!(pair.bolt.start_sessions(&mut pair.acme), 1);
    carry(&mut pair.bolt, &mut pair.acme);
    pair.acme.now = crate::testing::START;
    pair.acme.send(pair.to_bolt, "two");
    carry(&mut pair.acme, &mut pair.bolt);
    assert_eq!(shown_texts(&mut pair.bolt, to_acme), ["one", "two"]);
    assert!(!find(&mut pair.bolt, "two").position.is_late());
}

#[test]
fn gap_after_a_restore_is_filled_in_order() {
    let mut pair = connected_pair(262);
    pair.acme.send(pair.to_bolt, "before");
    settle(&mut pair.acme, &mut pair.bolt);
    let to_acme = pair.to_acme;
    let backup = pair
        .bolt
        .step(|tx, _| connections::load_secrets(tx, to_acme))
        .secrets;
    for text in ["one", "two"] {
        pair.acme.send(pair.to_bolt, text);
    }
    settle(&mut pair.acme, &mut pair.bolt);
    pair.bolt.sql(
        "DELETE FROM postings WHERE number > 1; DELETE FROM messages WHERE id > 1;
         DELETE FROM opened_digests; UPDATE chats SET last_number = 1;
         DELETE FROM received_uuids WHERE uuid NOT IN (SELECT uuid FROM messages);",
    );
    pair.bolt.step(|tx, identity| {
        let mut loaded = connections::load_secrets(tx, to_acme)?;
        loaded.secrets = backup;
        connections::save(tx, &mut loaded)?;
        recovery::recover(tx, identity)
    });
    pair.bolt.advance(Duration::from_secs(60));
    assert_eq!(pair.bolt.start_sessions(&mut pair.acme), 1);
    let requests = pair.bolt.seal();
    pair.bolt.record_accepted(&requests);
    receive_all(&mut pair.acme, &requests);
    pair.acme.send(pair.to_bolt, "three");
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    receive_all(&mut pair.bolt, sealed.iter().rev());
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(find(&mut pair.bolt, "three").id.number, 2);
    let texts = shown_texts(&mut pair.bolt, to_acme);
    assert_eq!(texts, ["before", "one", "two", "three"]);
}

#[test]
fn pages_follow_the_display_order() {
    let mut pair = connected_pair(264);
    for number in 0..9 {
        pair.acme.send(pair.to_bolt, &number.to_string());
    }
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    for index in [0, 4, 8, 7, 2, 1, 3, 6, 5] {
        receive_all(&mut pair.bolt, [&sealed[index]]);
    }
    let chat = pair.bolt.received()[0].id.chat;
    for is_descending in [false, true] {
        for limit in 1..4 {
            let mut filter = postings::Filter {
                chat: Some(chat),
                unread: true,
                is_descending,
                limit,
                ..postings::Filter::default()
            };
            let mut texts = Vec::new();
            loop {
                let page = pair.bolt.step(|tx, _| postings::load_page(tx, &filter));
                let Some(last) = page.last() else { break };
                filter.after_shown = Some(last.position);
                texts.extend(page.into_iter().map(|row| row.message.content));
            }
            if is_descending {
                texts.reverse();
            }
            assert_eq!(texts.concat(), "012345678");
        }
    }
}
