use super::*;
use crate::store::relay_jobs::SessionStart;
use crate::testing::{TestNode, connect_nodes, connected_pair, settle};
use sealpost_e2ee::sessions::InitReason;
use sealpost_proto::B64;
use std::time::Duration;

fn receipts_due(node: &TestNode) -> i64 {
    node.query_number("SELECT count(*) FROM receipts_due")
}

#[test]
fn resealed_messages_are_stored_once() {
    let mut pair = connected_pair(200);
    let (message, to_bolt) = (pair.acme.send(pair.to_bolt, "hello"), pair.to_bolt);
    let first = pair.acme.seal();
    pair.acme
        .step(|tx, _| outbox::requeue_unconfirmed(tx, to_bolt, tx.now));
    let second = pair.acme.seal();
    for envelope in [&first[0], &second[0]] {
        assert_eq!(pair.bolt.receive(envelope), DeliveryOutcome::Stored);
        assert_eq!(
            (pair.bolt.received_texts(), receipts_due(&pair.bolt)),
            (vec!["hello".to_owned()], 1)
        );
        let receipt = pair.bolt.seal();
        pair.bolt.record_accepted(&receipt);
        assert_eq!(pair.acme.receive(&receipt[0]), DeliveryOutcome::Stored);
    }
    assert_eq!(
        pair.acme.delivery(&message).status,
        DeliveryStatus::Delivered
    );
}

#[test]
fn repeated_envelopes_change_nothing() {
    let mut pair = connected_pair(210);
    pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    pair.bolt.receive(&sealed[0]);
    let version = "SELECT sum(version) FROM connections";
    let before = (pair.bolt.query_number(version), receipts_due(&pair.bolt));
    assert_eq!(pair.bolt.receive(&sealed[0]), DeliveryOutcome::Stored);
    assert_eq!(
        (pair.bolt.query_number(version), receipts_due(&pair.bolt)),
        before
    );
    assert_eq!(pair.bolt.received_texts(), ["hello"]);
}

/// Replaces the prekey bundle of a connection. Returns it as the relay hands it out.
fn renew_prekeys(node: &mut TestNode, connection: ConnectionId) -> Vec<u8> {
    node.step(|tx, identity| {
        let mut loaded = connections::load_secrets(tx, connection)?;
        let publication = loaded
            .secrets
            .renew_prekeys(&identity.keys, tx.relay_now, tx.rng)
            .unwrap();
        connections::save(tx, &mut loaded)?;
        Ok(publication.sealed_bundle.to_vec())
    })
}

#[test]
fn losing_init_makes_the_node_publish_prekeys() {
    let mut pair = connected_pair(205);
    let (to_acme, to_bolt) = (pair.to_acme, pair.to_bolt);
    pair.acme.advance(limits::SESSION_ROTATION_HIGHER);
    pair.bolt
        .advance(limits::SESSION_ROTATION_HIGHER + Duration::from_secs(1));
    let at_acme = renew_prekeys(&mut pair.acme, to_bolt);
    let at_bolt = renew_prekeys(&mut pair.bolt, to_acme);
    let rotate = |node: &mut TestNode, connection, prekeys: &[u8]| {
        node.step(|tx, identity| {
            let replaces = connections::load_secrets(tx, connection)?
                .secrets
                .sessions
                .current_id();
            let start = SessionStart {
                reason: InitReason::Rotate,
                is_obsolete_when_confirmed: false,
                replaces,
            };
            healing::start_session(tx, identity, connection, start, prekeys)
        });
    };
    rotate(&mut pair.acme, to_bolt, &at_bolt);
    rotate(&mut pair.bolt, to_acme, &at_acme);
    pair.acme.send(to_bolt, "with the losing INIT");
    let losing = pair.acme.seal();
    assert!(pair.bolt.run_relay_jobs().is_empty());
    assert_eq!(pair.bolt.receive(&losing[0]), DeliveryOutcome::Stored);
    assert!(pair.bolt.received_texts().is_empty());
    assert!(!pair.bolt.run_relay_jobs().is_empty());
}

#[test]
fn invalid_envelopes_and_unknown_mailboxes_are_refused() {
    let mut pair = connected_pair(220);
    pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    let mut invalid = sealed[0].clone();
    invalid.bytes = B64(vec![7; 2_048]);
    let mut misaddressed = sealed[0].clone();
    misaddressed.mailbox.id = MailboxId::from_bytes([9; 16]);
    for envelope in [&invalid, &misaddressed] {
        assert_eq!(pair.bolt.receive(envelope), DeliveryOutcome::Refused);
    }
    assert!(pair.bolt.received_texts().is_empty());
    assert_eq!(pair.bolt.receive(&sealed[0]), DeliveryOutcome::Stored);
}

