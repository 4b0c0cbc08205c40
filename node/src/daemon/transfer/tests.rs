//! Effects of transfers on files and messages in the database.

mod early;
mod fake_relay;
mod relay_transfers;
mod testbed;

use super::{download::mark_ready, *};
use crate::{
    fault::Fault,
    identity::NodeIdentity,
    outbox,
    store::{files::BlobRequest, outbox as outbox_rows},
    testing::{Pair, TestNode, connect_nodes, connected_pair, settle},
};
use sealpost_node_core::{
    model::{ContentType, FileId, FileStatus, MessageId},
    transfer::DownloadPolicy,
};
use sealpost_proto::{
    DeliveryStatus, FailureCode,
    limits::{self, BLOB_LIFETIME_AFTER_MESSAGE},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Sends a message from Acme with uploaded files of ten bytes, and returns their ids.
fn send_uploaded(pair: &mut Pair, count: usize) -> (MessageId, Vec<FileId>) {
    let files: Vec<_> = (0..count).map(|_| pair.acme.stage(10)).collect();
    let message = pair.acme.send_files(pair.to_bolt, "with files", &files);
    files
        .iter()
        .for_each(|file| pair.acme.record_uploaded(*file));
    (message, files)
}

fn status(node: &mut TestNode, file: FileId) -> FileStatus {
    node.file(file).status
}

fn due(node: &mut TestNode) -> Vec<(FileId, BlobRequest)> {
    let due = node.step(|tx, _| files::load_due_blob_requests(tx, 100));
    due.into_iter()
        .map(|due| (due.file.id, due.request))
        .collect()
}

fn deletes(node: &mut TestNode) -> Vec<FileId> {
    due(node)
        .into_iter()
        .filter(|(_, request)| *request == BlobRequest::Delete)
        .map(|(id, _)| id)
        .collect()
}

/// Marks all files of the last received message as downloaded.
fn complete_downloads(node: &mut TestNode) {
    for file in node.received_files() {
        node.step(|tx, _| {
            files::advance(tx, file.id, FileStatus::Downloading, None)?;
            mark_ready(tx, file.id, &file.descriptor.blob.id)
        });
    }
}

fn change(
    node: &mut TestNode,
    file: FileId,
    change: impl FnOnce(&Tx<'_>, &StoredFile) -> Result<(), Fault>,
) -> bool {
    let row = node.file(file);
    match node.commit(|tx, _| change(tx, &row)) {
        Ok(()) => true,
        Err(Fault::Refused(_)) => false,
        Err(fault) => panic!("{fault}"),
    }
}

#[test]
fn cancelled_upload_fails_its_message() {
    let mut pair = connected_pair(600);
    let (stays, other) = (pair.acme.stage(10), pair.acme.stage(10));
    let files = [stays, other];
    let cancelled = pair.acme.send_files(pair.to_bolt, "with two", &files);
    let shared = pair
        .acme
        .send_files(pair.to_bolt, "with one of them", &[other]);
    for _ in 0..2 {
        assert!(
            change(&mut pair.acme, stays, cancel),
            "cancelling is idempotent"
        );
    }
    let attachment = pair.acme.file(stays).attachment.to_string();
    let stored = pair.acme.delivery(&cancelled);
    assert_eq!(
        (stored.status, stored.code),
        (DeliveryStatus::Failed, Some(FailureCode::Cancelled))
    );
    assert!(stored.reason.unwrap().contains(&attachment));
    assert_eq!(status(&mut pair.acme, stays), FileStatus::Cancelled);
    assert_eq!(
        status(&mut pair.acme, other),
        FileStatus::Uploading,
        "another message needs it"
    );
    assert_eq!(deletes(&mut pair.acme), [stays]);
    pair.acme.record_uploaded(other);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["with one of them"]);
    assert_eq!(
        pair.acme.delivery(&shared).status,
        DeliveryStatus::Delivered
    );
}

#[test]
fn cancel_releases_unneeded_files_of_the_message() {
    let mut pair = connected_pair(610);
    let (_, files) = send_uploaded(&mut pair, 3);
    assert!(
        change(&mut pair.acme, files[1], cancel),
        "the message is not sealed yet"
    );
    let mut deleted = deletes(&mut pair.acme);
    deleted.sort();
    let mut all = files.clone();
    all.sort();
    assert_eq!(deleted, all);
    assert_eq!(status(&mut pair.acme, files[0]), FileStatus::Released);
    pair.acme
        .step(|tx, _| files::complete_blob_request(tx, files[0]));
    assert!(!deletes(&mut pair.acme).contains(&files[0]));
    let outgoing = outbox::OutgoingMessage {
        to: vec![pair.to_bolt],
        content: "again".to_owned(),
        content_type: ContentType::Markdown,
        attachments: vec![pair.acme.file(files[0]).attachment],
        reply_to: None,
        action_required: false,
        deliver_by: None,
        read_by: None,
    };
    let again = pair.acme.commit(|tx, identity| {
        outbox::send(tx, identity, &outgoing, limits::MESSAGE_FILES_BYTES_MAX)
    });
    assert!(
        matches!(again, Err(Fault::Refused(_))),
        "a released file cannot be sent again"
    );
}

#[test]
fn sealed_and_unused_files_cannot_be_cancelled() {
    let mut pair = connected_pair(620);
    let (message, files) = send_uploaded(&mut pair, 1);
    let staged = pair.acme.stage(10);
    assert!(
        !change(&mut pair.acme, staged, cancel),
        "a staged file is deleted, not cancelled"
    );
    assert!(
        !change(&mut pair.acme, files[0], request_download),
        "it is present"
    );
    pair.acme.seal();
    assert!(!change(&mut pair.acme, files[0], cancel));
    settle(&mut pair.acme, &mut pair.bolt);
    assert!(!change(&mut pair.acme, files[0], cancel));
    assert_eq!(
        pair.acme.delivery(&message).status,
        DeliveryStatus::Delivered
    );
}

#[test]
fn cancelled_download_can_be_requested_again() {
    let mut pair = connected_pair(630);
    send_uploaded(&mut pair, 1);
    settle(&mut pair.acme, &mut pair.bolt);
    let file = pair.bolt.received_files().remove(0).id;
    assert_eq!(status(&mut pair.bolt, file), FileStatus::Waiting);
    for _ in 0..2 {
        assert!(change(&mut pair.bolt, file, cancel));
        assert_eq!(status(&mut pair.bolt, file), FileStatus::Offered);
    }
    assert!(!pair.bolt.step(|tx, _| files::is_transferring(tx, file)));
    for _ in 0..2 {
        assert!(change(&mut pair.bolt, file, request_download));
        assert_eq!(status(&mut pair.bolt, file), FileStatus::Waiting);
    }
    complete_downloads(&mut pair.bolt);
    assert!(
        change(&mut pair.bolt, file, request_download),
        "it is present"
    );
    assert!(!change(&mut pair.bolt, file, cancel), "too late");
    assert_eq!(status(&mut pair.bolt, file), FileStatus::Ready);
}

#[test]
fn policy_limits_automatic_downloads() {
    let mut pair = connected_pair(640);
    pair.bolt.identity.downloads = DownloadPolicy::UpTo(20);
    let files = [10, 20, 21].map(|bytes| pair.acme.stage(bytes));
    pair.acme.send_files(pair.to_bolt, "three", &files);
    files
        .iter()
        .for_each(|file| pair.acme.record_uploaded(*file));
    settle(&mut pair.acme, &mut pair.bolt);
    let received = pair.bolt.received_files();
    let statuses: Vec<_> = received.iter().map(|file| file.status).collect();
    assert_eq!(
        statuses,
        [
            FileStatus::Waiting,
            FileStatus::Waiting,
            FileStatus::Offered
        ]
    );
    assert!(change(&mut pair.bolt, received[2].id, request_download));
    assert_eq!(status(&mut pair.bolt, received[2].id), FileStatus::Waiting);
}

#[test]
fn blob_is_deleted_after_all_recipients_downloaded_it() {
    let (mut acme, mut bolt, mut cora) = (
        TestNode::new("Acme", 650),
        TestNode::new("Bolt", 651),
        TestNode::new("Cora", 652),
    );
    let (to_bolt, to_cora) = (
        connect_nodes(&mut acme, &mut bolt).0,
        connect_nodes(&mut acme, &mut cora).0,
    );
    let file = acme.stage(10);
    acme.send_files(to_bolt, "to both", &[file]);
    acme.send_files(to_cora, "to both", &[file]);
    acme.record_uploaded(file);
    let sealed = acme.seal();
    acme.record_accepted(&sealed);
    for envelope in &sealed {
        let _ = (bolt.receive(envelope), cora.receive(envelope));
    }
    complete_downloads(&mut bolt);
    settle(&mut bolt, &mut acme);
    assert_eq!(
        (status(&mut acme, file), deletes(&mut acme)),
        (FileStatus::Uploaded, vec![])
    );
    settle(&mut bolt, &mut acme);
    assert_eq!(
        deletes(&mut acme),
        Vec::<FileId>::new(),
        "one recipient counts once"
    );
    complete_downloads(&mut cora);
    settle(&mut cora, &mut acme);
    assert_eq!(
        (status(&mut acme, file), deletes(&mut acme)),
        (FileStatus::Released, vec![file])
    );
}

#[test]
fn repeated_message_has_its_files_again() {
    let mut pair = connected_pair(655);
    let (message, files) = send_uploaded(&mut pair, 1);
    let file = files[0];
    settle(&mut pair.acme, &mut pair.bolt);
    complete_downloads(&mut pair.bolt);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(status(&mut pair.acme, file), FileStatus::Released);
    pair.acme
        .step(|tx, _| files::complete_blob_request(tx, file));
    let forget = |tx: &mut Tx<'_>, _: &NodeIdentity| files::forget_released(tx);
    assert_eq!(pair.acme.step(forget), [], "the message may be sent again");

    pair.acme.step(|tx, _| {
        let id = tx.query_value("SELECT id FROM outbox WHERE message IS NOT NULL", &[])?;
        outbox_rows::requeue(tx, id.unwrap())
    });
    assert_eq!(status(&mut pair.acme, file), FileStatus::Uploading);
    assert_eq!(pair.acme.seal(), [], "the message waits for its file");
    pair.acme.record_uploaded(file);
    settle(&mut pair.acme, &mut pair.bolt);
    // Bolt has the message and the file, and repeats its receipts.
    assert_eq!(status(&mut pair.acme, file), FileStatus::Released);
    assert_eq!(
        pair.acme.delivery(&message).status,
        DeliveryStatus::Delivered
    );
}

#[test]
fn released_files_are_deleted_with_their_outbox_rows() {
    let mut pair = connected_pair(657);
    let (_, files) = send_uploaded(&mut pair, 1);
    let disk_file = pair.acme.file(files[0]).disk_file;
    settle(&mut pair.acme, &mut pair.bolt);
    complete_downloads(&mut pair.bolt);
    settle(&mut pair.bolt, &mut pair.acme);
    pair.acme
        .step(|tx, _| files::complete_blob_request(tx, files[0]));
    pair.acme.advance(limits::CONFIRMED_MESSAGE_RETENTION);
    let maintain = |tx: &mut Tx<'_>, _: &NodeIdentity| {
        outbox_rows::delete_old(tx)?;
        files::forget_released(tx)
    };
    assert_eq!(pair.acme.step(maintain), [disk_file]);
    assert_eq!(pair.acme.step(maintain), [], "once");
    assert!(!pair.acme.step(|tx, _| files::has_disk_file(tx, disk_file)));
}

