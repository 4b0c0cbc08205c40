//! The outbox: a queue of messages, receipts and pairing payloads for each connection. A row is
//! sealed in the transaction that advances the ratchet, and its envelope is submitted unchanged
//! until the relay responds. The row is removed when a receipt arrives.
//!
//! | state | event | next state |
//! |---|---|---|
//! | (none) | a message or another payload is queued | `waiting` |
//! | `waiting` | the row is sealed | `sealed` |
//! | `sealed` | the relay has stored the envelope | `accepted`; a receipt or rejection is removed |
//! | `sealed` | the peer starts a new session | `waiting` |
//! | `accepted` | a receipt arrives | (none) |
//! | `accepted` | a `connection.accept` expired or has no receipt after an hour | `waiting` |

use crate::{
    fault::Fault,
    store::{Tx, deliveries::DeliveryKey},
};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::{
    connection::SealedEnvelope,
    model::{ConnectionId, MessageRowId, MessageUuid},
};
use sealpost_proto::{EnvelopeId, MailboxRef, Origin, Timestamp, limits, wire::SubmittedEnvelope};
use sealpost_sqlite::{RowError, RowExt as _, to_integer, to_millis};
use zeroize::Zeroizing;

const TABLE: &str = "outbox";

/// Due time of an accepted row that is not retried.
const NOT_RETRIED: i64 = i64::MAX;

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
    let item: [u8; 16] = tx.random_bytes();
    let payload = tx.seal(TABLE, &item, "payload", 1, payload);
    tx.execute(
        "INSERT INTO outbox (item, connection, kind, uuid, payload, state)
         VALUES (?1, ?2, ?3, ?4, ?5, 'waiting')",
        &[
            &item,
            &connection.to_string(),
            &kind.0,
            uuid.as_bytes(),
            &payload,
        ],
    )?;
    Ok(())
}

/// Row to be sealed.
pub struct WaitingItem {
    pub id: i64,
    pub kind: Kind,
    pub uuid: MessageUuid,
    /// Sequence number if the row was sealed before; sealing again reuses it.
    pub seq: Option<u64>,
    /// Time if the row was sealed before; sealing again reuses it.
    pub sent_at: Option<Timestamp>,
    pub content: Content,
}

/// Returns the connections with due rows to seal. Excludes connections with a sealed row, because
/// only one request per connection may be in flight.
pub fn find_connections_to_seal(tx: &Tx<'_>) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT w.connection FROM outbox w WHERE w.state = 'waiting' AND w.next_at <= ?1
               AND NOT EXISTS (SELECT 1 FROM outbox s
                   WHERE s.connection = w.connection AND s.state = 'sealed')
               GROUP BY w.connection ORDER BY min(w.id)";
    tx.query_rows(sql, &[&to_millis(tx.now)], |row| {
        row.parse("connection", ConnectionId::parse)
    })
}

