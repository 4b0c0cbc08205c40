//! From rows to the shapes of the local API.

use super::{
    iso::Iso,
    model::{
        Attachment, Audit, Chat, ChatType, Connection, DangerMark, Delivery, Direction, Health,
        Identity, Invite, ListedAttachment, Message, Participant, ParticipantStatus, Sender, Stamp,
        Visibility,
    },
};
use crate::store::{attachments, chats, connections, deliveries, invites, messages};
use sealpost_node_core::{file_type::FileType, filename::FileName, markdown};
use std::fmt::Write as _;

/// The media type of Markdown.
pub const MARKDOWN: &str = "text/markdown";
/// The media type of HTML.
pub const HTML: &str = "text/html";

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A delivery.
#[must_use]
pub fn delivery(row: &deliveries::Delivery) -> Delivery {
    Delivery {
        message: row.message.clone(),
        connection: row.connection.clone(),
        contact: row.contact.clone(),
        status: row.status,
        healing: row.healing,
        code: row.code.map(|code| code.as_str().to_owned()),
        reason: row.reason.clone(),
        advice: row.code.map(|code| code.advice().to_owned()),
        attempts: row.attempts,
        next_attempt_at: row.next_attempt_at.map(Iso),
        pending_at: Iso(row.pending_at),
        sent_at: row.sent_at.map(Iso),
        delivered_at: row.delivered_at.map(Iso),
        read_at: row.read_at.map(Iso),
        failed_at: row.failed_at.map(Iso),
    }
}

/// A file.
#[must_use]
pub fn attachment(row: &attachments::Attachment) -> Attachment {
    let name = FileName::from_remote(&row.descriptor.name);
    let claim = FileType::claimed(&row.descriptor.mime, &row.descriptor.name);
    let file_type = row.file_type.clone().unwrap_or_else(|| claim.clone());
    let claimed_type = (claim.content_type != file_type.content_type).then_some(claim.content_type);
    Attachment {
        id: row.name.clone(),
        direction: row.direction,
        filename: name.as_str().to_owned(),
        safe_name: name.safe_name(),
        content_type: file_type.content_type,
        claimed_type,
        dangers: file_type
            .dangers
            .into_iter()
            .map(|code| DangerMark {
                code,
                reason: code.reason().to_owned(),
            })
            .collect(),
        has_preview: row.has_preview,
        size: row.descriptor.sealed.pt_len,
        status: row.status,
        transferred: row.transferred.min(row.descriptor.sealed.pt_len),
        reason: row.reason.clone(),
    }
}

/// A file with the messages that it belongs to.
#[must_use]
pub fn listed_attachment(row: &attachments::Listed) -> ListedAttachment {
    ListedAttachment {
        attachment: attachment(&row.file),
        message: row.messages.first().map(|(message, _)| message.clone()),
        contacts: row
            .messages
            .iter()
            .map(|(_, contact)| contact.clone())
            .collect(),
        message_count: row.message_count,
        created_at: Iso(row.created_at),
    }
}

/// A connection.
#[must_use]
pub fn connection(row: &connections::ConnectionRow) -> Connection {
    Connection {
        id: row.name.clone(),
        contact: row.contact.clone(),
        note: row.note.clone(),
        status: row.status,
        direction: row.direction,
        fingerprint: hex(&row.fingerprint),
        verified: row.verified,
        chat: row.chat.clone(),
        health: Health {
            state: row.health,
            reason: row.health_reason.clone(),
            last_contact_at: row.last_contact_at.map(Iso),
        },
        relay: row.relay.clone(),
        created_at: Iso(row.created_at),
        updated_at: Iso(row.updated_at),
    }
}

/// An invite; its URL only for the one who just made it.
#[must_use]
pub fn invite(row: &invites::InviteRow, with_url: bool) -> Invite {
    Invite {
        id: row.name.clone(),
        kind: row.kind,
        url: with_url.then(|| row.held.invite.encode_link().to_string()),
        status: row.status,
        auto_accept: row.auto_accept,
        expires_at: row.expires_at.map(Iso),
        created_at: Iso(row.created_at),
    }
}

/// A message with its files and, when it is ours, where it is for each recipient.
#[must_use]
pub fn message(
    row: &messages::Message,
    files: &[attachments::Attachment],
    on_the_way: &[deliveries::Delivery],
    own_name: &str,
) -> Message {
    let content_html = match row.content_type.as_str() {
        HTML => markdown::sanitise_html(&row.content),
        _ => markdown::to_html(&row.content),
    };
    let contact = match row.direction {
        Direction::In => row.contact.clone(),
        Direction::Out => own_name.to_owned(),
    };
    let created = row.received_at.unwrap_or(row.sent_at);
    Message {
        id: row.name.clone(),
        uuid: row.uuid.to_string(),
        chat: row.chat.clone(),
        direction: row.direction,
        sender: Sender {
            name: row.sender_name.clone(),
            contact: contact.clone(),
        },
        content: row.content.clone(),
        content_type: row.content_type.clone(),
        content_html,
        visibility: Visibility::Public,
        is_deleted: false,
        attachments: files.iter().map(attachment).collect(),
        reply_to: row.reply_to.clone(),
        action_required: row.action_required,
        deliver_by: row.deliver_by.map(Iso),
        read_by: row.read_by.map(Iso),
        is_read: row.direction == Direction::Out || row.read_at.is_some(),
        sent_at: Iso(row.sent_at),
        received_at: row.received_at.map(Iso),
        delivery: on_the_way.iter().map(delivery).collect(),
        revision: row.revision,
        audit: Audit {
            created: Stamp {
                at: Iso(created),
                by: Some(contact),
            },
            updated: Stamp {
                at: Iso(row.updated_at),
                by: None,
            },
        },
    }
}

/// A conversation with the two who take part.
#[must_use]
pub fn chat(
    row: &chats::Chat,
    participants: &[chats::Participant],
    peer: &connections::ConnectionRow,
    own: (&str, &[u8; 32]),
) -> Chat {
    let show = |participant: &chats::Participant| {
        let (contact, fingerprint, verified) = if participant.is_self {
            (own.0.to_owned(), hex(own.1), true)
        } else {
            (peer.contact.clone(), hex(&peer.fingerprint), peer.verified)
        };
        Participant {
            id: participant.name.clone(),
            chat: row.name.clone(),
            status: ParticipantStatus::Active,
            contact,
            is_self: participant.is_self,
            identity: Identity {
                fingerprint,
                verified,
            },
        }
    };
    Chat {
        id: row.name.clone(),
        uuid: sealpost_proto::b64::encode(&row.uuid),
        chat_type: ChatType::Direct,
        name: peer.contact.clone(),
        active: row.active,
        connection: row.connection.clone(),
        participants: participants.iter().map(show).collect(),
        last_message: row.last_message.clone(),
        unread: row.unread,
        message_count: row.messages,
        attachment_count: row.attachments,
        error_count: row.errors,
        revision: row.revision,
        audit: Audit {
            created: Stamp {
                at: Iso(row.created_at),
                by: None,
            },
            updated: Stamp {
                at: Iso(row.updated_at),
                by: None,
            },
        },
    }
}
