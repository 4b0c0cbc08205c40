//! The defects of the node's mutants, applied inside a transaction.

use crate::fault::Mutant;
use sealpost_e2ee::plaintext::Kind;
use sealpost_node::{
    api::model::Direction,
    fault::Fault,
    store::{Tx, messages},
};
use sealpost_proto::MessageId;

/// Applies a mutant at the end of a transaction. Messages after position `seen_position` are new;
/// `roll` is a random number from 0 to 999.
pub(crate) fn apply_mutant(
    tx: &mut Tx<'_>,
    mutant: Mutant,
    seen_position: i64,
    roll: u64,
) -> Result<(), Fault> {
    match mutant {
        Mutant::NodeForgetsSeenIds => {
            run(tx, "DELETE FROM seen").and_then(|()| run(tx, "DELETE FROM message_ids"))
        }
        Mutant::NodeLosesReceipts if roll < 300 => run(tx, "DELETE FROM receipts_due"),
        Mutant::NodeReportsDeliveryEarly => run(
            tx,
            "UPDATE deliveries SET status = 'delivered' WHERE status = 'sent'",
        ),
        Mutant::NodeRevertsStatus if roll < 300 => run(
            tx,
            "UPDATE deliveries SET status = 'sent' WHERE status = 'delivered'",
        ),
        Mutant::NodeDuplicatesMessage if roll < 300 => duplicate_message(tx, seen_position),
        Mutant::NodeAltersMessage if roll < 300 => alter_message(tx, seen_position),
        Mutant::NodeNeverExpiresMessages => run(tx, "UPDATE deliveries SET expires_at = NULL"),
        Mutant::NodeReopensInvites => run(tx, "UPDATE invites SET status = 'open'"),
        Mutant::NodeDropsRejections => tx
            .execute(
                "DELETE FROM outbox WHERE kind = ?1",
                &[&Kind::CONNECTION_REJECT.0],
            )
            .map(|_| ()),
        _ => Ok(()),
    }
}

fn run(tx: &Tx<'_>, sql: &str) -> Result<(), Fault> {
    tx.execute(sql, &[]).map(|_| ())
}

fn newest(tx: &Tx<'_>, seen_position: i64) -> Result<Option<messages::Message>, Fault> {
    let filter = messages::Filter {
        after: Some(seen_position),
        direction: Some(Direction::In),
        limit: 1,
        ..messages::Filter::default()
    };
    Ok(messages::page(tx, &filter)?.pop())
}

fn duplicate_message(tx: &mut Tx<'_>, seen_position: i64) -> Result<(), Fault> {
    let Some(message) = newest(tx, seen_position)? else {
        return Ok(());
    };
    let mut uuid = [0; 16];
    tx.rng.fill_bytes(&mut uuid);
    let again = messages::NewMessage {
        chat: &message.chat,
        uuid: MessageId::from_bytes(uuid),
        direction: Direction::In,
        kind: 1,
        sender_name: &message.sender_name,
        content: &message.content,
        content_type: &message.content_type,
        seq: None,
        action_required: false,
        reply_to: None,
        deliver_by: None,
        read_by: None,
        sent_at: message.sent_at,
    };
    messages::insert(tx, &again).map(|_| ())
}

fn alter_message(tx: &mut Tx<'_>, seen_position: i64) -> Result<(), Fault> {
    let Some(message) = newest(tx, seen_position)? else {
        return Ok(());
    };
    let content = tx.seal(
        "messages",
        message.name.as_bytes(),
        "content",
        1,
        b"something else",
    );
    tx.execute(
        "UPDATE messages SET content = ?2 WHERE ref = ?1",
        &[&message.name, &content],
    )
    .map(|_| ())
}
