//! The outbox: a queue of messages, receipts and pairing payloads for each connection. A row is
//! sealed in the transaction that advances the ratchet, and its envelope is submitted unchanged
//! until the relay responds.
//!
//! | state | event | next state |
//! |---|---|---|
//! | (none) | a message or another payload is queued | `waiting` |
//! | `waiting` | the row is sealed | `sealed` |
//! | `sealed` | the relay has stored the envelope | `accepted`; a kind without receipt is removed |
//! | `sealed`, `accepted` | the session is replaced | `waiting` |
//! | `accepted` | a `connection.accept` expired or has no receipt after an hour | `waiting` |
//! | `waiting`, `sealed`, `accepted` | a receipt arrives | `confirmed`; a payload is removed |
//! | `accepted`, `confirmed` | the peer states that the message is missing | `waiting` |
//! | `accepted` | the peer asks for missing messages after it was asked for the receipt | `waiting` |
//! | `confirmed` | 30 days after the receipt | (none) |
//!
//! A confirmed row is retained because the peer may be restored from a backup.

use crate::{
    fault::Fault,
    store::{Tx, deliveries::DeliveryKey, files},
};
use rusqlite::ToSql;
use sealpost_e2ee::{Incarnation, plaintext::Kind};
use sealpost_node_core::{
    connection::{FirstSealing, SealedEnvelope},
    model::{ConnectionId, MessageRowId, MessageUuid},
    submission::Refusals,
};
use sealpost_proto::{
    EnvelopeId, MailboxRef, Origin, Timestamp, limits, string_enum, wire::SubmittedEnvelope,
};
use sealpost_sqlite::{RowError, RowExt as _, to_integer, to_millis};
use zeroize::Zeroizing;

const TABLE: &str = "outbox";

/// Kinds that have no receipt: their rows are removed when the relay has accepted them.
const KINDS_WITHOUT_RECEIPT: [Kind; 3] = [Kind::RECEIPT, Kind::CONNECTION_REJECT, Kind::RESEND];

string_enum! {
    /// State of a row; the module documentation has the table of transitions.
    pub enum OutboxState {
        Waiting = "waiting",
        Sealed = "sealed",
        Accepted = "accepted",
        Confirmed = "confirmed",
    }
}

/// Content of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Stored message, encoded when the row is sealed.
    Message(MessageRowId),
    /// Payload of a receipt or of a step of pairing.
    Payload(Zeroizing<Vec<u8>>),
}

/// Queues a message.
pub fn add_message(tx: &mut Tx<'_>, key: DeliveryKey, uuid: &MessageUuid) -> Result<(), Fault> {
    let item: [u8; 16] = tx.random_bytes();
    tx.execute(
        "INSERT INTO outbox (item, connection, kind, uuid, message, state)
         VALUES (?1, ?2, ?3, ?4, ?5, 'waiting')",
        &[
            &item,
            &key.connection.to_string(),
            &Kind::MESSAGE.0,
            uuid.as_bytes(),
            &key.message.as_i64(),
        ],
    )?;
    Ok(())
}

/// Queues a receipt or a step of pairing.
pub fn add_payload(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    kind: Kind,
    uuid: &MessageUuid,
    payload: &[u8],
) -> Result<(), Fault> {
    add_payload_at(tx, connection, kind, uuid, payload, Timestamp::default())
}

/// Queues a payload that is sealed at `at` at the earliest.
pub fn add_payload_at(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    kind: Kind,
    uuid: &MessageUuid,
    payload: &[u8],
    at: Timestamp,
) -> Result<(), Fault> {
    let item: [u8; 16] = tx.random_bytes();
    let payload = tx.seal(TABLE, &item, "payload", 1, payload);
    tx.execute(
        "INSERT INTO outbox (item, connection, kind, uuid, payload, state, next_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6)",
        &[
            &item,
            &connection.to_string(),
            &kind.0,
            uuid.as_bytes(),
            &payload,
            &to_millis(at),
        ],
    )?;
    Ok(())
}

