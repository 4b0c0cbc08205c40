use super::*;
use crate::{
    store::outbox,
    testing::{Pair, TestNode, carry, connect_nodes, connected_pair, settle},
};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::model::{Direction, MessageId};
use sealpost_proto::DeliveryStatus;

/// Sends a message with one file from Acme to Bolt. Returns the message and the file at Acme and at
/// Bolt.
fn send_file(pair: &mut Pair) -> (MessageId, FileId, FileId) {
    let file = pair.acme.stage(10);
    let message = pair.acme.send_files(pair.to_bolt, "with a file", &[file]);
    pair.acme.record_uploaded(file);
    settle(&mut pair.acme, &mut pair.bolt);
    let received = pair.bolt.received_files().remove(0).id;
    (message, file, received)
}

/// Lets Bolt notice during a download that the relay does not have the blob.
fn miss(pair: &mut Pair, received: FileId) {
    pair.bolt.step(|tx, _| {
        files::advance(tx, received, FileStatus::Downloading, None)?;
        request_file(tx, received)
    });
}

fn status(node: &mut TestNode, file: FileId) -> FileStatus {
    node.file(file).status
}

fn reason(node: &mut TestNode, file: FileId) -> String {
    node.file(file).reason.unwrap_or_default()
}

fn is_due(node: &mut TestNode, file: FileId) -> bool {
    let due = node.step(|tx, _| files::load_due_transfers(tx, Direction::In, 9));
    due.iter().any(|due| due.id == file)
}

/// Returns the request for a file that Bolt sends.
fn request_of(pair: &mut Pair, message: MessageId, file: FileId) -> AttachmentRequest {
    AttachmentRequest {
        message: pair.acme.uuid(&message),
        blob: pair.acme.file(file).descriptor.blob.id,
    }
}

fn waiting_resends(node: &TestNode) -> i64 {
    let resend = Kind::RESEND.0;
    node.query_number(&format!(
        "SELECT count(*) FROM outbox WHERE kind = {resend} AND state = 'waiting'"
    ))
}

#[test]
fn lost_file_is_uploaded_again() {
    let mut pair = connected_pair(1_000);
    let (_, file, received) = send_file(&mut pair);
    miss(&mut pair, received);
    assert!(reason(&mut pair.bolt, received).contains("was asked"));
    assert!(!is_due(&mut pair.bolt, received));
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(status(&mut pair.acme, file), FileStatus::Uploading);
    assert!(reason(&mut pair.acme, file).contains("asked for it again"));
    assert!(!is_due(&mut pair.bolt, received), "it is not uploaded yet");
    pair.acme.record_uploaded(file);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.file(received).reason, None);
    assert!(is_due(&mut pair.bolt, received));
}

#[test]
fn released_file_is_uploaded_again() {
    let mut pair = connected_pair(1_002);
    let (_, file, received) = send_file(&mut pair);
    let fetched = |pair: &mut Pair| {
        let blob = pair.acme.file(file).descriptor.blob.id;
        let to_bolt = pair.to_bolt;
        pair.acme.step(|tx, _| {
            let now = tx.now;
            files::record_fetched(tx, to_bolt, &blob, now)
        });
    };
    fetched(&mut pair);
    assert_eq!(status(&mut pair.acme, file), FileStatus::Released);
    miss(&mut pair, received);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(status(&mut pair.acme, file), FileStatus::Uploading);
    pair.acme.record_uploaded(file);
    let file_at_acme = file;
    pair.acme
        .step(|tx, _| files::release_unless_needed(tx, file_at_acme));
    assert_eq!(status(&mut pair.acme, file), FileStatus::Uploaded);
    fetched(&mut pair);
    assert_eq!(status(&mut pair.acme, file), FileStatus::Released);
}

#[test]
fn deleted_file_ends_the_request() {
    let mut pair = connected_pair(1_004);
    let (_, file, received) = send_file(&mut pair);
    pair.acme.sql("UPDATE files SET on_disk = 0");
    miss(&mut pair, received);
    settle(&mut pair.bolt, &mut pair.acme);
    assert_eq!(status(&mut pair.acme, file), FileStatus::Uploaded);
    assert_eq!(status(&mut pair.bolt, received), FileStatus::Failed);
    let reason = reason(&mut pair.bolt, received);
    assert!(
        reason.contains("neither the relay nor the sender"),
        "{reason}"
    );
}

#[test]
fn failed_upload_ends_the_request() {
    let mut pair = connected_pair(1_006);
    let (message, file, received) = send_file(&mut pair);
    miss(&mut pair, received);
    settle(&mut pair.bolt, &mut pair.acme);
    pair.acme
        .step(|tx, _| files::release_after_failure(tx, file, "the disk lost it"));
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(status(&mut pair.acme, file), FileStatus::Released);
    assert_eq!(reason(&mut pair.acme, file), "the disk lost it");
    assert_eq!(status(&mut pair.bolt, received), FileStatus::Failed);
    let delivered = pair.acme.delivery(&message).status;
    assert_eq!(delivered, DeliveryStatus::Delivered);
}

