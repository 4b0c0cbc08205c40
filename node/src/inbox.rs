//! What arrives: each envelope is one transaction that commits ratchet, content and the receipt that is due together. Only
//! then is the relay told.

use crate::{
    fault::Fault,
    files::DiskFileId,
    identity::NodeIdentity,
    pairing, preview,
    store::{
        Tx, attachments,
        connections::{self, Loaded},
        deliveries::{self, DeliveryKey},
        events::{self, Subject},
        files, invites,
        messages::{self, MessageAuthor},
        opened::{self, DigestScope},
        outbox, postings, receipts,
        relay_jobs::{self, JobKind},
        unknown_events,
    },
};
use sealpost_e2ee::{
    OuterKey,
    attachment::Descriptor,
    envelope::open_envelope,
    payload::{self, Message, Receipt, ReceiptKind},
    plaintext::Kind,
    sessions::prefix_hash,
};
use sealpost_node_core::{
    connection::{Connection, Event, Frame, Incoming, Opened, Phase, Unopened},
    model::{ConnectionId, ContentType, Direction, FileStatus, HealthState, InviteId, MessageKey},
    submission,
    transfer::DownloadPolicy,
};
use sealpost_proto::{
    BlobId, BlobSize, DeliveryStatus, FailureCode, MailboxId, limits,
    wire::{Delivery, DeliveryOutcome, StatusEvent},
};
use sha2::{Digest as _, Sha256};

/// Stores one envelope and returns what to tell the relay after the commit.
pub fn receive(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    delivery: &Delivery,
) -> Result<DeliveryOutcome, Fault> {
    let scope = DigestScope::Mailbox(delivery.mailbox);
    let digest: [u8; 32] = Sha256::digest(delivery.bytes.as_slice()).into();
    if opened::has_digest(tx, scope, &digest)? {
        return Ok(DeliveryOutcome::Stored);
    }
    let outcome = if let Some(id) = connections::find_by_mailbox(tx, &delivery.mailbox)? {
        receive_on_connection(tx, identity, id, delivery.bytes.as_slice())?
    } else if let Some(id) = invites::find_by_mailbox(tx, &delivery.mailbox)? {
        receive_on_invite(
            tx,
            identity,
            id,
            &delivery.mailbox,
            delivery.bytes.as_slice(),
        )?
    } else {
        DeliveryOutcome::Refused
    };
    if outcome == DeliveryOutcome::Stored {
        opened::add_digest(tx, scope, &digest)?;
    }
    Ok(outcome)
}

fn receive_on_connection(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    id: ConnectionId,
    envelope: &[u8],
) -> Result<DeliveryOutcome, Fault> {
    let loaded = connections::load_secrets(tx, id)?;
    let incoming = loaded
        .secrets
        .receive(&identity.keys, envelope, tx.now, tx.rng);
    ingest(tx, identity, loaded, incoming)
}

/// An invite's mailbox: a request that opens makes a connection; a repetition of one goes to the connection it made; all
/// else is discarded, and nothing is answered.
fn receive_on_invite(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    id: InviteId,
    mailbox: &MailboxId,
    envelope: &[u8],
) -> Result<DeliveryOutcome, Fault> {
    let invite = pairing::load_invite(tx, id)?;
    let key = OuterKey::for_invite(invite.held.invite.secret());
    let Ok(inner) = open_envelope(&key, mailbox, envelope) else {
        return Ok(DeliveryOutcome::Refused);
    };
    if let Some(prefix) = prefix_hash(&inner) {
        for connection in connections::find_by_invite(tx, &invite.held.invite.id())? {
            let loaded = connections::load_secrets(tx, connection)?;
            if loaded.secrets.sessions.has_init_prefix(&prefix) {
                let incoming = loaded
                    .secrets
                    .receive_inner(&identity.keys, &inner, tx.now, tx.rng);
                return ingest(tx, identity, loaded, incoming);
            }
        }
    }
    let held = &invite.held;
    match Connection::receive_request(
        &identity.keys,
        &held.invite,
        &held.bases,
        &inner,
        tx.now,
        tx.rng,
    ) {
        Some(asked) => pairing::on_request(tx, identity, &invite, &asked)?,
        None => tracing::info!(
            invite = %id,
            "discarded an envelope at an invite that cannot be opened"
        ),
    }
    Ok(DeliveryOutcome::Stored)
}