#[test]
fn only_recipients_can_confirm_a_file() {
    let (mut acme, mut bolt, mut eve) = (
        TestNode::new("Acme", 660),
        TestNode::new("Bolt", 661),
        TestNode::new("Eve", 662),
    );
    let (to_bolt, _) = connect_nodes(&mut acme, &mut bolt);
    let (_, eve_to_acme) = connect_nodes(&mut acme, &mut eve);
    let file = acme.stage(10);
    acme.send_files(to_bolt, "for Bolt", &[file]);
    acme.record_uploaded(file);
    settle(&mut acme, &mut bolt);
    let blob = acme.file(file).descriptor.blob.id;
    eve.step(|tx, _| crate::store::receipts::add_fetched(tx, eve_to_acme, &blob));
    settle(&mut eve, &mut acme);
    assert_eq!(status(&mut acme, file), FileStatus::Uploaded);
    assert!(deletes(&mut acme).is_empty());
}

#[test]
fn blob_lifetime_exceeds_its_message_by_a_week() {
    let mut pair = connected_pair(670);
    let (message, files) = send_uploaded(&mut pair, 1);
    pair.acme.advance(DAY / 2);
    pair.acme.step(|tx, _| files::maintain_blobs(tx));
    assert!(due(&mut pair.acme).is_empty());
    // The message is not sent for two days.
    pair.acme.advance(DAY * 3 / 2);
    pair.acme.step(|tx, _| files::maintain_blobs(tx));
    let until = pair.acme.now.plus(DAY * 14);
    assert_eq!(
        due(&mut pair.acme),
        [(files[0], BlobRequest::Extend(until))]
    );
    pair.acme
        .step(|tx, _| files::set_extended(tx, files[0], until));
    assert!(due(&mut pair.acme).is_empty());
    pair.acme.advance(DAY / 10);
    let sealed = pair.acme.seal();
    pair.acme.record_accepted(&sealed);
    let until = pair
        .acme
        .now
        .plus(limits::ENVELOPE_LIFETIME_DEFAULT + BLOB_LIFETIME_AFTER_MESSAGE);
    assert_eq!(
        due(&mut pair.acme),
        [(files[0], BlobRequest::Extend(until))],
        "counted from acceptance by the relay"
    );
    pair.acme
        .step(|tx, _| files::set_extended(tx, files[0], until));
    pair.acme.advance(DAY * 10);
    pair.acme.step(|tx, _| {
        crate::store::deliveries::fail_unconfirmed(tx, tx.now)?;
        files::maintain_blobs(tx)
    });
    assert_eq!(
        pair.acme.delivery(&message).code,
        Some(FailureCode::Unconfirmed)
    );
    assert!(
        due(&mut pair.acme).is_empty(),
        "the recipient may still be downloading it"
    );
    pair.acme.advance(DAY * 5);
    pair.acme.step(|tx, _| files::maintain_blobs(tx));
    assert_eq!(deletes(&mut pair.acme), files);
}

