//! Sending of messages. A message is committed first. It is sealed later, in the transaction that
//! advances the ratchet, and its envelope is submitted unchanged until the relay responds.

use crate::{
    fault::Fault,
    healing,
    identity::NodeIdentity,
    inbox, lost_blobs,
    store::{
        Tx, attachments,
        connections::{self, LoadedConnection},
        deliveries::{self, DeliveryKey, StatusChange},
        events::{self, Subject},
        files::{self, StoredFile},
        messages::{self, MessageAuthor},
        outbox::{self, Content, SubmittedItem, WaitingItem},
        postings, receipts,
        relay_jobs::{self, JobKind},
    },
};
use sealpost_e2ee::{
    attachment::Descriptor,
    payload::{self, Author, Message, Receipt},
    plaintext::Kind,
};
use sealpost_node_core::{
    connection::{Connection, Outgoing, SealRefusal},
    model::{
        AttachmentId, ChatId, ConnectionId, ConnectionStatus, ContentType, Direction, FileStatus,
        HealthState, MessageId, MessageRowId, MessageUuid, RefusalCode, SenderPosition, UserId,
    },
    submission::{self, SubmissionResult},
};
use sealpost_proto::{
    DeliveryStatus, EnvelopeId, Timestamp, limits,
    wire::{SubmitResult, SubmittedEnvelope},
};

/// Message to be sent, as validated from a request.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// Recipients, without duplicates.
    pub to: Vec<ConnectionId>,
    pub content: String,
    pub content_type: ContentType,
    /// Staged files, or files that other messages use.
    pub attachments: Vec<AttachmentId>,
    /// The message that this one answers.
    pub reply_to: Option<MessageId>,
    pub action_required: bool,
    pub deliver_by: Option<Timestamp>,
    pub read_by: Option<Timestamp>,
}

/// Stores a message and its delivery to each recipient. After the commit, the message is sent even
/// after a crash. Returns the message's id in each recipient's chat, in the order of the
/// recipients.
///
/// # Errors
/// Refuses with `not_accepted` if a connection cannot carry messages, with `not_found` if a file is
/// no longer on this node or the message in `reply_to` is unknown, and with `files_too_large` if
/// the files exceed `files_bytes_max`.
pub fn send(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    outgoing: &OutgoingMessage,
    files_bytes_max: u64,
) -> Result<Vec<MessageId>, Fault> {
    let files = start_uploads(tx, &outgoing.attachments, files_bytes_max)?;
    let uuid = MessageUuid::from_bytes(tx.random_bytes());
    let new = messages::NewMessage {
        uuid,
        author: MessageAuthor::User(UserId::FIRST),
        author_name: &identity.name,
        content: &outgoing.content,
        content_type: outgoing.content_type,
        action_required: outgoing.action_required,
        reply_to: outgoing.reply_to.map(|id| find_uuid(tx, id)).transpose()?,
        deliver_by: outgoing.deliver_by,
        read_by: outgoing.read_by,
        sent_at: tx.relay_now,
    };
    let message = messages::insert(tx, &new)?;
    for (ordinal, file) in files.iter().enumerate() {
        attachments::attach(tx, file.id, message, ordinal)?;
    }
    let mut sent = Vec::with_capacity(outgoing.to.len());
    for &connection in &outgoing.to {
        let posting = postings::NewPosting {
            chat: find_sendable_chat(tx, connection)?,
            message,
            direction: Direction::Out,
            sender: SenderPosition::OWN,
            files: files.len(),
        };
        let id = postings::insert(tx, &posting)?;
        let key = DeliveryKey {
            message,
            connection,
        };
        outbox::add_message(tx, key, &uuid)?;
        events::add(tx, Subject::Message(id))?;
        deliveries::insert(tx, key)?;
        sent.push(id);
    }
    Ok(sent)
}