/// Row to be sealed.
pub struct WaitingItem {
    pub id: i64,
    pub kind: Kind,
    pub uuid: MessageUuid,
    /// What the first sealing determined, if the row was sealed before.
    pub first_sealing: Option<FirstSealing>,
    pub content: Content,
}

/// Returns the connections with due rows to seal. Excludes connections with a sealed row, because
/// only one request per connection may be in flight, and suspended connections.
pub fn find_connections_to_seal(tx: &Tx<'_>) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT w.connection FROM outbox w WHERE w.state = 'waiting' AND w.next_at <= ?1
               AND NOT EXISTS (SELECT 1 FROM outbox s
                   WHERE s.connection = w.connection AND s.state = 'sealed')
               AND NOT EXISTS (SELECT 1 FROM connections n
                   WHERE n.id = w.connection AND n.status = 'suspended')
               GROUP BY w.connection ORDER BY min(w.id)";
    tx.query_rows(sql, &[&to_millis(tx.now)], |row| {
        row.parse("connection", ConnectionId::parse)
    })
}

/// Returns the rows to seal for a connection, in order. Messages come last, because they may wait
/// for files; none overtakes an earlier one that is postponed.
pub fn load_waiting(
    tx: &Tx<'_>,
    connection: ConnectionId,
    limit: usize,
) -> Result<Vec<WaitingItem>, Fault> {
    let sql = "SELECT id, item, kind, uuid, message, payload, incarnation, seq, sent_at FROM outbox
               WHERE connection = ?1 AND state = 'waiting' AND next_at <= ?2
               AND (message IS NULL OR NOT EXISTS (SELECT 1 FROM outbox e
                   WHERE e.connection = ?1 AND e.state = 'waiting' AND e.message IS NOT NULL
                   AND e.id < outbox.id AND e.next_at > ?2))
               ORDER BY message IS NOT NULL, id LIMIT ?3";
    let params = (connection.to_string(), to_millis(tx.now), limit);
    let rows = tx.query_rows(sql, &[&params.0, &params.1, &params.2], |row| {
        let message: Option<i64> = row.read("message")?;
        let waiting = WaitingItem {
            id: row.read("id")?,
            kind: Kind(row.read("kind")?),
            uuid: row.id("uuid")?,
            first_sealing: read_first_sealing(row)?,
            content: message.map_or_else(
                || Content::Payload(Zeroizing::default()),
                |id| Content::Message(MessageRowId::from_i64(id)),
            ),
        };
        Ok((
            waiting,
            row.read::<[u8; 16]>("item")?,
            row.read::<Option<Vec<u8>>>("payload")?,
        ))
    })?;
    rows.into_iter()
        .map(|(mut waiting, item, payload)| {
            if let Some(sealed) = payload {
                waiting.content = Content::Payload(tx.open(TABLE, &item, "payload", 1, &sealed)?);
            }
            Ok(waiting)
        })
        .collect()
}

fn read_first_sealing(row: &rusqlite::Row<'_>) -> Result<Option<FirstSealing>, RowError> {
    let incarnation: Option<[u8; 8]> = row.read("incarnation")?;
    incarnation
        .map(|bytes| {
            Ok(FirstSealing {
                incarnation: Incarnation::from_bytes(bytes),
                seq: row.read("seq")?,
                sent_at: row.timestamp("sent_at")?,
            })
        })
        .transpose()
}

/// Stores the envelope of a row.
pub fn set_sealed(
    tx: &Tx<'_>,
    id: i64,
    sealed: &SealedEnvelope,
    envelope_id: EnvelopeId,
) -> Result<(), Fault> {
    let proof = sealpost_signatures::proofs::prove_post(
        &sealed.send_key,
        sealed.mailbox.id,
        envelope_id,
        &sealed.envelope,
    );
    tx.execute(
        "UPDATE outbox SET state = 'sealed', seq = ?2, sent_at = ?3, envelope_id = ?4, relay = ?5,
             mailbox = ?6, proof = ?7, envelope = ?8, expires_at = ?9, incarnation = ?10,
             next_at = 0 WHERE id = ?1",
        &[
            &id,
            &to_integer(sealed.first_sealing.seq),
            &to_millis(sealed.first_sealing.sent_at),
            envelope_id.as_bytes(),
            &sealed.mailbox.relay.as_str(),
            sealed.mailbox.id.as_bytes(),
            &proof.as_slice(),
            &sealed.envelope,
            &sealed.expires_at.map(to_millis),
            sealed.first_sealing.incarnation.as_bytes(),
        ],
    )?;
    Ok(())
}

