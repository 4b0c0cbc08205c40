//! What arrives: each envelope is one transaction that commits ratchet, content and the receipt that is due together. Only
//! then is the relay told.

use crate::{
    api::{
        model::{AttachmentStatus, Direction, EventTopic, HealthState},
        render,
    },
    fault::Fault,
    files::FileId,
    me::Me,
    pairing, preview,
    store::{
        Tx, attachments,
        chores::{self, Chore},
        connections::{self, Loaded},
        deliveries, events, invites, messages, outbox, receipts, seen,
    },
};
use sealpost_e2ee::{
    OuterKey,
    attachment::Descriptor,
    envelope::open_envelope,
    payload::{ContentType, Message, Receipt, ReceiptKind},
    plaintext::Kind,
    sessions::prefix_hash,
};
use sealpost_node_core::{
    connection::{Connection, Event, Frame, Incoming, Opened, Phase, Unopened},
    submission,
    transfer::DownloadPolicy,
};
use sealpost_proto::{
    BlobId, BlobSize, DeliveryStatus, FailureCode, MailboxId, MessageId, limits,
    wire::{Delivery, DeliveryOutcome, StatusEvent},
};
use sha2::{Digest as _, Sha256};

/// Takes in one envelope and says what to answer the relay after the commit.
///
/// # Errors
/// When the database fails: nothing happened, and the relay is asked to come again.
pub fn receive(tx: &mut Tx<'_>, me: &Me, delivery: &Delivery) -> Result<DeliveryOutcome, Fault> {
    let scope = delivery.mailbox.to_string();
    let digest: [u8; 32] = Sha256::digest(delivery.bytes.as_slice()).into();
    if seen::has_digest(tx, &scope, &digest)? {
        return Ok(DeliveryOutcome::Stored);
    }
    let outcome = if let Some(name) = connections::of_mailbox(tx, &delivery.mailbox)? {
        receive_on_connection(tx, me, &name, delivery.bytes.as_slice())?
    } else if let Some(name) = invites::of_mailbox(tx, &delivery.mailbox)? {
        receive_on_invite(tx, me, &name, &delivery.mailbox, delivery.bytes.as_slice())?
    } else {
        DeliveryOutcome::Refused
    };
    if outcome == DeliveryOutcome::Stored {
        seen::remember_digest(tx, &scope, &digest)?;
    }
    Ok(outcome)
}

fn receive_on_connection(
    tx: &mut Tx<'_>,
    me: &Me,
    name: &str,
    envelope: &[u8],
) -> Result<DeliveryOutcome, Fault> {
    let loaded = connections::load_secrets(tx, name)?;
    let incoming = loaded
        .secrets
        .receive(&me.identity, envelope, tx.now, tx.rng);
    take_in(tx, me, loaded, incoming)
}

/// An invite's mailbox: a request that opens makes a connection; a repetition of one goes to the connection it made; all
/// else is discarded, and nothing is answered.
fn receive_on_invite(
    tx: &mut Tx<'_>,
    me: &Me,
    name: &str,
    mailbox: &MailboxId,
    envelope: &[u8],
) -> Result<DeliveryOutcome, Fault> {
    let invite = pairing::load_invite(tx, name)?;
    let key = OuterKey::for_invite(invite.held.invite.secret());
    let Ok(inner) = open_envelope(&key, mailbox, envelope) else {
        return Ok(DeliveryOutcome::Refused);
    };
    if let Some(prefix) = prefix_hash(&inner) {
        for connection in connections::of_invite(tx, &invite.held.invite.id())? {
            let loaded = connections::load_secrets(tx, &connection)?;
            if loaded.secrets.sessions.has_init_prefix(&prefix) {
                let incoming = loaded
                    .secrets
                    .receive_inner(&me.identity, &inner, tx.now, tx.rng);
                return take_in(tx, me, loaded, incoming);
            }
        }
    }
    let held = &invite.held;
    match Connection::asked(
        &me.identity,
        &held.invite,
        &held.bases,
        &inner,
        tx.now,
        tx.rng,
    ) {
        Some(asked) => pairing::on_request(tx, me, &invite, &asked)?,
        None => tracing::info!(
            invite = name,
            "an envelope at an invite does not open; discarded"
        ),
    }
    Ok(DeliveryOutcome::Stored)
}