#[test]
fn unanswered_requests_are_repeated_until_the_file_fails() {
    let mut pair = connected_pair(1_008);
    let (_, _, received) = send_file(&mut pair);
    for _ in 0..limits::FILE_REQUESTS_MAX {
        miss(&mut pair, received);
        assert_eq!(waiting_resends(&pair.bolt), 1);
        // A restart of the transfer is no reason to ask again.
        pair.bolt.step(|tx, _| files::make_due_now(tx));
        miss(&mut pair, received);
        assert_eq!(waiting_resends(&pair.bolt), 1);
        let lost = pair.bolt.seal();
        pair.bolt.record_accepted(&lost);
        assert!(!is_due(&mut pair.bolt, received));
        pair.bolt.advance(limits::FILE_REQUEST_INTERVAL);
        assert!(is_due(&mut pair.bolt, received));
    }
    miss(&mut pair, received);
    assert_eq!(waiting_resends(&pair.bolt), 0);
    assert_eq!(status(&mut pair.bolt, received), FileStatus::Failed);
    assert!(reason(&mut pair.bolt, received).contains("has not uploaded it again"));
}

#[test]
fn one_recipient_causes_few_uploads_of_a_file() {
    let mut pair = connected_pair(1_010);
    let (message, file, _) = send_file(&mut pair);
    let request = request_of(&mut pair, message, file);
    let to_bolt = pair.to_bolt;
    let ask = |pair: &mut Pair| {
        pair.acme
            .step(|tx, _| receive_request(tx, to_bolt, &request));
        status(&mut pair.acme, file)
    };
    for _ in 0..limits::REPEATED_UPLOADS_PER_FILE_MAX {
        assert_eq!(ask(&mut pair), FileStatus::Uploading);
        assert_eq!(
            ask(&mut pair),
            FileStatus::Uploading,
            "while it is uploaded"
        );
        pair.acme.record_uploaded(file);
        carry(&mut pair.acme, &mut pair.bolt);
        assert_eq!(ask(&mut pair), FileStatus::Uploaded, "too early");
        assert_eq!(waiting_resends(&pair.acme), 0, "not answered");
        pair.acme.advance(limits::REPEATED_UPLOAD_INTERVAL);
    }
    assert_eq!(ask(&mut pair), FileStatus::Uploaded);
    assert_eq!(waiting_resends(&pair.acme), 1, "it will not be uploaded");
}

#[test]
fn uploads_for_a_connection_are_limited_per_day() {
    let mut pair = connected_pair(1_012);
    let count = usize::try_from(limits::REPEATED_UPLOADS_PER_CONNECTION_MAX).unwrap();
    let staged: Vec<_> = (0..=count).map(|_| pair.acme.stage(10)).collect();
    let message = pair.acme.send_files(pair.to_bolt, "", &staged);
    for file in &staged {
        pair.acme.record_uploaded(*file);
    }
    let to_bolt = pair.to_bolt;
    for file in &staged {
        let request = request_of(&mut pair, message, *file);
        pair.acme
            .step(|tx, _| receive_request(tx, to_bolt, &request));
    }
    let uploading = "SELECT count(*) FROM files WHERE status = 'uploading'";
    assert_eq!(
        pair.acme.query_number(uploading),
        i64::try_from(count).unwrap()
    );
    let last = request_of(&mut pair, message, staged[count]);
    pair.acme.advance(limits::REPEATED_UPLOADS_PERIOD);
    pair.acme.step(|tx, _| receive_request(tx, to_bolt, &last));
    assert_eq!(status(&mut pair.acme, staged[count]), FileStatus::Uploading);
}

#[test]
fn others_cannot_request_a_file() {
    let mut pair = connected_pair(1_014);
    let mut cora = TestNode::new("Cora", 1_016);
    let (to_cora, _) = connect_nodes(&mut pair.acme, &mut cora);
    let (message, file, _) = send_file(&mut pair);
    let request = request_of(&mut pair, message, file);
    pair.acme
        .step(|tx, _| receive_request(tx, to_cora, &request));
    assert_eq!(status(&mut pair.acme, file), FileStatus::Uploaded);
    let requests = "SELECT count(*) FROM upload_requests";
    assert_eq!(pair.acme.query_number(requests), 0);
}

#[test]
fn unexpected_responses_change_nothing() {
    let mut pair = connected_pair(1_018);
    let (message, file, received) = send_file(&mut pair);
    let response = AttachmentResponse {
        request: request_of(&mut pair, message, file),
        is_gone: true,
    };
    let to_acme = pair.to_acme;
    let before = status(&mut pair.bolt, received);
    pair.bolt
        .step(|tx, _| receive_response(tx, to_acme, &response));
    assert_eq!(status(&mut pair.bolt, received), before);
}

#[test]
fn blocked_sender_is_not_asked() {
    let mut pair = connected_pair(1_020);
    let (_, _, received) = send_file(&mut pair);
    pair.bolt.sql("UPDATE connections SET status = 'blocked'");
    miss(&mut pair, received);
    assert_eq!(waiting_resends(&pair.bolt), 0);
    assert_eq!(status(&mut pair.bolt, received), FileStatus::Failed);
}

#[test]
fn message_waits_for_a_file_that_is_uploaded_again() {
    let mut pair = connected_pair(1_022);
    let (message, file, _) = send_file(&mut pair);
    let request = request_of(&mut pair, message, file);
    let to_bolt = pair.to_bolt;
    pair.acme
        .step(|tx, _| receive_request(tx, to_bolt, &request));
    let again = pair.acme.send_files(pair.to_bolt, "the same file", &[file]);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["with a file"]);
    pair.acme.record_uploaded(file);
    settle(&mut pair.acme, &mut pair.bolt);
    assert_eq!(pair.bolt.received_texts(), ["with a file", "the same file"]);
    let key = pair.acme.delivery(&again).key;
    assert!(!pair.acme.step(|tx, _| outbox::is_unsealed(tx, key.message)));
}
