//! Conversion of stored rows to the JSON shapes of the local API.

use super::{
    iso::Iso,
    model::{
        Attachment, AttachmentListItem, Audit, Chat, ChatType, Connection, DangerMark,
        DatedWarning, Delivery, Direction, Health, Identity, Invite, Message, Participant, Sender,
        Stamp, Transfer, TransferState, Visibility, Warning,
    },
};
use crate::{
    hex, progress,
    store::{
        attachments, chats, connections, deliveries,
        files::{ListedFile, StoredFile},
        invites,
        messages::MessageAuthor,
        postings,
    },
};
use sealpost_node_core::{
    file_type::FileType,
    filename::FileName,
    model::{AttachmentId, ConnectionWarning, NodeWarning},
};
use sealpost_proto::Timestamp;

/// Renders a delivery.
pub(super) fn delivery(row: &deliveries::Delivery) -> Delivery {
    Delivery {
        message: row.posting.to_string(),
        connection: row.key.connection.to_string(),
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

/// Renders a file under its first use, or as it was staged.
pub(super) fn file(row: &StoredFile) -> Attachment {
    attachment(row.attachment, row)
}

/// Renders a file as one message uses it.
pub(super) fn attachment(id: AttachmentId, row: &StoredFile) -> Attachment {
    let name = FileName::from_remote(&row.descriptor.name);
    let claim = FileType::from_claim(&row.descriptor.mime, &row.descriptor.name);
    let file_type = row.file_type.clone().unwrap_or_else(|| claim.clone());
    let claimed_type = (claim.content_type != file_type.content_type).then_some(claim.content_type);
    Attachment {
        id: id.to_string(),
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

/// Renders a file with the messages that use it.
pub(super) fn attachment_list_item(row: &ListedFile) -> AttachmentListItem {
    AttachmentListItem {
        attachment: file(&row.file),
        message: row.messages.first().map(|(message, _)| message.to_string()),
        contacts: row
            .messages
            .iter()
            .map(|(_, contact)| contact.clone())
            .collect(),
        message_count: row.message_count,
        created_at: Iso(row.created_at),
    }
}

/// Renders a connection.
pub(super) fn connection(row: &connections::ConnectionRow) -> Connection {
    Connection {
        id: row.id.to_string(),
        contact: row.contact.clone(),
        note: row.note.clone(),
        status: row.status,
        direction: row.direction,
        fingerprint: hex::encode(&row.fingerprint),
        verified: row.verified,
        chat: row.chat.map(|chat| chat.to_string()),
        health: Health {
            state: row.health,
            reason: row.health_reason.clone(),
            last_contact_at: row.last_contact_at.map(Iso),
        },
        warning: row.warning.map(warning),
        relay: row.relay.clone(),
        created_at: Iso(row.created_at),
        updated_at: Iso(row.updated_at),
    }
}

/// Renders a warning about this node.
pub(super) fn node_warning(code: NodeWarning, at: Timestamp) -> DatedWarning {
    let text = match code {
        NodeWarning::SecondNode => {
            "a second copy of this node is running and takes messages from it, or a snapshot of \
             this machine was restored while the node was running. If another copy of this node \
             runs, stop it. If you restored a snapshot, no other copy runs. Then run: sealpost \
             recover. If neither applies, the data directory may have been stolen: see \
             docs/SECURITY.md."
        }
        NodeWarning::RolledBack => {
            "this node was started with an older copy of its data. It starts new sessions and \
             requests from all partners what is missing here. Messages that it had sent since the \
             copy was made are not in the copy, but their recipients have them. Tell your partners \
             to expect a warning, and compare the safety numbers again. If nobody restored a copy \
             or a snapshot, see docs/SECURITY.md."
        }
    };
    DatedWarning {
        code,
        text: text.to_owned(),
        at: Iso(at),
    }
}

fn warning(code: ConnectionWarning) -> Warning {
    let text = match code {
        ConnectionWarning::OtherIdentity => {
            "somebody with another identity tried to continue this connection. Sending is \
             suspended. Ask the partner, for example by telephone. To resume with the identity \
             that you know, acknowledge the warning. To end the connection, block it."
        }
        ConnectionWarning::Reset => {
            "the partner's node started a session that does not continue the earlier one, as after \
             a restore or in an attack. Compare the safety number."
        }
        ConnectionWarning::Forked => {
            "the partner's node was rolled back to an older state, or a second copy of it is \
             running. Ask the partner, for example by telephone. If two copies are running, the \
             partner has to stop one of them. Then acknowledge the warning."
        }
        ConnectionWarning::RolledBack => {
            "the partner has received more than this node has sent: this node was rolled back to \
             an older copy of its data, or a second copy of it is running. If another copy of this \
             node runs, stop it. If you restored a copy or a snapshot, no other copy runs. Then \
             run: sealpost recover. If neither applies, see docs/SECURITY.md."
        }
        ConnectionWarning::ManyRepairs => {
            "the session had to be replaced many times in a day, as when two copies of a node are \
             running. Make sure that only one copy of this node runs, and ask the partner to do \
             the same. Then acknowledge the warning."
        }
    };
    Warning {
        code,
        text: text.to_owned(),
    }
}

/// Renders an invite. Its URL, a secret, is only in the response to its creation.
pub(super) fn invite(row: &invites::InviteRow, with_url: bool) -> Invite {
    Invite {
        id: row.id.to_string(),
        kind: row.kind,
        url: with_url.then(|| row.issued.invite.encode_link().to_string()),
        status: row.status,
        auto_accept: row.auto_accept,
        expires_at: row.expires_at.map(Iso),
        created_at: Iso(row.created_at),
        refused_requests: row.refused_requests,
    }
}

/// Renders a message as one chat shows it, with its files and, for an outgoing one, its deliveries,
/// but without its HTML.
pub(super) fn message(
    posting: &postings::Posting,
    files: &[attachments::Attachment],
    deliveries: &[deliveries::Delivery],
    own_name: &str,
) -> Message {
    let row = &posting.message;
    let contact = match posting.direction {
        Direction::In => posting.contact.clone(),
        Direction::Out => own_name.to_owned(),
    };
    let created = row.received_at.unwrap_or(row.sent_at);
    Message {
        id: posting.id.to_string(),
        uuid: row.uuid.to_string(),
        chat: posting.id.chat.to_string(),
        direction: posting.direction,
        is_system: row.author == MessageAuthor::System,
        is_late: posting.position.is_late(),
        sender: Sender {
            name: row.author_name.clone(),
            contact: contact.clone(),
        },
        content: row.content.clone(),
        content_type: row.content_type.to_string(),
        content_html: None,
        visibility: Visibility::Public,
        is_deleted: false,
        attachments: files
            .iter()
            .map(|used| attachment(used.id, &used.file))
            .collect(),
        reply_to: posting.reply_to.map(|id| id.to_string()),
        action_required: row.action_required,
        deliver_by: row.deliver_by.map(Iso),
        read_by: row.read_by.map(Iso),
        is_read: posting.is_read,
        sent_at: Iso(row.sent_at),
        received_at: row.received_at.map(Iso),
        deliveries: deliveries.iter().map(delivery).collect(),
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

/// Renders the progress of a transfer.
pub(super) fn transfer(report: &progress::Transfer) -> Transfer {
    Transfer {
        attachment: report.attachment.to_string(),
        direction: report.direction,
        bytes: report.bytes,
        total: report.total,
        bytes_per_second: report.bytes_per_second,
        state: match report.state {
            progress::TransferState::Moving => TransferState::Moving,
            progress::TransferState::Done => TransferState::Done,
            progress::TransferState::Stopped => TransferState::Stopped,
        },
    }
}

/// Renders a chat with its participants.
pub(super) fn chat(
    row: &chats::Chat,
    participants: &[chats::Participant],
    peer: &connections::ConnectionRow,
    own: (&str, &[u8; 32]),
) -> Chat {
    let render_participant = |participant: &chats::Participant| {
        let (contact, fingerprint, verified) = if participant.is_self {
            (own.0.to_owned(), hex::encode(own.1), true)
        } else {
            (
                peer.contact.clone(),
                hex::encode(&peer.fingerprint),
                peer.verified,
            )
        };
        Participant {
            id: participant.id.to_string(),
            chat: row.id.to_string(),
            status: participant.status,
            contact,
            is_self: participant.is_self,
            identity: Identity {
                fingerprint,
                verified,
            },
        }
    };
    Chat {
        id: row.id.to_string(),
        uuid: sealpost_proto::b64::encode(&row.uuid),
        chat_type: ChatType::Direct,
        name: peer.contact.clone(),
        active: row.active,
        connection: row.connection.to_string(),
        participants: participants.iter().map(render_participant).collect(),
        last_message: row.last_message().map(|id| id.to_string()),
        unread: row.unread,
        message_count: row.last_number,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::files,
        testing::{TestNode, connected_pair, settle},
    };
    use sealpost_node_core::file_type::Danger;

    #[test]
    fn detected_type_replaces_the_claimed_one() {
        let mut pair = connected_pair(266);
        let staged = [pair.acme.stage_with(10, "photo.jpg", "image/jpeg", None)];
        pair.acme.send_files(pair.to_bolt, "", &staged);
        pair.acme.record_uploaded(staged[0]);
        settle(&mut pair.acme, &mut pair.bolt);
        let message = pair.bolt.received().remove(0).id.to_string();
        let listed = files::Filter {
            limit: 9,
            ..files::Filter::default()
        };
        let render = |node: &mut TestNode| {
            attachment_list_item(&node.step(|tx, _| files::load_page(tx, &listed))[0])
        };
        let claimed = render(&mut pair.bolt);
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
        let id = pair.bolt.received_files().remove(0).id;
        let program = FileType::detect(b"MZ\x90\0\x03\0\0\0\x04\0", 10, "photo.jpg");
        pair.bolt
            .step(|tx, _| files::set_file_type(tx, id, &program));
        let detected = render(&mut pair.bolt).attachment;
        assert_eq!(
            detected.content_type,
            "application/vnd.microsoft.portable-executable"
        );
        assert_eq!(detected.claimed_type.as_deref(), Some("image/jpeg"));
        assert_eq!(
            detected
                .dangers
                .iter()
                .map(|danger| danger.code)
                .collect::<Vec<_>>(),
            [Danger::Executable]
        );
    }
}