fn ingest(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    mut loaded: Loaded,
    incoming: Incoming,
) -> Result<DeliveryOutcome, Fault> {
    match incoming {
        Incoming::Junk => return Ok(DeliveryOutcome::Refused),
        Incoming::Opened(opened) => ingest_opened(tx, identity, loaded, *opened)?,
        Incoming::Unopened(unopened) => ingest_unopened(tx, &mut loaded, *unopened)?,
    }
    Ok(DeliveryOutcome::Stored)
}

fn ingest_opened(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    mut loaded: Loaded,
    opened: Opened,
) -> Result<(), Fault> {
    let id = loaded.id;
    let was = loaded.secrets.phase;
    loaded.secrets = opened.connection;
    connections::save(tx, &mut loaded)?;
    opened::add_digest(tx, DigestScope::Connection(id), &opened.msg_hash)?;
    connections::record_contact(tx, id)?;
    if opened.has_new_session {
        outbox::seal_again(tx, id)?;
    }
    if opened.is_reset {
        let why = "the peer began a new session that does not continue the old one: compare the safety number";
        connections::set_health(tx, id, HealthState::Waiting, Some(why))?;
    }
    if let Some(publishing) = &opened.publication {
        pairing::publish_base(tx, id, publishing)?;
    }
    if was == Phase::Accepting && loaded.secrets.phase == Phase::Accepted {
        pairing::complete(tx, id)?;
    }
    if loaded.secrets.phase == Phase::Accepting {
        pairing::await_confirmation(tx, id)?;
    }
    apply_event(tx, identity, &loaded, opened.event)?;
    if let Some(uuid) = opened.receipt {
        receipts::add(tx, id, &uuid, ReceiptKind::DELIVERED)?;
    }
    Ok(())
}

/// The message does not open: a repetition is nothing; anything else is shown on the connection and on what is under way.
fn ingest_unopened(tx: &mut Tx<'_>, loaded: &mut Loaded, unopened: Unopened) -> Result<(), Fault> {
    use sealpost_e2ee::sessions::{RejectReason, Remedy};
    if let Some(connection) = unopened.connection {
        loaded.secrets = connection;
        connections::save(tx, loaded)?;
    }
    if let RejectReason::Consumed { msg_hash } = &unopened.reason
        && opened::has_digest(tx, DigestScope::Connection(loaded.id), msg_hash)?
    {
        return Ok(());
    }
    tracing::warn!(connection = %loaded.id, reason = %unopened.reason, "an envelope cannot be opened");
    match unopened.remedy {
        Remedy::Discard => Ok(()),
        Remedy::ResumeDue | Remedy::InitDesync | Remedy::AlertAndInit | Remedy::Suspend => {
            let reason = format!(
                "an envelope of the peer could not be opened ({})",
                unopened.reason
            );
            connections::set_health(tx, loaded.id, HealthState::Broken, Some(&reason))?;
            deliveries::mark_healing(tx, loaded.id, &reason)
        }
    }
}

fn apply_event(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &Loaded,
    event: Event,
) -> Result<(), Fault> {
    match event {
        Event::Accepted => {
            pairing::open_chat(tx, loaded)?;
            outbox::confirm_kind(tx, loaded.id, Kind::CONNECTION_REQUEST)?;
            connections::touch(tx, loaded.id)
        }
        Event::Rejected(why) => {
            outbox::confirm_kind(tx, loaded.id, Kind::CONNECTION_REQUEST)?;
            let own = loaded.secrets.inbound.as_ref().map(|own| own.id);
            if let Some(mailbox) = own {
                let now = tx.now;
                relay_jobs::add(
                    tx,
                    loaded.id.into(),
                    JobKind::CloseMailbox,
                    &mailbox,
                    &[],
                    now,
                )?;
            }
            connections::set_note(tx, loaded.id, &why.unwrap_or_default())
        }
        Event::Message { frame, message } => store_message(tx, identity, loaded, frame, &message),
        Event::Receipt(receipt) => apply_receipt(tx, loaded.id, &receipt),
        Event::Unsupported { frame, kind, body } => {
            store_unknown(tx, loaded.id, frame, kind, &body)
        }
        Event::Ignored => Ok(()),
    }
}

