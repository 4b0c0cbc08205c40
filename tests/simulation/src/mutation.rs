//! The defects of the node's mutants, applied inside a transaction.

use crate::fault::Mutant;
use sealpost_e2ee::plaintext::Kind;
use sealpost_node::{
    fault::Fault,
    store::{
        Tx,
        messages::{self, MessageAuthor},
        outbox,
        postings::{self, Posting},
    },
};
use sealpost_node_core::model::{ContentType, Direction, MessageUuid, SenderPosition};
use sealpost_proto::{limits, wire::SubmittedEnvelope};
use std::time::Duration;

/// Applies a mutant at the end of a transaction. Messages after `last_seen` are new;
/// `roll` is a random number from 0 to 999.
pub(crate) fn apply_mutant(
    tx: &mut Tx<'_>,
    mutant: Mutant,
    last_seen: Option<postings::Cursor>,
    roll: u64,
) -> Result<(), Fault> {
    match mutant {
        Mutant::NodeForgetsSeenIds => execute(tx, "DELETE FROM opened_digests")
            .and_then(|()| execute(tx, "DELETE FROM received_uuids")),
        Mutant::NodeLosesReceipts if roll < 300 => execute(tx, "DELETE FROM receipts_due"),
        Mutant::NodeReportsDeliveryEarly => execute(
            tx,
            "UPDATE deliveries SET status = 'delivered' WHERE status = 'sent'",
        ),
        Mutant::NodeRevertsStatus if roll < 300 => execute(
            tx,
            "UPDATE deliveries SET status = 'sent' WHERE status = 'delivered'",
        ),
        Mutant::NodeDuplicatesMessage if roll < 300 => duplicate_message(tx, last_seen),
        Mutant::NodeAltersMessage if roll < 300 => alter_message(tx, last_seen),
        Mutant::NodeNeverExpiresMessages => execute(tx, "UPDATE deliveries SET expires_at = NULL"),
        Mutant::NodeReopensInvites => execute(tx, "UPDATE invites SET status = 'open'"),
        Mutant::NodeDropsRejections => tx
            .execute(
                "DELETE FROM outbox WHERE kind = ?1",
                &[&Kind::CONNECTION_REJECT.0],
            )
            .map(|_| ()),
        Mutant::NodeSendsNothingAgain => execute(
            tx,
            "UPDATE outbox SET state = 'accepted' WHERE state = 'waiting' AND sent_at IS NOT NULL",
        ),
        Mutant::NodeRepeatsNoReceipts => {
            let recent = tx.now.minus(RECEIPT_AGE_MAX).as_millis();
            tx.execute("DELETE FROM receipts_due WHERE at < ?1", &[&recent])
                .map(|_| ())
        }
        Mutant::NodeIgnoresResume => execute(
            tx,
            "UPDATE outbox SET state = 'confirmed' WHERE state = 'waiting' AND EXISTS
                 (SELECT 1 FROM deliveries d WHERE d.message = outbox.message
                  AND d.connection = outbox.connection AND d.status IN ('delivered', 'read'))",
        ),
        _ => Ok(()),
    }
}

/// Age of the messages whose receipts are repetitions.
const RECEIPT_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Returns the envelopes that are due on their own, even if an earlier one of the same connection is
/// not.
pub(crate) fn load_each_due(tx: &Tx<'_>) -> Result<Vec<SubmittedEnvelope>, Fault> {
    let postpone = "UPDATE outbox SET state = 'postponed' WHERE state = 'sealed' AND next_at > ?1";
    tx.execute(postpone, &[&tx.now.as_millis()])?;
    let due = outbox::load_due_envelopes(
        tx,
        limits::ENVELOPES_PER_REQUEST_MAX,
        limits::DELIVERY_BATCH_BYTES_MAX,
    )?;
    execute(
        tx,
        "UPDATE outbox SET state = 'sealed' WHERE state = 'postponed'",
    )?;
    Ok(due)
}

fn execute(tx: &Tx<'_>, sql: &str) -> Result<(), Fault> {
    tx.execute(sql, &[]).map(|_| ())
}

fn load_newest(tx: &Tx<'_>, last_seen: Option<postings::Cursor>) -> Result<Option<Posting>, Fault> {
    let filter = postings::Filter {
        after: last_seen,
        direction: Some(Direction::In),
        limit: 1,
        ..postings::Filter::default()
    };
    Ok(postings::load_page(tx, &filter)?.pop())
}

fn duplicate_message(tx: &mut Tx<'_>, last_seen: Option<postings::Cursor>) -> Result<(), Fault> {
    let Some(posting) = load_newest(tx, last_seen)? else {
        return Ok(());
    };
    let copy = messages::NewMessage {
        uuid: MessageUuid::from_bytes(tx.random_bytes()),
        author: MessageAuthor::Connection(posting.connection),
        author_name: &posting.message.author_name,
        content: &posting.message.content,
        content_type: ContentType::Markdown,
        action_required: false,
        reply_to: None,
        deliver_by: None,
        read_by: None,
        sent_at: posting.message.sent_at,
    };
    let message = messages::insert(tx, &copy)?;
    let copy = postings::NewPosting {
        chat: posting.id.chat,
        message,
        direction: Direction::In,
        sender: SenderPosition::OWN,
        files: 0,
    };
    postings::insert(tx, &copy).map(|_| ())
}

fn alter_message(tx: &mut Tx<'_>, last_seen: Option<postings::Cursor>) -> Result<(), Fault> {
    let Some(posting) = load_newest(tx, last_seen)? else {
        return Ok(());
    };
    messages::set_content(tx, &posting.message, "something else")
}