/// Returns the sealed envelopes to submit now, in order: up to `limit`, and up to `bytes_max` in
/// total unless the first alone is larger. All envelopes of a connection are due with the first of
/// them, so that none overtakes another.
pub fn load_due_envelopes(
    tx: &Tx<'_>,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<SubmittedEnvelope>, Fault> {
    let sql = "SELECT envelope_id, relay, mailbox, proof, envelope, expires_at FROM outbox o
               WHERE state = 'sealed' AND ?1 >= (SELECT f.next_at FROM outbox f
                   WHERE f.connection = o.connection AND f.state = 'sealed'
                   ORDER BY f.id LIMIT 1)
               ORDER BY id LIMIT ?2";
    let mut envelopes = tx.query_rows(sql, &[&to_millis(tx.now), &limit], read_envelope)?;
    let mut total = 0;
    let fitting = envelopes.iter().take_while(|envelope| {
        total += envelope.bytes.as_slice().len();
        total <= bytes_max
    });
    let count = fitting.count().max(1);
    envelopes.truncate(count);
    Ok(envelopes)
}

fn read_envelope(row: &rusqlite::Row<'_>) -> Result<SubmittedEnvelope, RowError> {
    Ok(SubmittedEnvelope {
        id: row.id("envelope_id")?,
        mailbox: MailboxRef {
            relay: row.parse("relay", Origin::parse)?,
            id: row.id("mailbox")?,
        },
        proof: row.read::<Vec<u8>>("proof")?.into(),
        expires_at: row.optional_timestamp("expires_at")?,
        bytes: row.read::<Vec<u8>>("envelope")?.into(),
    })
}

/// Row whose envelope was submitted.
pub struct SubmittedItem {
    pub id: i64,
    pub kind: Kind,
    pub connection: ConnectionId,
    pub message: Option<MessageRowId>,
    pub refusals: Refusals,
}

impl SubmittedItem {
    /// Returns the delivery of the row's message, if the row sends a message.
    #[must_use]
    pub fn delivery(&self) -> Option<DeliveryKey> {
        self.message.map(|message| DeliveryKey {
            message,
            connection: self.connection,
        })
    }
}

pub fn find_by_envelope(
    tx: &Tx<'_>,
    envelope: &EnvelopeId,
) -> Result<Option<SubmittedItem>, Fault> {
    let sql = "SELECT id, kind, connection, message, attempt, mailbox_unknown_since FROM outbox
               WHERE envelope_id = ?1";
    tx.query_row(sql, &[envelope.as_bytes()], |row| {
        let message: Option<i64> = row.read("message")?;
        Ok(SubmittedItem {
            id: row.read("id")?,
            kind: Kind(row.read("kind")?),
            connection: row.parse("connection", ConnectionId::parse)?,
            message: message.map(MessageRowId::from_i64),
            refusals: Refusals {
                count: row.read("attempt")?,
                mailbox_unknown_since: row.optional_timestamp("mailbox_unknown_since")?,
            },
        })
    })
}

/// Records that the relay has stored a row's envelope, and deletes the local copy of the envelope.
/// Removes the row if its kind has no receipt. Otherwise `next_at` is when the node acts if no
/// receipt has arrived: it seals a `connection.accept` again, and asks for other receipts.
pub fn set_accepted(tx: &Tx<'_>, row: &SubmittedItem, next_at: Timestamp) -> Result<(), Fault> {
    if KINDS_WITHOUT_RECEIPT.contains(&row.kind) {
        return remove(tx, row.id);
    }
    tx.execute(
        "UPDATE outbox SET state = 'accepted', envelope = NULL, attempt = 0, next_at = ?2,
             mailbox_unknown_since = NULL
         WHERE id = ?1",
        &[&row.id, &to_millis(next_at)],
    )?;
    Ok(())
}