fn store_message(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &Loaded,
    frame: Frame,
    message: &Message,
) -> Result<(), Fault> {
    if !opened::add_uuid(tx, loaded.id, &frame.message_id)? {
        return Ok(());
    }
    if messages::find_sent(tx, loaded.id, &frame.message_id)?.is_some() {
        tracing::warn!(connection = %loaded.id, "discarded a message with the uuid of one of ours");
        return Ok(());
    }
    let chat = pairing::open_chat(tx, loaded)?;
    let contact = connections::load(tx, loaded.id)?.contact;
    let new = messages::NewMessage {
        uuid: frame.message_id,
        author: MessageAuthor::Connection(loaded.id),
        author_name: message
            .author
            .as_ref()
            .map_or(&contact, |author| &author.name),
        content: &message.content,
        content_type: if message.content_type == payload::ContentType::HTML {
            ContentType::Html
        } else {
            ContentType::Markdown
        },
        action_required: message.action_required,
        reply_to: message.reply_to,
        deliver_by: message.deliver_by,
        read_by: message.read_by,
        sent_at: frame.sent_at,
    };
    let key = messages::insert(tx, &new)?;
    let posting = postings::NewPosting {
        chat,
        message: key,
        direction: Direction::In,
        seq: frame.seq,
        files: message.attachments.len(),
    };
    let id = postings::insert(tx, &posting)?;
    store_files(tx, key, message, identity.downloads)?;
    events::add(tx, Subject::Message(id))
}

/// Stores the files of a message, to be downloaded now or on request. Files beyond the limit of a
/// message are not downloaded.
fn store_files(
    tx: &mut Tx<'_>,
    message: MessageKey,
    content: &Message,
    policy: DownloadPolicy,
) -> Result<(), Fault> {
    let mut total = 0_u64;
    for (ordinal, descriptor) in content.attachments.iter().enumerate() {
        let preview = descriptor
            .preview
            .clone()
            .filter(|preview| preview::content_type(preview).is_some());
        let descriptor = &Descriptor {
            preview,
            ..descriptor.clone()
        };
        total = total.saturating_add(descriptor.sealed.pt_len);
        let size = BlobSize::parse(descriptor.sealed.ct_len, limits::BLOB_BYTES_MAX);
        let fits = total <= limits::MESSAGE_FILES_BYTES_MAX && size.is_ok();
        let new = files::NewFile {
            direction: Direction::In,
            status: if !fits {
                FileStatus::Failed
            } else if policy.downloads_automatically(descriptor.sealed.pt_len) {
                FileStatus::Waiting
            } else {
                FileStatus::Offered
            },
            descriptor,
            file_type: None,
            disk_file: DiskFileId::from_bytes(tx.random()),
            part_digests: &[],
        };
        let file = files::insert(tx, &new)?;
        attachments::attach(tx, file, message, ordinal)?;
    }
    Ok(())
}

/// Applies a receipt to our messages to this connection. A late one overrules `failed`.
fn apply_receipt(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    receipt: &Receipt,
) -> Result<(), Fault> {
    let status = match receipt.kind {
        ReceiptKind::DELIVERED => DeliveryStatus::Delivered,
        ReceiptKind::READ => DeliveryStatus::Read,
        ReceiptKind::FETCHED => {
            let mut blobs = receipt
                .ids
                .iter()
                .map(|id| BlobId::from_bytes(*id.as_bytes()));
            return blobs
                .try_for_each(|blob| files::record_fetched(tx, connection, &blob, receipt.at));
        }
        _ => return Ok(()),
    };
    let change = deliveries::Change {
        at: Some(receipt.at),
        ..deliveries::Change::default()
    };
    for uuid in &receipt.ids {
        outbox::confirm(tx, connection, uuid)?;
        if let Some(message) = messages::find_sent(tx, connection, uuid)? {
            let key = DeliveryKey {
                message,
                connection,
            };
            deliveries::advance(tx, key, status, &change)?;
        }
    }
    Ok(())
}