fn take_in(
    tx: &mut Tx<'_>,
    me: &Me,
    mut loaded: Loaded,
    incoming: Incoming,
) -> Result<DeliveryOutcome, Fault> {
    match incoming {
        Incoming::Junk => return Ok(DeliveryOutcome::Refused),
        Incoming::Opened(opened) => take_in_opened(tx, me, loaded, *opened)?,
        Incoming::Unopened(unopened) => take_in_unopened(tx, &mut loaded, *unopened)?,
    }
    Ok(DeliveryOutcome::Stored)
}

fn take_in_opened(
    tx: &mut Tx<'_>,
    me: &Me,
    mut loaded: Loaded,
    opened: Opened,
) -> Result<(), Fault> {
    let name = loaded.name.clone();
    let was = loaded.secrets.phase;
    loaded.secrets = opened.connection;
    connections::save(tx, &mut loaded)?;
    seen::remember_digest(tx, &name, &opened.msg_hash)?;
    connections::heard(tx, &name)?;
    if opened.session_changed {
        outbox::seal_again(tx, &name)?;
    }
    if opened.reset {
        let why = "the other side began a new session that does not continue the old one: compare the safety number";
        connections::set_health(tx, &name, HealthState::Waiting, Some(why))?;
    }
    if let Some(publishing) = &opened.publishing {
        pairing::publish_base(tx, &name, publishing)?;
    }
    if was == Phase::Accepting && loaded.secrets.phase == Phase::Accepted {
        pairing::complete(tx, &name)?;
    }
    if loaded.secrets.phase == Phase::Accepting {
        pairing::await_confirmation(tx, &name)?;
    }
    take_up(tx, me, &loaded, opened.event)?;
    if let Some(id) = opened.receipt {
        receipts::add(tx, &name, &id, ReceiptKind::DELIVERED)?;
    }
    Ok(())
}

/// The message does not open: a repetition is nothing; anything else is shown on the connection and on what is under way.
fn take_in_unopened(tx: &mut Tx<'_>, loaded: &mut Loaded, unopened: Unopened) -> Result<(), Fault> {
    use sealpost_e2ee::sessions::{RejectReason, Remedy};
    if let Some(connection) = unopened.connection {
        loaded.secrets = connection;
        connections::save(tx, loaded)?;
    }
    if let RejectReason::Consumed { msg_hash } = &unopened.why
        && seen::has_digest(tx, &loaded.name, msg_hash)?
    {
        return Ok(());
    }
    tracing::warn!(connection = loaded.name, why = %unopened.why, "an envelope does not open");
    match unopened.remedy {
        Remedy::Discard => Ok(()),
        Remedy::ResumeDue | Remedy::InitDesync | Remedy::AlertAndInit | Remedy::Suspend => {
            let reason = format!(
                "something from the other side could not be opened ({})",
                unopened.why
            );
            connections::set_health(tx, &loaded.name, HealthState::Broken, Some(&reason))?;
            deliveries::mark_healing(tx, &loaded.name, &reason)
        }
    }
}

fn take_up(tx: &mut Tx<'_>, me: &Me, loaded: &Loaded, event: Event) -> Result<(), Fault> {
    match event {
        Event::Accepted => {
            pairing::open_chat(tx, loaded)?;
            outbox::confirm_kind(tx, &loaded.name, Kind::CONNECTION_REQUEST)?;
            connections::touch(tx, &loaded.name)
        }
        Event::Rejected(why) => {
            outbox::confirm_kind(tx, &loaded.name, Kind::CONNECTION_REQUEST)?;
            let own = loaded.secrets.inbound.as_ref().map(|own| own.id);
            if let Some(mailbox) = own {
                let now = tx.now;
                chores::add(tx, &loaded.name, Chore::CloseMailbox, &mailbox, &[], now)?;
            }
            connections::set_note(tx, &loaded.name, &why.unwrap_or_default())
        }
        Event::Message { frame, message } => store_message(tx, me, loaded, frame, &message),
        Event::Receipt(receipt) => confirm(tx, &loaded.name, &receipt),
        Event::Kept { frame, kind, body } => keep(tx, loaded, frame, kind, &body),
        Event::Ignored => Ok(()),
    }
}