/// Delays a row after a retryable refusal.
pub fn postpone(
    tx: &Tx<'_>,
    id: i64,
    at: Timestamp,
    mailbox_unknown_since: Option<Timestamp>,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET attempt = attempt + 1, next_at = ?2, mailbox_unknown_since = ?3
         WHERE id = ?1",
        &[&id, &to_millis(at), &mailbox_unknown_since.map(to_millis)],
    )?;
    Ok(())
}

pub fn remove(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    tx.execute("DELETE FROM outbox WHERE id = ?1", &[&id])?;
    Ok(())
}

/// Removes a message for all its recipients.
pub fn remove_for_message(tx: &Tx<'_>, message: MessageRowId) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE message = ?1",
        &[&message.as_i64()],
    )?;
    Ok(())
}

/// Removes a message for one recipient.
pub fn remove_for_delivery(tx: &Tx<'_>, key: DeliveryKey) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE message = ?1 AND connection = ?2",
        &[&key.message.as_i64(), &key.connection.to_string()],
    )?;
    Ok(())
}

/// Returns whether a message has never been sealed for any of its recipients.
pub fn is_unsealed(tx: &Tx<'_>, message: MessageRowId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM deliveries d WHERE d.message = ?1 AND NOT EXISTS (
                   SELECT 1 FROM outbox o WHERE o.message = d.message
                   AND o.connection = d.connection AND o.state = 'waiting' AND o.seq IS NULL)";
    Ok(tx.query_value::<i64>(sql, &[&message.as_i64()])?.is_none())
}

/// Records the receipt of a message. A payload is not needed any more.
pub fn confirm(tx: &Tx<'_>, connection: ConnectionId, uuid: &MessageUuid) -> Result<(), Fault> {
    let connection = connection.to_string();
    tx.execute(
        "DELETE FROM outbox WHERE connection = ?1 AND uuid = ?2 AND message IS NULL",
        &[&connection, uuid.as_bytes()],
    )?;
    let delete_at = tx.now.plus(limits::CONFIRMED_MESSAGE_RETENTION);
    tx.execute(
        "UPDATE outbox SET state = 'confirmed', envelope = NULL, envelope_id = NULL, attempt = 0,
             next_at = ?3 WHERE connection = ?1 AND uuid = ?2 AND state <> 'confirmed'",
        &[&connection, uuid.as_bytes(), &to_millis(delete_at)],
    )?;
    Ok(())
}

/// Deletes confirmed rows after their retention.
pub fn delete_old(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE state = 'confirmed' AND next_at <= ?1",
        &[&to_millis(tx.now)],
    )?;
    Ok(())
}

/// Removes all rows of a kind, because the peer has responded to them.
pub fn confirm_kind(tx: &Tx<'_>, connection: ConnectionId, kind: Kind) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE connection = ?1 AND kind = ?2",
        &[&connection.to_string(), &kind.0],
    )?;
    Ok(())
}

/// Requeues all sealed rows without a receipt for `at`, because the session was replaced: the peer
/// may be unable to open what was sealed in the old one.
pub fn requeue_unconfirmed(
    tx: &Tx<'_>,
    connection: ConnectionId,
    at: Timestamp,
) -> Result<(), Fault> {
    requeue_rows(
        tx,
        "connection = ?2 AND state IN ('sealed', 'accepted')",
        &[&to_millis(at), &connection.to_string()],
    )
}