#[test]
fn receipts_count_only_on_their_own_connection() {
    let mut pair = connected_pair(230);
    let (_, elsewhere) = connect_nodes(&mut pair.acme, &mut pair.bolt);
    let message = pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    let uuid = pair.acme.uuid(&message);
    pair.bolt
        .step(|tx, _| receipts::add(tx, elsewhere, &uuid, ReceiptKind::READ));
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
}

#[test]
fn receipts_overrule_failures_reported_by_the_relay() {
    let mut pair = connected_pair(250);
    let message = pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    let event = StatusEvent {
        id: sealpost_proto::DeliveryId(1),
        envelope: sealed[0].id,
        state: sealpost_proto::EnvelopeState::Expired,
        attempts: 3,
        reason: None,
        next_attempt_at: None,
        at: pair.acme.now,
    };
    pair.acme.step(|tx, _| apply_status_event(tx, &event));
    assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Failed);
    pair.bolt.receive(&sealed[0]);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(
        pair.acme.delivery(&message).status,
        DeliveryStatus::Delivered
    );
}

fn attachment_statuses(files: &[u64]) -> Vec<FileStatus> {
    let mut pair = connected_pair(260);
    let staged: Vec<_> = files.iter().map(|bytes| pair.acme.stage(*bytes)).collect();
    pair.acme.send_files(pair.to_bolt, "files", &staged);
    for file in &staged {
        pair.acme.record_uploaded(*file);
    }
    settle(&mut pair.acme, &mut pair.bolt);
    let arrived = pair.bolt.received_files();
    arrived.into_iter().map(|file| file.status).collect()
}

#[test]
fn received_files_are_queued_for_download() {
    let statuses = attachment_statuses(&[10, limits::FILE_BYTES_MAX, 0]);
    assert_eq!(statuses, [FileStatus::Waiting; 3]);
}

#[test]
fn only_valid_image_previews_are_stored() {
    let mut pair = connected_pair(265);
    let picture = [b"\xff\xd8\xff\xe0".as_slice(), &[7; 16_380]].concat();
    let previews = [
        Some(picture.as_slice()),
        Some(b"<svg onload='x'>"),
        None,
        Some(&picture),
        Some(&picture),
    ];
    let staged =
        previews.map(|preview| pair.acme.stage_with(10, "Foto.jpg", "image/jpeg", preview));
    pair.acme.send_files(
        pair.to_bolt,
        &"x".repeat(limits::MESSAGE_TEXT_BYTES_MAX),
        &staged,
    );
    for file in &staged {
        pair.acme.record_uploaded(*file);
    }
    settle(&mut pair.acme, &mut pair.bolt);
    let arrived = pair.bolt.received_files();
    let has_preview: Vec<_> = arrived.iter().map(|file| file.has_preview).collect();
    assert_eq!(has_preview, [true, false, false, true, true]);
    assert!(
        arrived.iter().all(|file| file.descriptor.preview.is_none()),
        "the stored descriptor has no preview"
    );
    let stored_previews = [0, 1].map(|at: usize| {
        pair.bolt
            .step(|tx, _| files::load_preview(tx, arrived[at].id))
    });
    assert_eq!(stored_previews, [Some(picture.clone()), None]);
}

#[test]
fn connections_heal_after_unreadable_envelopes() {
    let mut pair = connected_pair(270);
    let waiting = pair.bolt.send(pair.to_acme, "on its way");
    pair.acme.send(pair.to_bolt, "hello");
    let sealed = pair.acme.seal();
    pair.bolt.receive(&sealed[0]);
    // Without the digests, the duplicate cannot be recognised, and its message key is used up.
    pair.bolt.sql("DELETE FROM opened_digests");
    assert_eq!(pair.bolt.receive(&sealed[0]), DeliveryOutcome::Stored);
    let shown = pair.bolt.connection(pair.to_acme);
    assert_eq!(shown.health, HealthState::Healing);
    assert_eq!(shown.warning, Some(ConnectionWarning::Forked));
    assert!(pair.bolt.delivery(&waiting).healing);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(pair.bolt.connection(pair.to_acme).health, HealthState::Ok);
    assert_eq!(
        pair.bolt.delivery(&waiting).status,
        DeliveryStatus::Delivered
    );
    assert_eq!(pair.bolt.received_texts(), ["hello"]);
}

#[test]
fn unknown_content_types_are_plain_text() {
    for (received, stored) in [
        (payload::ContentType::MARKDOWN, ContentType::Markdown),
        (payload::ContentType::HTML, ContentType::Html),
        (payload::ContentType::PLAIN, ContentType::Plain),
        (payload::ContentType(3), ContentType::Plain),
        (payload::ContentType(255), ContentType::Plain),
    ] {
        assert_eq!(stored_type(received), stored);
    }
}
