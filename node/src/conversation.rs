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
    ChatId, ContentType, Direction, DisplayPosition, MessageId, MessageUuid, UserId, read_up_to,
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
        seq: 0,
        files: 0,
    };
    let id = postings::insert(tx, &posting)?;
    events::add(tx, Subject::Message(id))?;
    Ok(id)
}

/// Marks a message as read, together with the earlier messages of its chat ([`read_up_to`]). Queues
/// read receipts for messages that are read for the first time. Returns the number of messages that
/// were unread before.
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
        postings::load_display_positions_after(tx, id.chat, from)?,
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
        postings::load_display_positions_after(tx, chat, from)?,
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
mod tests {
    use super::*;
    use crate::testing::{Pair, connected_pair, settle};
    use sealpost_proto::DeliveryStatus;

    fn read(pair: &mut Pair, id: MessageId) -> u64 {
        pair.bolt.step(|tx, _| mark_read(tx, UserId::FIRST, id))
    }

    fn receipts_due(pair: &Pair) -> i64 {
        pair.bolt.query_number("SELECT count(*) FROM receipts_due")
    }

    #[test]
    fn earlier_messages_become_read_too() {
        let mut pair = connected_pair(240);
        let sent = ["one", "two", "three"].map(|text| pair.acme.send(pair.to_bolt, text));
        settle(&mut pair.acme, &mut pair.bolt);
        let received: Vec<_> = pair
            .bolt
            .received()
            .iter()
            .map(|posting| posting.id)
            .collect();
        assert_eq!(read(&mut pair, received[1]), 2);
        assert_eq!(receipts_due(&pair), 2);
        let is_read: Vec<_> = pair
            .bolt
            .received()
            .iter()
            .map(|posting| posting.is_read)
            .collect();
        assert_eq!(is_read, [true, true, false]);
        settle(&mut pair.bolt, &mut pair.acme);
        let statuses = sent.map(|message| pair.acme.delivery(&message).status);
        let expected = [
            DeliveryStatus::Read,
            DeliveryStatus::Read,
            DeliveryStatus::Delivered,
        ];
        assert_eq!(statuses, expected);
    }

    #[test]
    fn read_receipts_are_sent_once() {
        let mut pair = connected_pair(245);
        let message = pair.acme.send(pair.to_bolt, "hello");
        settle(&mut pair.acme, &mut pair.bolt);
        let arrived = pair.bolt.received().remove(0).id;
        assert_eq!(read(&mut pair, arrived), 1);
        assert_eq!(read(&mut pair, arrived), 0);
        assert_eq!(receipts_due(&pair), 1);
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Read);
        // Moves the position back, as a future "mark as unread" does.
        pair.bolt.sql("DELETE FROM read_positions");
        assert_eq!(read(&mut pair, arrived), 1);
        assert_eq!(receipts_due(&pair), 0);
    }

    #[test]
    fn own_messages_are_not_reported() {
        let mut pair = connected_pair(248);
        let own = pair.bolt.send(pair.to_acme, "hello");
        assert_eq!(read(&mut pair, own), 0);
        assert_eq!(receipts_due(&pair), 0);
    }
}