/// Requeues the rows without a receipt that have numbers of an incarnation for `at`, so that they
/// get new ones when they are sealed again.
pub fn forget_numbers(
    tx: &Tx<'_>,
    connection: ConnectionId,
    incarnation: Incarnation,
    at: Timestamp,
) -> Result<(), Fault> {
    let params = (connection.to_string(), to_millis(at));
    let condition = "connection = ?2 AND incarnation = ?3 AND seq > 0 AND state <> 'confirmed'";
    requeue_rows(
        tx,
        condition,
        &[&params.1, &params.0, incarnation.as_bytes()],
    )?;
    tx.execute(
        "UPDATE outbox SET incarnation = NULL, seq = NULL, sent_at = NULL
         WHERE connection = ?1 AND incarnation = ?2 AND seq > 0 AND state <> 'confirmed'",
        &[&params.0, incarnation.as_bytes()],
    )?;
    Ok(())
}

/// Row that was sealed at least once.
pub struct SealedItem {
    pub id: i64,
    pub state: OutboxState,
    pub seq: u64,
}

/// Returns the rows that were first sealed in one of our incarnations, by number.
pub fn load_numbered(
    tx: &Tx<'_>,
    connection: ConnectionId,
    incarnation: Incarnation,
    above: u64,
) -> Result<Vec<SealedItem>, Fault> {
    let sql = "SELECT id, state, seq FROM outbox
               WHERE connection = ?1 AND incarnation = ?2 AND seq > ?3 ORDER BY seq";
    let params = (connection.to_string(), incarnation, to_integer(above));
    tx.query_rows(sql, &[&params.0, params.1.as_bytes(), &params.2], |row| {
        Ok(SealedItem {
            id: row.read("id")?,
            state: row.parse("state", OutboxState::parse)?,
            seq: row.read("seq")?,
        })
    })
}

/// Records that a message has arrived although its receipt has not.
pub fn set_arrived(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    let next_at = tx.now.plus(limits::RECEIPT_QUERY_INTERVAL);
    tx.execute(
        "UPDATE outbox SET state = 'accepted', next_at = ?2 WHERE id = ?1",
        &[&id, &to_millis(next_at)],
    )?;
    Ok(())
}

/// Requeues each `connection.accept` that the relay has accepted and for which no receipt arrived in
/// time. A time further ahead than the retry interval is due too, because the clock must have been
/// set back.
pub fn requeue_unconfirmed_accepts(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope_id = NULL, next_at = 0
         WHERE state = 'accepted' AND kind = ?3 AND (next_at <= ?1 OR next_at > ?2)",
        &[
            &to_millis(tx.now),
            &to_millis(tx.now.plus(limits::ACCEPT_RETRY_INTERVAL)),
            &Kind::CONNECTION_ACCEPT.0,
        ],
    )?;
    Ok(())
}

/// Returns up to `limit` messages of each connection for which no receipt arrived in time, oldest
/// first, and postpones all such messages of these connections.
pub fn postpone_overdue(
    tx: &Tx<'_>,
    limit: usize,
) -> Result<Vec<(ConnectionId, Vec<MessageUuid>)>, Fault> {
    let now = to_millis(tx.now);
    let next_at = to_millis(tx.now.plus(limits::RECEIPT_QUERY_INTERVAL));
    let overdue = "state = 'accepted' AND message IS NOT NULL
                   AND (next_at <= ?1 OR next_at > ?2)";
    let sql = format!("SELECT DISTINCT connection FROM outbox WHERE {overdue}");
    let connections = tx.query_rows(&sql, &[&now, &next_at], |row| {
        row.parse("connection", ConnectionId::parse)
    })?;
    let mut queries = Vec::with_capacity(connections.len());
    for connection in connections {
        let id = connection.to_string();
        let sql = format!(
            "SELECT uuid FROM outbox WHERE {overdue} AND connection = ?3 ORDER BY id LIMIT ?4"
        );
        let uuids = tx.query_rows(&sql, &[&now, &next_at, &id, &limit], |row| row.id("uuid"))?;
        let sql = format!("UPDATE outbox SET next_at = ?2 WHERE {overdue} AND connection = ?3");
        tx.execute(&sql, &[&now, &next_at, &id])?;
        queries.push((connection, uuids));
    }
    Ok(queries)
}