/// Stores an event of a kind that this version does not know, for a version that does.
fn store_unknown(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    frame: Frame,
    kind: Kind,
    body: &[u8],
) -> Result<(), Fault> {
    if !opened::add_uuid(tx, connection, &frame.message_id)? {
        return Ok(());
    }
    tracing::info!(
        %connection,
        kind = kind.0,
        "stored an event of a kind that this version does not know"
    );
    unknown_events::insert(tx, connection, &frame, kind, body)
}

/// Applies a status that the relay reports for an envelope of ours.
pub fn relay_event(tx: &mut Tx<'_>, event: &StatusEvent) -> Result<(), Fault> {
    let Some(row) = outbox::find_by_envelope(tx, &event.envelope)? else {
        return Ok(());
    };
    let Some((status, code)) = submission::reported_status(event) else {
        return Ok(());
    };
    if let Some(key) = row.delivery() {
        let change = deliveries::Change {
            code,
            reason: event.reason.clone(),
            attempts: event.attempts,
            next_attempt_at: event.next_attempt_at,
            at: Some(event.at),
        };
        deliveries::advance(tx, key, status, &change)?;
    }
    if row.kind == Kind::CONNECTION_ACCEPT && code == Some(FailureCode::Expired) {
        // The peer waits until it arrives.
        return outbox::repeat(tx, row.id);
    }
    if status == DeliveryStatus::Failed {
        outbox::remove(tx, row.id)?;
        on_failed_control(tx, &row, code.unwrap_or(FailureCode::Refused))?;
    }
    Ok(())
}

