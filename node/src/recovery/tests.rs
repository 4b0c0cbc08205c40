use super::*;
use crate::{
    store::{backup_copy, events},
    testing::{Pair, TestNode, connected_pair, settle},
};
use sealpost_node_core::model::UserId;

const DAY: Duration = Duration::from_secs(86_400);

/// Turns Bolt's database into the one of a backup, which is restored a day later.
fn restore_bolt(pair: &mut Pair) {
    pair.bolt.step(|tx, _| backup_copy::prepare(tx));
    pair.bolt.advance(DAY);
    pair.bolt.step(|tx, _| restoration::begin(tx));
}

#[test]
fn restored_node_reports_the_gap_once() {
    let mut pair = connected_pair(300);
    pair.acme.send(pair.to_bolt, "before");
    settle(&mut pair.acme, &mut pair.bolt);
    restore_bolt(&mut pair);
    let recovered = pair.bolt.step(recover_restored);
    assert_eq!(recovered, Some(1));
    assert_eq!(pair.bolt.step(recover_restored), None);
    let received = pair.bolt.received();
    let [_, report] = received.as_slice() else {
        panic!("{received:?}");
    };
    assert!(!report.is_read);
    let text = &report.message.content;
    assert!(text.contains("2027-01-15 08:00 UTC"), "{text}");
    assert!(text.contains("2027-01-16 08:00 UTC"), "{text}");
    pair.bolt.sql("DELETE FROM receipts_due");
    let id = report.id;
    let read = pair
        .bolt
        .step(|tx, _| conversation::mark_read(tx, UserId::FIRST, id));
    assert_eq!(read, 2);
    let due = "SELECT count(*) FROM receipts_due";
    assert_eq!(pair.bolt.query_number(due), 1, "only for Acme's message");
}

#[test]
fn restored_node_continues_with_its_partner() {
    let mut pair = connected_pair(310);
    let sealed = pair.bolt.send(pair.to_acme, "sealed before the backup");
    assert_eq!(pair.bolt.seal().len(), 1);
    let waiting = pair.bolt.send(pair.to_acme, "not sealed before the backup");
    restore_bolt(&mut pair);
    assert_eq!(pair.bolt.seal(), [], "nothing is sealed without a session");
    pair.bolt.step(recover_restored);
    pair.bolt.advance(SPREAD_MAX);
    pair.acme.send(pair.to_bolt, "after the backup");
    settle(&mut pair.acme, &mut pair.bolt);
    settle(&mut pair.bolt, &mut pair.acme);
    let texts = pair.acme.received_texts();
    assert_eq!(
        texts,
        ["sealed before the backup", "not sealed before the backup"]
    );
    assert_eq!(pair.bolt.delivery(&sealed).reason, None);
    assert!(
        pair.bolt
            .received_texts()
            .contains(&"after the backup".to_owned())
    );
    assert_eq!(pair.bolt.delivery(&waiting).reason, None);
    let to_acme = pair.to_acme;
    assert_eq!(pair.bolt.connection(to_acme).health, HealthState::Ok);
}

#[test]
fn events_of_a_restored_node_are_new() {
    let mut pair = connected_pair(320);
    let before = pair.bolt.step(|tx, _| events::find_latest_id(tx));
    restore_bolt(&mut pair);
    let first = pair
        .bolt
        .step(|tx, _| restoration::load(tx))
        .unwrap()
        .first_event;
    assert!(first > before);
    pair.bolt.advance(DAY);
    pair.bolt.step(|tx, _| restoration::begin(tx));
    let again = pair.bolt.step(|tx, _| restoration::load(tx)).unwrap();
    assert_eq!(again.first_event, first, "a restart begins no new stream");
    pair.bolt.step(recover_restored);
    let page = pair.bolt.step(|tx, _| events::load_page(tx, 0, 99));
    assert!(page.iter().all(|event| event.id >= first) && page.len() > 1);
}

#[test]
fn invites_of_a_restored_node_can_be_used() {
    let mut pair = connected_pair(330);
    let (_, invite, _) = pair.bolt.invite(true);
    restore_bolt(&mut pair);
    pair.bolt.step(recover_restored);
    pair.bolt.run_relay_jobs();
    let prekeys = pair.bolt.published(&invite.mailbox().id);
    let mut cora = TestNode::new("Cora", 335);
    cora.advance(DAY);
    cora.connect(&invite, &prekeys);
    settle(&mut cora, &mut pair.bolt);
    let connections = pair.bolt.step(|tx, _| connections::find_open(tx));
    assert_eq!(connections.len(), 2);
}

#[test]
fn missing_files_are_recorded() {
    let mut pair = connected_pair(340);
    let file = pair.acme.stage(10);
    pair.acme.send_files(pair.to_bolt, "", &[file]);
    pair.acme.record_uploaded(file);
    settle(&mut pair.acme, &mut pair.bolt);
    let received = pair.bolt.received_files().remove(0);
    pair.bolt.sql("UPDATE files SET status = 'ready'");
    let named = |tx: &mut Tx<'_>, _: &NodeIdentity| backup_copy::find_disk_files(tx);
    assert_eq!(pair.bolt.step(named).len(), 1);
    pair.bolt
        .step(|tx, _| backup_copy::record_missing(tx, received.id));
    assert_eq!(pair.bolt.step(named), []);
    let reason = pair.bolt.file(received.id).reason.unwrap();
    assert!(reason.contains("not in the backup"), "{reason}");
    assert_eq!(pair.bolt.received().len(), 1, "the message stays");
}