/// Returns the rows to seal for a connection, in order. Messages come last, because they may wait
/// for files.
pub fn load_waiting(
    tx: &Tx<'_>,
    connection: ConnectionId,
    limit: usize,
) -> Result<Vec<WaitingItem>, Fault> {
    let sql = "SELECT id, item, kind, uuid, message, payload, seq, sent_at FROM outbox
               WHERE connection = ?1 AND state = 'waiting' AND next_at <= ?2
               ORDER BY message IS NOT NULL, id LIMIT ?3";
    let params = (connection.to_string(), to_millis(tx.now), limit);
    let rows = tx.query_rows(sql, &[&params.0, &params.1, &params.2], |row| {
        let message: Option<i64> = row.read("message")?;
        let waiting = WaitingItem {
            id: row.read("id")?,
            kind: Kind(row.read("kind")?),
            uuid: row.id("uuid")?,
            seq: row.read("seq")?,
            sent_at: row.optional_timestamp("sent_at")?,
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
             mailbox = ?6, proof = ?7, envelope = ?8, expires_at = ?9, next_at = 0 WHERE id = ?1",
        &[
            &id,
            &to_integer(sealed.seq),
            &to_millis(sealed.sent_at),
            envelope_id.as_bytes(),
            &sealed.mailbox.relay.as_str(),
            sealed.mailbox.id.as_bytes(),
            &proof.as_slice(),
            &sealed.envelope,
            &sealed.expires_at.map(to_millis),
        ],
    )?;
    Ok(())
}

/// Returns the sealed envelopes to submit now, in order: up to `limit`, and up to `bytes_max` in
/// total unless the first alone is larger.
pub fn load_due_envelopes(
    tx: &Tx<'_>,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<SubmittedEnvelope>, Fault> {
    let sql = "SELECT envelope_id, relay, mailbox, proof, envelope, expires_at FROM outbox
               WHERE state = 'sealed' AND next_at <= ?1 ORDER BY id LIMIT ?2";
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
    /// Number of refusals so far.
    pub attempt: u32,
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
    let sql = "SELECT id, kind, connection, message, attempt FROM outbox WHERE envelope_id = ?1";
    tx.query_row(sql, &[envelope.as_bytes()], |row| {
        let message: Option<i64> = row.read("message")?;
        Ok(SubmittedItem {
            id: row.read("id")?,
            kind: Kind(row.read("kind")?),
            connection: row.parse("connection", ConnectionId::parse)?,
            message: message.map(MessageRowId::from_i64),
            attempt: row.read("attempt")?,
        })
    })
}

/// Records that the relay has stored a row's envelope, and deletes the local copy of the envelope.
/// The row is sealed again at `again_at` unless a receipt arrives before.
pub fn set_accepted(tx: &Tx<'_>, id: i64, again_at: Option<Timestamp>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'accepted', envelope = NULL, attempt = 0, next_at = ?2
         WHERE id = ?1",
        &[&id, &again_at.map_or(NOT_RETRIED, to_millis)],
    )?;
    Ok(())
}

/// Delays a row after a retryable refusal.
pub fn postpone(tx: &Tx<'_>, id: i64, at: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET attempt = attempt + 1, next_at = ?2 WHERE id = ?1",
        &[&id, &to_millis(at)],
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

/// Removes the row of a message that the peer has confirmed.
pub fn confirm(tx: &Tx<'_>, connection: ConnectionId, uuid: &MessageUuid) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE connection = ?1 AND uuid = ?2",
        &[&connection.to_string(), uuid.as_bytes()],
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

/// Requeues all sealed rows, because the peer has started a new session. Sealing again reuses the
/// sequence number and the time.
pub fn requeue_sealed(tx: &Tx<'_>, connection: ConnectionId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope = NULL, envelope_id = NULL, attempt = 0,
             next_at = 0 WHERE connection = ?1 AND state = 'sealed'",
        &[&connection.to_string()],
    )?;
    Ok(())
}

/// Requeues each `connection.accept` that the relay has accepted and that has no receipt in time.
/// A time further ahead than the retry interval is due too, because the clock must have been set
/// back.
pub fn requeue_unconfirmed_accepts(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope_id = NULL, next_at = 0
         WHERE state = 'accepted' AND next_at < ?3 AND (next_at <= ?1 OR next_at > ?2)",
        &[
            &to_millis(tx.now),
            &to_millis(tx.now.plus(limits::ACCEPT_RETRY_INTERVAL)),
            &NOT_RETRIED,
        ],
    )?;
    Ok(())
}

/// Requeues a row whose envelope has expired.
pub fn requeue(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope_id = NULL, next_at = 0 WHERE id = ?1",
        &[&id],
    )?;
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
    let sql = "SELECT min(next_at) AS next_at FROM outbox WHERE next_at > ?1";
    let due = tx.query_row(sql, &[&to_millis(tx.now)], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}