/// Marks the connection of a request or accept that will never arrive as broken. Messages that
/// waited for the accept fail.
pub fn on_failed_control(
    tx: &Tx<'_>,
    row: &outbox::SubmittedRow,
    code: FailureCode,
) -> Result<(), Fault> {
    let what = match row.kind {
        Kind::CONNECTION_REQUEST => "the request was not accepted: ask for a new invite",
        Kind::CONNECTION_ACCEPT => {
            pairing::fail_all(tx, row.connection, code)?;
            "the answer did not arrive: the peer has to connect again"
        }
        _ => return Ok(()),
    };
    connections::set_health(tx, row.connection, HealthState::Broken, Some(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestNode, join, pair, settle};
    use sealpost_proto::B64;

    fn receipts_due(node: &TestNode) -> i64 {
        node.number("SELECT count(*) FROM receipts_due")
    }

    #[test]
    fn a_message_that_was_sealed_twice_arrives_once_and_is_receipted_twice() {
        let mut pair = pair(200);
        let (message, to_bolt) = (pair.acme.send(pair.to_bolt, "hello"), pair.to_bolt);
        let first = pair.acme.seal();
        pair.acme.step(|tx, _| outbox::seal_again(tx, to_bolt));
        let second = pair.acme.seal();
        for envelope in [&first[0], &second[0]] {
            assert_eq!(pair.bolt.receive(envelope), DeliveryOutcome::Stored);
            assert_eq!(
                (pair.bolt.texts(), receipts_due(&pair.bolt)),
                (vec!["hello".to_owned()], 1)
            );
            let receipt = pair.bolt.seal();
            pair.bolt.accepted(&receipt);
            assert_eq!(pair.acme.receive(&receipt[0]), DeliveryOutcome::Stored);
        }
        assert_eq!(
            pair.acme.delivery(&message).status,
            DeliveryStatus::Delivered
        );
    }

    #[test]
    fn an_envelope_that_comes_again_changes_nothing() {
        let mut pair = pair(210);
        pair.acme.send(pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.bolt.receive(&sealed[0]);
        let version = "SELECT sum(version) FROM connections";
        let before = (pair.bolt.number(version), receipts_due(&pair.bolt));
        assert_eq!(pair.bolt.receive(&sealed[0]), DeliveryOutcome::Stored);
        assert_eq!(
            (pair.bolt.number(version), receipts_due(&pair.bolt)),
            before
        );
        assert_eq!(pair.bolt.texts(), ["hello"]);
    }

    #[test]
    fn junk_and_strange_mailboxes_are_refused_and_change_nothing() {
        let mut pair = pair(220);
        pair.acme.send(pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        let mut junk = sealed[0].clone();
        junk.bytes = B64(vec![7; 2_048]);
        let mut strange = sealed[0].clone();
        strange.mailbox.id = MailboxId::from_bytes([9; 16]);
        for envelope in [&junk, &strange] {
            assert_eq!(pair.bolt.receive(envelope), DeliveryOutcome::Refused);
        }
        assert!(pair.bolt.texts().is_empty());
        assert_eq!(pair.bolt.receive(&sealed[0]), DeliveryOutcome::Stored);
    }

    #[test]
    fn a_receipt_counts_only_on_its_own_connection() {
        let mut pair = pair(230);
        let (_, elsewhere) = join(&mut pair.acme, &mut pair.bolt);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.acme.accepted(&sealed);
        let uuid = pair.acme.uuid(&message);
        pair.bolt
            .step(|tx, _| receipts::add(tx, elsewhere, &uuid, ReceiptKind::READ));
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
    }

    #[test]
    fn the_relay_may_say_that_a_message_failed_and_the_peer_that_it_arrived() {
        let mut pair = pair(250);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.acme.accepted(&sealed);
        let event = StatusEvent {
            id: sealpost_proto::DeliveryId(1),
            envelope: sealed[0].id,
            state: sealpost_proto::EnvelopeState::Expired,
            attempts: 3,
            reason: None,
            next_attempt_at: None,
            at: pair.acme.now,
        };
        pair.acme.step(|tx, _| relay_event(tx, &event));
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Failed);
        pair.bolt.receive(&sealed[0]);
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(
            pair.acme.delivery(&message).status,
            DeliveryStatus::Delivered
        );
    }

    fn attachment_statuses(files: &[u64]) -> Vec<FileStatus> {
        let mut pair = pair(260);
        let staged: Vec<_> = files.iter().map(|bytes| pair.acme.stage(*bytes)).collect();
        pair.acme.send_files(pair.to_bolt, "files", &staged);
        for file in &staged {
            pair.acme.uploaded(*file);
        }
        settle(&mut pair.acme, &mut pair.bolt);
        let arrived = pair.bolt.files_that_came();
        arrived.into_iter().map(|file| file.status).collect()
    }

    #[test]
    fn files_of_a_message_wait_to_be_fetched() {
        let statuses = attachment_statuses(&[10, limits::FILE_BYTES_MAX, 0]);
        assert_eq!(statuses, [FileStatus::Waiting; 3]);
    }

    #[test]
    fn a_preview_travels_with_its_message_and_what_is_no_picture_does_not_count() {
        let mut pair = pair(265);
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
            pair.acme.uploaded(*file);
        }
        settle(&mut pair.acme, &mut pair.bolt);
        let arrived = pair.bolt.files_that_came();
        let has_preview: Vec<_> = arrived.iter().map(|file| file.has_preview).collect();
        assert_eq!(has_preview, [true, false, false, true, true]);
        assert!(
            arrived.iter().all(|file| file.descriptor.preview.is_none()),
            "rows are read without it"
        );
        let kept =
            [0, 1].map(|at: usize| pair.bolt.step(|tx, _| files::preview(tx, arrived[at].id)));
        assert_eq!(kept, [Some(picture.clone()), None]);
    }

    #[test]
    fn a_broken_session_is_shown_where_people_look() {
        let mut pair = pair(270);
        let waiting = pair.bolt.send(pair.to_acme, "on its way");
        pair.acme.send(pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.bolt.receive(&sealed[0]);
        // The digests are forgotten, as after a restored backup that is younger than the ratchet: the key is gone.
        pair.bolt.sql("DELETE FROM opened_digests");
        assert_eq!(pair.bolt.receive(&sealed[0]), DeliveryOutcome::Stored);
        let shown = pair.bolt.connection(pair.to_acme);
        assert_eq!(shown.health, HealthState::Broken);
        assert!(pair.bolt.delivery(&waiting).healing);
        assert_eq!(pair.bolt.texts(), ["hello"]);
    }
}
