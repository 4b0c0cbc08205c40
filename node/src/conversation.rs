//! User actions in chats, and system messages.

use crate::{
    fault::Fault,
    store::{
        Tx, chats,
        events::{self, Subject},
        messages::{self, MessageAuthor},
        postings, receipts,
    },
};
use sealpost_e2ee::payload::ReceiptKind;
use sealpost_node_core::model::{
    ChatId, ContentType, Direction, DisplayPosition, MessageId, MessageUuid, SenderPosition,
    UserId, read_up_to,
};

/// Name of the author of system messages.
const SYSTEM_NAME: &str = "Sealpost";

/// Adds a message of this node itself to a chat. It is unread until a user reads it, and nobody else
/// sees it.
pub(crate) fn add_system_message(
    tx: &mut Tx<'_>,
    chat: ChatId,
    text: &str,
) -> Result<MessageId, Fault> {
    let new = messages::NewMessage {
        uuid: MessageUuid::from_bytes(tx.random_bytes()),
        author: MessageAuthor::System,
        author_name: SYSTEM_NAME,
        content: text,
        content_type: ContentType::Plain,
        action_required: false,
        reply_to: None,
        deliver_by: None,
        read_by: None,
        sent_at: tx.now,
    };
    let posting = postings::NewPosting {
        chat,
        message: messages::insert(tx, &new)?,
        direction: Direction::In,
        sender: SenderPosition::OWN,
        files: 0,
    };
    let id = postings::insert(tx, &posting)?;
    events::add(tx, Subject::Message(id))?;
    Ok(id)
}

/// Marks a message as read, together with those that its chat shows above it ([`read_up_to`]).
/// Queues read receipts for messages that are read for the first time. Returns the number of
/// messages that were unread before.
///
/// # Errors
/// Refuses with `not_found`.
pub fn mark_read(tx: &Tx<'_>, user: UserId, id: MessageId) -> Result<u64, Fault> {
    let Some(message) = postings::load_display_position(tx, id)? else {
        return Err(Fault::not_found("message", id));
    };
    report_read(tx, id.chat, message)?;
    let from = chats::load_read_position(tx, user, id.chat)?;
    let to = read_up_to(
        from,
        message,
        postings::load_incoming_positions_after(tx, id.chat, from)?,
    );
    if to == from {
        return Ok(0);
    }
    chats::set_read_position(tx, user, id.chat, to)?;
    let read = postings::load_incoming_between(tx, id.chat, from, to)?;
    for message in &read {
        events::add(tx, Subject::Message(message.id))?;
    }
    Ok(read.len() as u64)
}

/// Queues read receipts. The reported position is stored apart from the read position, because a
/// user may mark messages as unread, but a receipt must not be sent twice.
fn report_read(tx: &Tx<'_>, chat: ChatId, message: DisplayPosition) -> Result<(), Fault> {
    let from = chats::load_reported_position(tx, chat)?;
    let to = read_up_to(
        from,
        message,
        postings::load_incoming_positions_after(tx, chat, from)?,
    );
    if to == from {
        return Ok(());
    }
    chats::set_reported_position(tx, chat, to)?;
    postings::load_incoming_between(tx, chat, from, to)?
        .into_iter()
        .filter(|message| !message.is_system)
        .try_for_each(|message| {
            receipts::add(tx, message.connection, &message.uuid, ReceiptKind::READ)
        })
}

#[cfg(test)]
mod tests;
