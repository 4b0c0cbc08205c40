//! What users do in chats.

use crate::{
    fault::Fault,
    store::{
        Tx, chats,
        events::{self, Subject},
        postings, receipts,
    },
};
use sealpost_e2ee::payload::ReceiptKind;
use sealpost_node_core::model::{ChatId, Displayed, MessageId, UserId, read_up_to};

/// Marks a message as read, and with it everything that its chat shows up to it. Reports to the
/// peer what is read for the first time. Returns how many messages became read.
///
/// # Errors
/// Refuses with `not_found`.
pub fn mark_read(tx: &Tx<'_>, user: UserId, id: MessageId) -> Result<u64, Fault> {
    let Some(message) = postings::displayed(tx, id)? else {
        return Err(Fault::not_found("message", id));
    };
    report_read(tx, id.chat, message)?;
    let from = chats::read_position(tx, user, id.chat)?;
    let to = read_up_to(from, message, postings::displayed_above(tx, id.chat, from)?);
    if to == from {
        return Ok(0);
    }
    chats::set_read_position(tx, user, id.chat, to)?;
    let read = postings::incoming_between(tx, id.chat, from, to)?;
    for message in &read {
        events::add(tx, Subject::Message(message.id))?;
    }
    Ok(read.len() as u64)
}

/// Queues read receipts. What was reported is stored apart from the read position, because a user
/// may mark messages as unread while a receipt must not be sent twice.
fn report_read(tx: &Tx<'_>, chat: ChatId, message: Displayed) -> Result<(), Fault> {
    let from = chats::read_reported(tx, chat)?;
    let to = read_up_to(from, message, postings::displayed_above(tx, chat, from)?);
    if to == from {
        return Ok(());
    }
    chats::set_read_reported(tx, chat, to)?;
    for message in postings::incoming_between(tx, chat, from, to)? {
        receipts::add(tx, message.connection, &message.uuid, ReceiptKind::READ)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pair, pair, settle};
    use sealpost_proto::DeliveryStatus;

    fn read(pair: &mut Pair, id: MessageId) -> u64 {
        pair.bolt.step(|tx, _| mark_read(tx, UserId::FIRST, id))
    }

    fn receipts_due(pair: &Pair) -> i64 {
        pair.bolt.number("SELECT count(*) FROM receipts_due")
    }

    #[test]
    fn reading_reads_the_chat_up_to_the_message() {
        let mut pair = pair(240);
        let sent = ["one", "two", "three"].map(|text| pair.acme.send(pair.to_bolt, text));
        settle(&mut pair.acme, &mut pair.bolt);
        let arrived: Vec<_> = pair
            .bolt
            .arrived()
            .iter()
            .map(|posting| posting.id)
            .collect();
        assert_eq!(read(&mut pair, arrived[1]), 2);
        assert_eq!(receipts_due(&pair), 2);
        let is_read: Vec<_> = pair
            .bolt
            .arrived()
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
    fn reading_is_reported_once() {
        let mut pair = pair(245);
        let message = pair.acme.send(pair.to_bolt, "hello");
        settle(&mut pair.acme, &mut pair.bolt);
        let arrived = pair.bolt.arrived().remove(0).id;
        assert_eq!(read(&mut pair, arrived), 1);
        assert_eq!(read(&mut pair, arrived), 0);
        assert_eq!(receipts_due(&pair), 1);
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Read);
        // As after "mark as unread", which is to come: the position moves back.
        pair.bolt.sql("DELETE FROM read_positions");
        assert_eq!(read(&mut pair, arrived), 1);
        assert_eq!(receipts_due(&pair), 0);
    }

    #[test]
    fn own_messages_are_not_reported() {
        let mut pair = pair(248);
        let own = pair.bolt.send(pair.to_acme, "hello");
        assert_eq!(read(&mut pair, own), 0);
        assert_eq!(receipts_due(&pair), 0);
    }
}
