//! Receiving of envelopes. One transaction per envelope commits the ratchet, the content and the
//! due receipt together. The relay gets its acknowledgement only after the commit.

use crate::{
    fault::Fault,
    files::DiskFileId,
    healing,
    identity::NodeIdentity,
    lost_blobs, pairing, preview,
    store::{
        Tx, attachments,
        connections::{self, LoadedConnection},
        deduplication::{self, DigestScope},
        deliveries::{self, DeliveryKey},
        events::{self, Subject},
        files, invites, lives,
        messages::{self, MessageAuthor},
        outbox, postings, receipts,
        relay_jobs::{self, JobKind},
        unknown_payloads,
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
    connection::{
        Connection, Event, Incoming, MessageMetadata, OpenedEnvelope, Phase, RejectedEnvelope,
    },
    model::{
        ConnectionId, ConnectionWarning, ContentType, Direction, FileStatus, HealthState, InviteId,
        MessageRowId,
    },
    name::visible_name,
    submission,
    transfer::DownloadPolicy,
};
use sealpost_proto::{
    BlobId, BlobSize, DeliveryStatus, FailureCode, MailboxId, limits,
    wire::{DeliveredEnvelope, DeliveryOutcome, StatusEvent},
};
use sha2::{Digest as _, Sha256};

/// Stores one envelope, and returns the outcome to report to the relay after the commit.
pub(crate) fn receive(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    delivery: &DeliveredEnvelope,
) -> Result<DeliveryOutcome, Fault> {
    let scope = DigestScope::Mailbox(delivery.mailbox);
    let digest: [u8; 32] = Sha256::digest(delivery.bytes.as_slice()).into();
    if deduplication::has_digest(tx, scope, &digest)? {
        return Ok(DeliveryOutcome::Stored);
    }
    let outcome = if let Some(id) = connections::find_by_mailbox(tx, &delivery.mailbox)? {
        receive_on_connection(tx, identity, id, delivery)?
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
        deduplication::record_digest(tx, scope, &digest)?;
    }
    Ok(outcome)
}

fn receive_on_connection(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    id: ConnectionId,
    delivery: &DeliveredEnvelope,
) -> Result<DeliveryOutcome, Fault> {
    let loaded = connections::load_secrets(tx, id)?;
    if loaded.secrets.phase == Phase::Blocked {
        // The relay handed out the envelope before it closed the mailbox.
        return Ok(DeliveryOutcome::Refused);
    }
    let incoming = loaded.secrets.receive(
        &identity.keys,
        delivery.bytes.as_slice(),
        delivery.accepted_at,
        tx.relay_now,
        tx.rng,
    );
    ingest(tx, identity, loaded, incoming)
}

/// Receives an envelope in an invite's mailbox. A repetition of a pending request goes to the
/// connection that the first one created. An envelope whose outer layer cannot be opened is
/// refused, which the relay reports to the sender. A request that cannot be opened is discarded, so
/// that its sender learns nothing.
fn receive_on_invite(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    id: InviteId,
    mailbox: &MailboxId,
    envelope: &[u8],
) -> Result<DeliveryOutcome, Fault> {
    let invite = pairing::load_invite(tx, id)?;
    let key = OuterKey::for_invite(invite.issued.invite.secret());
    let Ok(inner) = open_envelope(&key, mailbox, envelope) else {
        return Ok(DeliveryOutcome::Refused);
    };
    if let Some(prefix) = prefix_hash(&inner) {
        for connection in connections::find_pending(tx, id)? {
            let loaded = connections::load_secrets(tx, connection)?;
            if loaded.secrets.sessions.has_init_prefix(&prefix) {
                let incoming =
                    loaded
                        .secrets
                        .receive_inner(&identity.keys, &inner, tx.relay_now, tx.rng);
                return ingest(tx, identity, loaded, incoming);
            }
        }
    }
    if !pairing::is_open(tx, &invite) {
        invites::count_refused_request(tx, invite.id)?;
        return Ok(DeliveryOutcome::Refused);
    }
    let issued = &invite.issued;
    match Connection::receive_request(
        &identity.keys,
        &issued.invite,
        &issued.bundles,
        &inner,
        tx.relay_now,
        tx.rng,
    ) {
        Some(request) => pairing::receive_request(tx, identity, &invite, &request),
        None => {
            tracing::info!(
                invite = %id,
                "discarded an envelope in an invite's mailbox: it cannot be opened"
            );
            Ok(DeliveryOutcome::Stored)
        }
    }
}

fn ingest(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    mut loaded: LoadedConnection,
    incoming: Incoming,
) -> Result<DeliveryOutcome, Fault> {
    match incoming {
        Incoming::OuterLayerInvalid => return Ok(DeliveryOutcome::Refused),
        Incoming::Opened(opened) => ingest_opened(tx, identity, loaded, *opened)?,
        Incoming::Rejected(rejected) => ingest_rejected(tx, &mut loaded, *rejected)?,
    }
    Ok(DeliveryOutcome::Stored)
}

fn ingest_opened(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    mut loaded: LoadedConnection,
    opened: OpenedEnvelope,
) -> Result<(), Fault> {
    let id = loaded.id;
    let before = std::mem::replace(&mut loaded.secrets, opened.connection);
    connections::save(tx, &mut loaded)?;
    deduplication::record_digest(tx, DigestScope::Connection(id), &opened.msg_hash)?;
    connections::record_peer_activity(tx, id)?;
    if let Some(publication) = &opened.publication {
        pairing::publish_prekeys(tx, id, publication)?;
    }
    if let Some(started) = &opened.new_session {
        healing::join_session(tx, identity, &mut loaded, started)?;
        if started.is_reset {
            connections::set_warning(tx, id, ConnectionWarning::Reset)?;
        }
    }
    if before.phase == Phase::Accepting && loaded.secrets.phase == Phase::Accepted {
        pairing::schedule_invite_mailbox_closing(tx, id)?;
    }
    if loaded.secrets.phase == Phase::Accepting {
        pairing::set_awaiting_confirmation(tx, id)?;
    }
    apply_event(tx, identity, &mut loaded, opened.event)?;
    if let Some(uuid) = opened.receipt_for {
        receipts::add(tx, id, &uuid, ReceiptKind::DELIVERED)?;
    }
    healing::rotate_if_due(tx, identity, &loaded)
}

/// Handles an envelope whose message cannot be opened. A duplicate is ignored, and a failure that
/// needs no remedy is only logged. For any other failure the connection heals: it is shown on the
/// connection and on its unfinished deliveries until an envelope of the partner opens.
fn ingest_rejected(
    tx: &mut Tx<'_>,
    loaded: &mut LoadedConnection,
    rejected: RejectedEnvelope,
) -> Result<(), Fault> {
    use sealpost_e2ee::sessions::{RejectReason, Remedy};
    if let Some(connection) = rejected.connection {
        loaded.secrets = connection;
        connections::save(tx, loaded)?;
    }
    if let Some(publication) = &rejected.publication {
        pairing::publish_prekeys(tx, loaded.id, publication)?;
    }
    if let RejectReason::Consumed { msg_hash } = &rejected.reason
        && deduplication::has_digest(tx, DigestScope::Connection(loaded.id), msg_hash)?
    {
        return Ok(());
    }
    tracing::warn!(
        connection = %loaded.id,
        reason = %rejected.reason,
        "an envelope cannot be opened"
    );
    match rejected.remedy {
        Remedy::Discard => return Ok(()),
        Remedy::Suspend => {
            return connections::set_warning(tx, loaded.id, ConnectionWarning::OtherIdentity);
        }
        Remedy::ResumeDue => healing::schedule_resume(tx, loaded)?,
        Remedy::InitDesync => healing::schedule_session(tx, loaded, &rejected.reason)?,
        Remedy::AlertAndInit => {
            connections::set_warning(tx, loaded.id, ConnectionWarning::Forked)?;
            healing::schedule_session(tx, loaded, &rejected.reason)?;
        }
    }
    let reason = format!(
        "an envelope from the partner could not be opened ({}); its messages are requested again",
        rejected.reason
    );
    connections::set_health(tx, loaded.id, HealthState::Healing, Some(&reason))?;
    deliveries::mark_healing(tx, loaded.id, &reason)
}

fn apply_event(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &mut LoadedConnection,
    event: Event,
) -> Result<(), Fault> {
    match event {
        Event::Accepted => {
            pairing::find_or_create_chat(tx, loaded)?;
            outbox::confirm_kind(tx, loaded.id, Kind::CONNECTION_REQUEST)?;
            connections::record_change(tx, loaded.id)
        }
        Event::Rejected(reason) => {
            outbox::confirm_kind(tx, loaded.id, Kind::CONNECTION_REQUEST)?;
            let own = loaded.secrets.own_mailbox.as_ref().map(|own| own.id);
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
            connections::set_note(tx, loaded.id, &reason.unwrap_or_default())
        }
        Event::Message { metadata, message } => {
            store_message(tx, identity, loaded, metadata, &message)
        }
        Event::Receipt(receipt) => apply_receipt(tx, loaded.id, &receipt),
        Event::Resend(request) => {
            healing::answer_resend(tx, identity, loaded, &request)?;
            if let Some(request) = &request.attachment {
                lost_blobs::receive_request(tx, loaded.id, request)?;
            }
            if let Some(response) = &request.attachment_response {
                lost_blobs::receive_response(tx, loaded.id, response)?;
            }
            Ok(())
        }
        Event::Unsupported {
            metadata,
            kind,
            body,
        } => store_unknown_payload(tx, loaded.id, metadata, kind, &body),
        Event::Ignored => Ok(()),
    }
}

fn store_message(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &LoadedConnection,
    metadata: MessageMetadata,
    message: &Message,
) -> Result<(), Fault> {
    if !deduplication::record_uuid(tx, loaded.id, &metadata.message_id)? {
        return healing::repeat_receipts_for(tx, loaded.id, &metadata.message_id);
    }
    if messages::find_sent(tx, loaded.id, &metadata.message_id)?.is_some() {
        tracing::warn!(
            connection = %loaded.id,
            "discarded a message: it has the uuid of one of our messages"
        );
        return Ok(());
    }
    let chat = pairing::find_or_create_chat(tx, loaded)?;
    let author_name = match &message.author {
        Some(author) => visible_name(&author.name),
        None => connections::load(tx, loaded.id)?.contact,
    };
    let new = messages::NewMessage {
        uuid: metadata.message_id,
        author: MessageAuthor::Connection(loaded.id),
        author_name: &author_name,
        content: &message.content,
        content_type: stored_type(message.content_type),
        action_required: message.action_required,
        reply_to: message.reply_to,
        deliver_by: message.deliver_by,
        read_by: message.read_by,
        sent_at: metadata.sent_at,
    };
    let key = messages::insert(tx, &new)?;
    let current = loaded.secrets.received_seqs.current();
    let posting = postings::NewPosting {
        chat,
        message: key,
        direction: Direction::In,
        sender: lives::find_position(tx, loaded.id, current, &metadata)?,
        files: message.attachments.len(),
    };
    let id = postings::insert(tx, &posting)?;
    store_files(tx, key, message, identity.downloads)?;
    events::add(tx, Subject::Message(id))
}

/// Returns the type of a text that arrived. A type that a later version added is plain text.
const fn stored_type(received: payload::ContentType) -> ContentType {
    match received {
        payload::ContentType::MARKDOWN => ContentType::Markdown,
        payload::ContentType::HTML => ContentType::Html,
        _ => ContentType::Plain,
    }
}

/// Stores the files of a message, to be downloaded automatically or on request. Files above the
/// size limit of a message fail.
fn store_files(
    tx: &mut Tx<'_>,
    message: MessageRowId,
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
        let is_allowed = total <= limits::MESSAGE_FILES_BYTES_MAX && size.is_ok();
        let new = files::NewFile {
            direction: Direction::In,
            status: if !is_allowed {
                FileStatus::Failed
            } else if policy.downloads_automatically(descriptor.sealed.pt_len) {
                FileStatus::Waiting
            } else {
                FileStatus::Offered
            },
            descriptor,
            file_type: None,
            disk_file: DiskFileId::from_bytes(tx.random_bytes()),
            part_digests: &[],
            content_digest: None,
        };
        let file = files::insert(tx, &new)?;
        attachments::attach(tx, file, message, ordinal)?;
    }
    Ok(())
}