fn store_message(
    tx: &mut Tx<'_>,
    me: &Me,
    loaded: &Loaded,
    frame: Frame,
    message: &Message,
) -> Result<(), Fault> {
    if !seen::remember_message(tx, &loaded.name, &frame.message_id)? {
        return Ok(());
    }
    let chat = pairing::open_chat(tx, loaded)?;
    let contact = connections::load(tx, &loaded.name)?.contact;
    let html = message.content_type == ContentType::HTML;
    let new = messages::NewMessage {
        chat: &chat,
        uuid: frame.message_id,
        direction: Direction::In,
        kind: Kind::MESSAGE.0,
        sender_name: message
            .author
            .as_ref()
            .map_or(&contact, |author| &author.name),
        content: &message.content,
        content_type: if html { render::HTML } else { render::MARKDOWN },
        seq: Some(frame.seq),
        action_required: message.action_required,
        reply_to: message.reply_to,
        deliver_by: message.deliver_by,
        read_by: message.read_by,
        sent_at: frame.sent_at,
    };
    let name = messages::insert(tx, &new)?;
    store_files(tx, &name, message, me.downloads)?;
    events::add(tx, EventTopic::Message, &name, None)
}

/// The files of a message wait to be fetched, or to be asked for. Together they may hold no more than a message may; what is
/// over is not fetched.
fn store_files(
    tx: &mut Tx<'_>,
    message: &str,
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
        let new = attachments::NewAttachment {
            direction: Direction::In,
            status: if !fits {
                AttachmentStatus::Failed
            } else if policy.fetches(descriptor.sealed.pt_len) {
                AttachmentStatus::Waiting
            } else {
                AttachmentStatus::Offered
            },
            descriptor,
            file_type: None,
            file: FileId::from_bytes(pairing::draw(tx)),
            part_digests: &[],
        };
        let attachment = attachments::insert(tx, &new)?;
        attachments::link(tx, message, ordinal, &attachment)?;
    }
    Ok(())
}

/// The peer's word on messages of ours. It counts only for that connection's; a late one overrules `failed`.
fn confirm(tx: &mut Tx<'_>, name: &str, receipt: &Receipt) -> Result<(), Fault> {
    let status = match receipt.kind {
        ReceiptKind::DELIVERED => DeliveryStatus::Delivered,
        ReceiptKind::READ => DeliveryStatus::Read,
        ReceiptKind::FETCHED => {
            let mut blobs = receipt
                .ids
                .iter()
                .map(|id| BlobId::from_bytes(*id.as_bytes()));
            return blobs.try_for_each(|blob| attachments::fetched(tx, name, &blob, receipt.at));
        }
        _ => return Ok(()),
    };
    let change = deliveries::Change {
        at: Some(receipt.at),
        ..deliveries::Change::default()
    };
    for id in &receipt.ids {
        outbox::confirm(tx, name, id)?;
        if let Some(message) = deliveries::by_uuid(tx, name, id)? {
            deliveries::advance(tx, &message, status, &change)?;
        }
    }
    Ok(())
}

/// A kind that this version does not show: kept as it came, for the version that will.
fn keep(
    tx: &mut Tx<'_>,
    loaded: &Loaded,
    frame: Frame,
    kind: Kind,
    body: &[u8],
) -> Result<(), Fault> {
    if !seen::remember_message(tx, &loaded.name, &frame.message_id)? {
        return Ok(());
    }
    tracing::info!(
        connection = loaded.name,
        kind = kind.0,
        "kept an event of a kind that this version does not show"
    );
    crate::store::kept::insert(tx, &loaded.name, &frame, kind, body)
}