/// Records that the peer was asked for the receipts of these messages.
pub fn record_query(
    tx: &Tx<'_>,
    connection: ConnectionId,
    uuids: &[MessageUuid],
) -> Result<(), Fault> {
    let sql = "UPDATE outbox SET attempt = attempt + 1
               WHERE connection = ?1 AND uuid = ?2 AND state = 'accepted'";
    for uuid in uuids {
        tx.execute(sql, &[&connection.to_string(), uuid.as_bytes()])?;
    }
    Ok(())
}

/// Requeues the messages for whose receipts the peer was asked in vain for `at`.
pub fn requeue_queried(tx: &Tx<'_>, connection: ConnectionId, at: Timestamp) -> Result<(), Fault> {
    requeue_rows(
        tx,
        "connection = ?2 AND state = 'accepted' AND attempt > 0",
        &[&to_millis(at), &connection.to_string()],
    )
}

/// Returns whether anything waits to be sealed now.
pub fn has_waiting(tx: &Tx<'_>, connection: ConnectionId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM outbox WHERE connection = ?1 AND state = 'waiting' AND next_at <= ?2
               UNION ALL SELECT 1 FROM receipts_due WHERE connection = ?1 LIMIT 1";
    let found: Option<i64> = tx.query_value(sql, &[&connection.to_string(), &to_millis(tx.now)])?;
    Ok(found.is_some())
}

/// Returns whether a payload of this kind waits to be sealed.
pub fn is_waiting(tx: &Tx<'_>, connection: ConnectionId, kind: Kind) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM outbox WHERE connection = ?1 AND kind = ?2 AND state = 'waiting'";
    let found: Option<i64> = tx.query_value(sql, &[&connection.to_string(), &kind.0])?;
    Ok(found.is_some())
}

/// Requeues a row whose envelope has expired.
pub fn requeue(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    requeue_at(tx, id, Timestamp::default())
}

/// Requeues a row for `at`.
pub fn requeue_at(tx: &Tx<'_>, id: i64, at: Timestamp) -> Result<(), Fault> {
    requeue_rows(tx, "id = ?2", &[&to_millis(at), &id])
}

/// Requeues the rows that match a condition for the time that is the first parameter. The files of
/// their messages are uploaded again if they were deleted at the relay.
fn requeue_rows(tx: &Tx<'_>, condition: &str, params: &[&dyn ToSql]) -> Result<(), Fault> {
    let sql = format!(
        "UPDATE outbox SET state = 'waiting', envelope = NULL, envelope_id = NULL, attempt = 0,
             mailbox_unknown_since = NULL, next_at = ?1 WHERE {condition} RETURNING message, connection"
    );
    let requeued = tx.query_rows(&sql, params, |row| {
        let message: Option<i64> = row.read("message")?;
        Ok((message, row.parse("connection", ConnectionId::parse)?))
    })?;
    for (message, connection) in requeued {
        if let Some(message) = message.map(MessageRowId::from_i64) {
            files::reclaim_for_delivery(
                tx,
                &DeliveryKey {
                    message,
                    connection,
                },
            )?;
        }
    }
    Ok(())
}

/// Removes all rows of a closed connection, and returns the deliveries of their messages.
pub fn remove_for_connection(
    tx: &Tx<'_>,
    connection: ConnectionId,
) -> Result<Vec<DeliveryKey>, Fault> {
    let sql = "DELETE FROM outbox WHERE connection = ?1 RETURNING message";
    let messages: Vec<Option<i64>> =
        tx.query_rows(sql, &[&connection.to_string()], |row| row.read("message"))?;
    let keys = messages.into_iter().flatten().map(|id| DeliveryKey {
        message: MessageRowId::from_i64(id),
        connection,
    });
    Ok(keys.collect())
}

/// Makes refused rows due now, because the relay responds again.
pub fn make_due_now(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET next_at = 0 WHERE state = 'sealed' AND attempt > 0",
        &[],
    )?;
    Ok(())
}

/// Returns when the next row is due to be sealed or submitted.
pub fn find_next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) AS next_at FROM outbox
               WHERE state IN ('waiting', 'sealed', 'accepted') AND next_at > ?1";
    let due = tx.query_row(sql, &[&to_millis(tx.now)], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}