/// Applies a receipt to our messages to this connection. A late receipt overrules `failed`.
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
    let change = deliveries::StatusChange {
        at: Some(receipt.at),
        ..deliveries::StatusChange::default()
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

/// Stores a payload of an unknown kind for a later version that supports it.
fn store_unknown_payload(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    metadata: MessageMetadata,
    kind: Kind,
    body: &[u8],
) -> Result<(), Fault> {
    if !deduplication::record_uuid(tx, connection, &metadata.message_id)? {
        return Ok(());
    }
    tracing::info!(
        %connection,
        kind = kind.0,
        "stored a payload of a kind that this version does not know"
    );
    unknown_payloads::insert(tx, connection, &metadata, kind, body)
}

/// Applies a status that the relay reports for one of our envelopes.
pub(crate) fn apply_status_event(tx: &mut Tx<'_>, event: &StatusEvent) -> Result<(), Fault> {
    let Some(row) = outbox::find_by_envelope(tx, &event.envelope)? else {
        return Ok(());
    };
    let Some((status, code)) = submission::reported_status(event) else {
        return Ok(());
    };
    if let Some(key) = row.delivery() {
        let change = deliveries::StatusChange {
            code,
            reason: event.reason.clone(),
            attempts: event.attempts,
            next_attempt_at: event.next_attempt_at,
            at: Some(event.at),
        };
        deliveries::advance(tx, key, status, &change)?;
    }
    if row.kind == Kind::CONNECTION_ACCEPT && code == Some(FailureCode::Expired) {
        // The peer waits for the acceptance, so it is sent again.
        return outbox::requeue(tx, row.id);
    }
    if status == DeliveryStatus::Failed {
        outbox::remove(tx, row.id)?;
        record_failed_item(tx, &row, code.unwrap_or(FailureCode::Refused))?;
    }
    Ok(())
}

/// Marks a connection as broken if the partner closed it, or if its request or acceptance cannot be
/// delivered. Messages that waited for the acceptance to be confirmed fail.
pub(crate) fn record_failed_item(
    tx: &Tx<'_>,
    row: &outbox::SubmittedItem,
    code: FailureCode,
) -> Result<(), Fault> {
    let reason = match row.kind {
        Kind::CONNECTION_REQUEST if code == FailureCode::Refused => {
            "the partner's node refused the request: the invite was used before, was revoked or \
             has expired, or too many requests wait there: ask for a new invite"
        }
        Kind::CONNECTION_REQUEST => "the request could not be delivered: ask for a new invite",
        Kind::CONNECTION_ACCEPT => {
            pairing::fail_deliveries(tx, row.connection, code)?;
            "the acceptance could not be delivered: the partner has to connect again"
        }
        Kind::CONNECTION_REJECT => return Ok(()),
        _ if code == FailureCode::MailboxUnknown => connections::CLOSED_BY_PARTNER,
        _ => return Ok(()),
    };
    connections::set_health(tx, row.connection, HealthState::Broken, Some(reason))
}

#[cfg(test)]
mod tests;