/// The relay's word on an envelope of ours.
///
/// # Errors
/// When the database fails.
pub fn relay_event(tx: &mut Tx<'_>, event: &StatusEvent) -> Result<(), Fault> {
    let Some(row) = outbox::by_envelope(tx, &event.envelope)? else {
        return Ok(());
    };
    let Some((status, code)) = submission::claimed(event) else {
        return Ok(());
    };
    if let Some(message) = &row.message {
        let change = deliveries::Change {
            code,
            reason: event.reason.clone(),
            attempts: event.attempts,
            next_attempt_at: event.next_attempt_at,
            at: Some(event.at),
        };
        deliveries::advance(tx, message, status, &change)?;
    }
    if row.kind == Kind::CONNECTION_ACCEPT && code == Some(FailureCode::Expired) {
        // The other side waits for it as long as it has not come.
        return outbox::repeat(tx, row.id);
    }
    if status == DeliveryStatus::Failed {
        outbox::remove(tx, row.id)?;
        on_failed_control(tx, &row, code.unwrap_or(FailureCode::Refused))?;
    }
    Ok(())
}

/// A request or an accept that will never arrive is shown on its connection; what waited for the accept ends with it.
///
/// # Errors
/// When the database fails.
pub fn on_failed_control(tx: &Tx<'_>, row: &outbox::Row, code: FailureCode) -> Result<(), Fault> {
    let what = match row.kind {
        Kind::CONNECTION_REQUEST => "the request was not taken: ask for a new invite",
        Kind::CONNECTION_ACCEPT => {
            pairing::fail_all(tx, &row.connection, code)?;
            "the answer did not arrive: the other side has to connect again"
        }
        _ => return Ok(()),
    };
    connections::set_health(tx, &row.connection, HealthState::Broken, Some(what))
}