fn find_sendable_chat(tx: &Tx<'_>, connection: ConnectionId) -> Result<ChatId, Fault> {
    let row = connections::load(tx, connection)?;
    // The acceptance was not delivered, so it is never confirmed, and a message would wait forever.
    if row.health == HealthState::Broken && row.last_contact_at.is_none() {
        let reason = row.health_reason.unwrap_or_default();
        let detail = format!(
            "the connection with {} was never confirmed: {reason}",
            row.contact
        );
        let next = "connect again with a new invite";
        return Err(Fault::refused_with_next(
            RefusalCode::NotAccepted,
            detail,
            next,
        ));
    }
    let is_accepted = row.status == ConnectionStatus::Accepted;
    row.chat.filter(|_| is_accepted).ok_or_else(|| {
        let detail = format!("the connection with {} is {}", row.contact, row.status);
        Fault::refused_with_next(RefusalCode::NotAccepted, detail, next_before_sending(&row))
    })
}

/// Returns what has to happen before a message can be sent to a connection that is not accepted.
fn next_before_sending(row: &connections::ConnectionRow) -> String {
    let id = row.id;
    match (row.status, row.direction) {
        (ConnectionStatus::Pending, Direction::In) => {
            format!("accept the request first: sealpost connections accept {id}")
        }
        (ConnectionStatus::Pending, Direction::Out) => {
            "wait until your partner has accepted your request".to_owned()
        }
        (ConnectionStatus::Rejected | ConnectionStatus::Blocked, _) => {
            "this connection cannot be used again; to connect, use a new invite".to_owned()
        }
        (ConnectionStatus::Suspended, _) => format!(
            "ask your partner, for example by telephone. To resume with the identity that you \
             know: sealpost connections acknowledge {id}. To end the connection: sealpost \
             connections block {id}"
        ),
        (ConnectionStatus::Accepted, _) => "try again in a moment".to_owned(),
    }
}

fn find_uuid(tx: &Tx<'_>, id: MessageId) -> Result<MessageUuid, Fault> {
    let posting = postings::load(tx, id)?.ok_or_else(|| Fault::not_found("message", id))?;
    Ok(posting.message.uuid)
}

/// Starts the upload of the staged files of a message. Files that were uploaded for another message
/// are reused.
fn start_uploads(
    tx: &Tx<'_>,
    attachments: &[AttachmentId],
    bytes_max: u64,
) -> Result<Vec<StoredFile>, Fault> {
    let mut files = Vec::with_capacity(attachments.len());
    let mut total = 0_u64;
    for &id in attachments {
        let file = load_outgoing_file(tx, id)?;
        total = total.saturating_add(file.descriptor.sealed.pt_len);
        if !matches!(
            file.status,
            FileStatus::Staged | FileStatus::Uploading | FileStatus::Uploaded
        ) {
            let detail = format!("the content of the file {id} is no longer on this node");
            let next = "attach the original file again";
            return Err(Fault::refused_with_next(
                RefusalCode::NotFound,
                detail,
                next,
            ));
        }
        if file.status == FileStatus::Staged {
            files::advance(tx, file.id, FileStatus::Uploading, None)?;
        }
        files.push(file);
    }
    if total > bytes_max {
        let detail = format!("{total} bytes in total; the limit is {bytes_max}");
        return Err(Fault::refused(RefusalCode::FilesTooLarge, detail));
    }
    Ok(files)
}

/// Loads a file that can be sent.
///
/// # Errors
/// Refuses with `not_found`.
pub(crate) fn load_outgoing_file(tx: &Tx<'_>, id: AttachmentId) -> Result<StoredFile, Fault> {
    let attachment = attachments::load(tx, id)?;
    attachment
        .map(|attachment| attachment.file)
        .filter(|file| file.direction == Direction::Out)
        .ok_or_else(|| Fault::not_found("file", id))
}

/// Seals the rows that can be sent now, and returns the envelopes to submit after the commit: up to
/// `bytes_max` in total, or a single larger one.
pub fn seal_batch(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    bytes_max: usize,
) -> Result<Vec<SubmittedEnvelope>, Fault> {
    outbox::requeue_unconfirmed_accepts(tx)?;
    lost_blobs::respond_to_requests(tx)?;
    for connection in receipts::find_connections_with_receipts(tx)? {
        for receipt in receipts::remove_due(tx, connection)? {
            let uuid = MessageUuid::from_bytes(tx.random_bytes());
            let payload = Receipt::encode(&receipt);
            outbox::add_payload(tx, connection, Kind::RECEIPT, &uuid, &payload)?;
        }
    }
    // A connection that seals nothing does not count, so that connections with a broken session or
    // a pending file do not delay others.
    let mut sealed = 0;
    for connection in outbox::find_connections_to_seal(tx)? {
        sealed += usize::from(seal_connection(tx, identity, connection)?);
        if sealed == limits::CONNECTIONS_PER_SEAL_BATCH_MAX {
            break;
        }
    }
    outbox::load_due_envelopes(tx, limits::ENVELOPES_PER_REQUEST_MAX, bytes_max)
}