#[test]
fn lost_blob_is_uploaded_again_for_pending_messages() {
    let mut pair = connected_pair(680);
    let (_, files) = send_uploaded(&mut pair, 1);
    pair.acme.step(|tx, _| files::upload_again(tx, files[0]));
    assert_eq!(status(&mut pair.acme, files[0]), FileStatus::Uploading);
    assert!(
        pair.acme.seal().is_empty(),
        "not before the upload is complete again"
    );
    pair.acme.record_uploaded(files[0]);
    // The node is off for a month.
    pair.acme.advance(DAY * 30);
    pair.acme.step(|tx, _| files::maintain_blobs(tx));
    assert_eq!(status(&mut pair.acme, files[0]), FileStatus::Uploading);
    pair.acme.record_uploaded(files[0]);
    assert!(!pair.acme.seal().is_empty());
}

#[test]
fn progress_clears_the_reason_and_retry_time() {
    let mut pair = connected_pair(690);
    let file = pair.acme.stage(10);
    let message = pair.acme.send_files(pair.to_bolt, "with a file", &[file]);
    let moving = |node: &mut TestNode| {
        node.step(|tx, _| files::load_due_transfers(tx, Direction::Out, 10))
            .len()
    };
    assert_eq!(moving(&mut pair.acme), 1);
    let at = pair.acme.now.plus(Duration::from_secs(5));
    pair.acme
        .step(|tx, _| files::postpone(tx, file, 3, "the connection was lost", at));
    assert_eq!(moving(&mut pair.acme), 0);
    assert_eq!(
        pair.acme
            .step(|tx, _| files::find_next_due(tx, Direction::Out)),
        Some(at)
    );
    let stored = pair.acme.file(file);
    assert_eq!(
        (stored.attempt, stored.reason.as_deref()),
        (3, Some("the connection was lost"))
    );
    pair.acme.advance(Duration::from_secs(5));
    assert_eq!(moving(&mut pair.acme), 1);
    let last_event = |node: &mut TestNode| {
        node.step(|tx, _| tx.query_value::<i64>("SELECT max(id) FROM events", &[]))
    };
    let before = last_event(&mut pair.acme);
    pair.acme.step(|tx, _| files::set_transferred(tx, file, 7));
    let since = last_event(&mut pair.acme);
    assert!(since > before, "resuming is an event");
    pair.acme.step(|tx, _| files::set_transferred(tx, file, 7));
    assert_eq!(
        last_event(&mut pair.acme),
        since,
        "progress alone is no event"
    );
    let stored = pair.acme.file(file);
    assert_eq!(
        (stored.attempt, stored.reason, stored.transferred),
        (0, None, 7)
    );
    change(&mut pair.acme, file, cancel);
    let at = pair.acme.now;
    pair.acme.step(|tx, _| files::set_transferred(tx, file, 9));
    assert_eq!(
        pair.acme.file(file).transferred,
        7,
        "a step that ends after cancelling changes nothing"
    );
    assert!(!pair.acme.step(|tx, _| files::set_uploaded(tx, file, at)));
    assert_eq!(
        pair.acme.delivery(&message).code,
        Some(FailureCode::Cancelled)
    );
}