/// Marks a message as read, and tells its sender.
///
/// # Errors
/// When the database fails.
pub fn mark_read(tx: &Tx<'_>, message: &messages::Message) -> Result<(), Fault> {
    if message.direction == Direction::In && messages::mark_read(tx, &message.name)? {
        let id: &MessageId = &message.uuid;
        receipts::add(tx, &message.connection, id, ReceiptKind::READ)?;
        events::add(tx, EventTopic::Message, &message.name, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestNode, join, pair, settle};
    use sealpost_node_core::file_type::{Danger, FileType};
    use sealpost_proto::B64;

    fn receipts_due(node: &TestNode) -> i64 {
        node.number("SELECT count(*) FROM receipts_due")
    }

    #[test]
    fn a_message_that_was_sealed_twice_arrives_once_and_is_receipted_twice() {
        let mut pair = pair(200);
        let (message, to_bolt) = (pair.acme.send(&pair.to_bolt, "hello"), pair.to_bolt.clone());
        let first = pair.acme.seal();
        pair.acme.step(|tx, _| outbox::seal_again(tx, &to_bolt));
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
        pair.acme.send(&pair.to_bolt, "hello");
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
        pair.acme.send(&pair.to_bolt, "hello");
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
        let message = pair.acme.send(&pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.acme.accepted(&sealed);
        let uuid = pair.acme.delivery(&message).uuid;
        pair.bolt
            .step(|tx, _| receipts::add(tx, &elsewhere, &uuid, ReceiptKind::READ));
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
    }

    #[test]
    fn reading_is_told_once() {
        let mut pair = pair(240);
        let message = pair.acme.send(&pair.to_bolt, "hello");
        settle(&mut pair.acme, &mut pair.bolt);
        let arrived = pair.bolt.arrived().remove(0);
        for _ in 0..2 {
            pair.bolt.step(|tx, _| mark_read(tx, &arrived));
        }
        assert_eq!(receipts_due(&pair.bolt), 1);
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Read);
        pair.bolt.step(|tx, _| mark_read(tx, &arrived));
        assert_eq!(receipts_due(&pair.bolt), 0);
    }

    #[test]
    fn the_relay_may_say_that_a_message_failed_and_the_peer_that_it_arrived() {
        let mut pair = pair(250);
        let message = pair.acme.send(&pair.to_bolt, "hello");
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

    fn attachment_statuses(files: &[u64]) -> Vec<AttachmentStatus> {
        let mut pair = pair(260);
        let staged: Vec<_> = files.iter().map(|bytes| pair.acme.stage(*bytes)).collect();
        pair.acme.send_files(&pair.to_bolt, "files", &staged);
        for file in &staged {
            pair.acme.uploaded(file);
        }
        settle(&mut pair.acme, &mut pair.bolt);
        let name = pair.bolt.arrived().remove(0).name;
        let arrived = pair.bolt.step(|tx, _| attachments::of_message(tx, &name));
        arrived.into_iter().map(|file| file.status).collect()
    }

    #[test]
    fn files_of_a_message_wait_to_be_fetched() {
        let statuses = attachment_statuses(&[10, limits::FILE_BYTES_MAX, 0]);
        assert_eq!(statuses, [AttachmentStatus::Waiting; 3]);
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
            &pair.to_bolt,
            &"x".repeat(limits::MESSAGE_TEXT_BYTES_MAX),
            &staged,
        );
        for file in &staged {
            pair.acme.uploaded(file);
        }
        settle(&mut pair.acme, &mut pair.bolt);
        let name = pair.bolt.arrived().remove(0).name;
        let arrived = pair.bolt.step(|tx, _| attachments::of_message(tx, &name));
        let has_preview: Vec<_> = arrived.iter().map(|file| file.has_preview).collect();
        assert_eq!(has_preview, [true, false, false, true, true]);
        assert!(
            arrived.iter().all(|file| file.descriptor.preview.is_none()),
            "rows are read without it"
        );
        let kept = [0, 1].map(|at: usize| {
            pair.bolt
                .step(|tx, _| attachments::preview(tx, &arrived[at].name))
        });
        assert_eq!(kept, [Some(picture.clone()), None]);
    }

    #[test]
    fn a_file_is_what_its_bytes_tell_once_they_are_here() {
        let mut pair = pair(266);
        let staged = [pair.acme.stage_with(10, "photo.jpg", "image/jpeg", None)];
        pair.acme.send_files(&pair.to_bolt, "", &staged);
        pair.acme.uploaded(&staged[0]);
        settle(&mut pair.acme, &mut pair.bolt);
        let message = pair.bolt.arrived().remove(0).name;
        let listed = attachments::Filter {
            limit: 9,
            ..attachments::Filter::default()
        };
        let shown = |node: &mut TestNode| {
            render::listed_attachment(&node.step(|tx, _| attachments::page(tx, &listed))[0])
        };
        let claimed = shown(&mut pair.bolt);
        assert_eq!(
            (
                claimed.message.as_ref(),
                claimed.contacts.as_slice(),
                claimed.message_count
            ),
            (Some(&message), ["Acme".to_owned()].as_slice(), 1)
        );
        assert_eq!(
            (
                claimed.attachment.content_type.as_str(),
                claimed.attachment.claimed_type
            ),
            ("image/jpeg", None)
        );
        let program = FileType::of(b"MZ\x90\0\x03\0\0\0\x04\0", 10, "photo.jpg");
        pair.bolt
            .step(|tx, _| attachments::set_file_type(tx, &claimed.attachment.id, &program));
        let told = shown(&mut pair.bolt).attachment;
        assert_eq!(
            told.content_type,
            "application/vnd.microsoft.portable-executable"
        );
        assert_eq!(told.claimed_type.as_deref(), Some("image/jpeg"));
        assert_eq!(
            told.dangers
                .iter()
                .map(|danger| danger.code)
                .collect::<Vec<_>>(),
            [Danger::Executable]
        );
    }

    #[test]
    fn a_broken_session_is_shown_where_people_look() {
        let mut pair = pair(270);
        let waiting = pair.bolt.send(&pair.to_acme, "on its way");
        pair.acme.send(&pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.bolt.receive(&sealed[0]);
        // The digests are forgotten, as after a restored backup that is younger than the ratchet: the key is gone.
        pair.bolt.sql("DELETE FROM seen");
        assert_eq!(pair.bolt.receive(&sealed[0]), DeliveryOutcome::Stored);
        let shown = pair.bolt.connection(&pair.to_acme.clone());
        assert_eq!(shown.health, HealthState::Broken);
        assert!(pair.bolt.delivery(&waiting).healing);
        assert_eq!(pair.bolt.texts(), ["hello"]);
    }
}