/// Seals the rows that can be sent to one connection. Returns whether any row was sealed.
fn seal_connection(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    connection: ConnectionId,
) -> Result<bool, Fault> {
    let waiting = outbox::load_waiting(tx, connection, limits::SEALED_PER_CONNECTION_MAX)?;
    let mut loaded = connections::load_secrets(tx, connection)?;
    if waits_for_session(tx, &loaded)? {
        return Ok(false);
    }
    let mut has_sealed = false;
    let mut are_messages_blocked = false;
    for row in waiting {
        let is_message = matches!(row.content, Content::Message(_));
        if (is_message && are_messages_blocked) || !is_ready(tx, &loaded, &row)? {
            are_messages_blocked |= is_message;
            continue;
        }
        match seal_row(tx, &mut loaded.secrets, row)? {
            Ok(()) => has_sealed = true,
            Err(SealRefusal::NotAccepted) => are_messages_blocked |= is_message,
            Err(SealRefusal::Broken) => {
                let why = "the session cannot encrypt messages: connect again with a new invite";
                connections::set_health(tx, connection, HealthState::Broken, Some(why))?;
                break;
            }
        }
    }
    if has_sealed {
        connections::save(tx, &mut loaded)?;
        healing::rotate_if_due(tx, identity, &loaded)?;
    }
    Ok(has_sealed)
}

/// Returns whether nothing can be sealed yet. After a restore there is no session. The session of
/// the pairing is about to be replaced, and everything would have to be sealed again in the new
/// one; if the first attempt to replace it fails, nothing waits for it any longer.
fn waits_for_session(tx: &Tx<'_>, loaded: &LoadedConnection) -> Result<bool, Fault> {
    let secrets = &loaded.secrets;
    Ok(secrets.sessions.current_id().is_none()
        || secrets.is_pairing_session()
            && relay_jobs::is_untried(tx, loaded.id.into(), JobKind::StartSession)?)
}

/// Returns whether a row can be sealed: the phase permits its kind, its files are uploaded, and the
/// mailbox that a pairing message announces exists at the relay and has prekeys.
fn is_ready(tx: &Tx<'_>, loaded: &LoadedConnection, row: &WaitingItem) -> Result<bool, Fault> {
    if !loaded.secrets.can_send(row.kind) {
        return Ok(false);
    }
    match (row.kind, &row.content) {
        (Kind::CONNECTION_REQUEST | Kind::CONNECTION_ACCEPT, _) => {
            relay_jobs::is_mailbox_ready(tx, loaded.id.into())
        }
        (_, Content::Message(message)) => are_files_uploaded(tx, *message),
        (_, Content::Payload(_)) => Ok(true),
    }
}

/// A message that is sent again may have a file that this node does not have any more. The message
/// must not wait for it.
fn are_files_uploaded(tx: &Tx<'_>, message: MessageRowId) -> Result<bool, Fault> {
    let attachments = attachments::load_for_message(tx, message)?;
    Ok(attachments.iter().all(|attachment| {
        matches!(
            attachment.file.status,
            FileStatus::Uploaded | FileStatus::Released
        )
    }))
}

fn seal_row(
    tx: &mut Tx<'_>,
    connection: &mut Connection,
    row: WaitingItem,
) -> Result<Result<(), SealRefusal>, Fault> {
    let body = match row.content {
        Content::Message(message) => encode_message(tx, message)?,
        Content::Payload(payload) => payload.to_vec(),
    };
    let outgoing = Outgoing {
        kind: row.kind,
        message_id: row.uuid,
        first_sealing: row.first_sealing,
        body,
    };
    let sealed = match connection.seal(&outgoing, tx.relay_now, tx.rng) {
        Ok(sealed) => sealed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let envelope_id = EnvelopeId::new(tx.relay_now, tx.random_bytes());
    outbox::set_sealed(tx, row.id, &sealed, envelope_id)?;
    Ok(Ok(()))
}

/// Encodes the payload of a message from its row and its files. Sealing again must give the same
/// plaintext, so all inputs are immutable after the message is stored.
fn encode_message(tx: &Tx<'_>, key: MessageRowId) -> Result<Vec<u8>, Fault> {
    let message = messages::load(tx, key)?;
    let payload = Message {
        author: Some(Author {
            name: message.author_name,
            avatar: None,
        }),
        content_type: match message.content_type {
            ContentType::Markdown => payload::ContentType::MARKDOWN,
            ContentType::Html => payload::ContentType::HTML,
            ContentType::Plain => payload::ContentType::PLAIN,
        },
        attachments: attachments::load_for_message(tx, key)?
            .into_iter()
            .map(|attachment| load_full_descriptor(tx, attachment.file))
            .collect::<Result<_, _>>()?,
        reply_to: message.reply_to,
        action_required: message.action_required,
        deliver_by: message.deliver_by,
        read_by: message.read_by,
        ..Message::text(message.content)
    };
    Ok(payload.encode())
}

fn load_full_descriptor(tx: &Tx<'_>, file: StoredFile) -> Result<Descriptor, Fault> {
    let preview = files::load_preview(tx, file.id)?;
    Ok(Descriptor {
        preview,
        ..file.descriptor
    })
}

/// Records the relay's response to a submission.
pub fn record_results(tx: &mut Tx<'_>, results: &[SubmitResult]) -> Result<(), Fault> {
    for result in results {
        let Some(row) = outbox::find_by_envelope(tx, &result.id)? else {
            continue;
        };
        let random = tx.rng.next_u64();
        match submission::evaluate(&result.outcome, row.refusals, tx.now, random) {
            SubmissionResult::Accepted { expires_at } => record_accepted(tx, &row, expires_at)?,
            SubmissionResult::Retry {
                at,
                reason,
                mailbox_unknown_since,
            } => {
                outbox::postpone(tx, row.id, at, mailbox_unknown_since)?;
                if let Some(key) = row.delivery() {
                    deliveries::set_waiting_reason(tx, key, &reason, Some(at))?;
                }
            }
            SubmissionResult::Failed(code) => {
                outbox::remove(tx, row.id)?;
                inbox::record_failed_item(tx, &row, code)?;
                if let Some(key) = row.delivery() {
                    let change = StatusChange {
                        code: Some(code),
                        ..StatusChange::default()
                    };
                    deliveries::advance(tx, key, DeliveryStatus::Failed, &change)?;
                }
            }
        }
    }
    Ok(())
}

fn record_accepted(
    tx: &mut Tx<'_>,
    row: &SubmittedItem,
    expires_at: Option<Timestamp>,
) -> Result<(), Fault> {
    connections::clear_closed_by_partner(tx, row.connection)?;
    let wait_for_receipt = if row.kind == Kind::CONNECTION_ACCEPT {
        limits::ACCEPT_RETRY_INTERVAL
    } else {
        limits::RECEIPT_QUERY_INTERVAL
    };
    outbox::set_accepted(tx, row, tx.now.plus(wait_for_receipt))?;
    if let Some(key) = row.delivery() {
        deliveries::advance(tx, key, DeliveryStatus::Sent, &StatusChange::default())?;
        // The relay reports no expiry for a duplicate. An envelope submitted now would not expire
        // earlier.
        let expires_at =
            expires_at.unwrap_or_else(|| tx.relay_now.plus(limits::ENVELOPE_LIFETIME_DEFAULT));
        deliveries::set_expiry(tx, key, expires_at)?;
        let until = expires_at.plus(limits::BLOB_LIFETIME_AFTER_MESSAGE);
        files::request_extension(tx, key.message, until)?;
    }
    Ok(())
}

/// Stores why pending messages wait while the relay does not respond.
pub fn record_unreachable(tx: &Tx<'_>, reason: &str, next_at: Timestamp) -> Result<(), Fault> {
    deliveries::find_pending(tx, REASON_UPDATES_MAX)?
        .into_iter()
        .try_for_each(|key| deliveries::set_waiting_reason(tx, key, reason, Some(next_at)))
}

/// Maximum number of pending deliveries that get a reason in one transaction.
const REASON_UPDATES_MAX: i64 = 1_000;

#[cfg(test)]
mod tests;
