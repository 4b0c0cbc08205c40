//! The outbox. A row waits, is sealed in the transaction that advances the ratchet, is sent byte
//! for byte until the relay has responded, and stays until the receipt.
//!
//! | state | event | next state |
//! |---|---|---|
//! | (none) | something is to be sent | `waiting` |
//! | `waiting` | it is sealed | `sealed` |
//! | `sealed` | the relay has it on disk | `accepted` (a receipt is removed) |
//! | `sealed` | the peer began a new session | `waiting` |
//! | `accepted` | the peer confirms it | (none) |
//! | `accepted` | it is a `connection.accept` without a receipt for an hour, or its envelope expired | `waiting` |

use crate::{
    fault::Fault,
    store::{Tx, deliveries::DeliveryKey},
};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::{
    connection::SealedEnvelope,
    model::{ConnectionId, MessageKey, MessageUuid},
};
use sealpost_proto::{EnvelopeId, MailboxRef, Origin, Timestamp, limits, wire::SubmittedEnvelope};
use sealpost_sqlite::{RowError, RowExt as _, to_integer, to_millis};
use zeroize::Zeroizing;

const TABLE: &str = "outbox";

/// The time of what is not tried again.
const NOT_RETRIED: i64 = i64::MAX;

/// What a row sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A stored message, which is encoded when it is sealed.
    Message(MessageKey),
    /// The payload of anything else.
    Payload(Zeroizing<Vec<u8>>),
}

/// Adds a message.
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

/// Adds anything but a message.
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

/// A row that waits to be sealed.
pub struct WaitingItem {
    pub id: i64,
    pub kind: Kind,
    pub uuid: MessageUuid,
    /// Of an earlier sealing, which this one repeats.
    pub seq: Option<u64>,
    /// Of an earlier sealing, which this one repeats.
    pub sent_at: Option<Timestamp>,
    pub content: Content,
}

/// Returns the connections that have something to seal and no sealed row that the relay has not
/// responded to: one request is in flight per connection.
pub fn find_connections_to_seal(tx: &Tx<'_>) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT w.connection FROM outbox w WHERE w.state = 'waiting' AND w.next_at <= ?1
               AND NOT EXISTS (SELECT 1 FROM outbox s
                   WHERE s.connection = w.connection AND s.state = 'sealed')
               GROUP BY w.connection ORDER BY min(w.id)";
    tx.query_rows(sql, &[&to_millis(tx.now)], |row| {
        row.parse("connection", ConnectionId::parse)
    })
}

/// Returns what waits for a connection, in order. Messages come last because they may wait for
/// files.
pub fn load_waiting(tx: &Tx<'_>, connection: ConnectionId, limit: usize) -> Result<Vec<WaitingItem>, Fault> {
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
                |id| Content::Message(MessageKey::from_i64(id)),
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

/// Stores the envelope of a row that was just sealed.
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

/// A sealed row that the relay has responded to.
pub struct SubmittedItem {
    pub id: i64,
    pub kind: Kind,
    pub connection: ConnectionId,
    pub message: Option<MessageKey>,
    /// Refusals so far.
    pub attempt: u32,
}

impl SubmittedItem {
    /// Returns the delivery that the row is part of.
    #[must_use]
    pub fn delivery(&self) -> Option<DeliveryKey> {
        self.message.map(|message| DeliveryKey {
            message,
            connection: self.connection,
        })
    }
}

pub fn find_by_envelope(tx: &Tx<'_>, envelope: &EnvelopeId) -> Result<Option<SubmittedItem>, Fault> {
    let sql = "SELECT id, kind, connection, message, attempt FROM outbox WHERE envelope_id = ?1";
    tx.query_row(sql, &[envelope.as_bytes()], |row| {
        let message: Option<i64> = row.read("message")?;
        Ok(SubmittedItem {
            id: row.read("id")?,
            kind: Kind(row.read("kind")?),
            connection: row.parse("connection", ConnectionId::parse)?,
            message: message.map(MessageKey::from_i64),
            attempt: row.read("attempt")?,
        })
    })
}

/// Records that the relay has a row's envelope on disk; the envelope itself is deleted. `again_at`
/// is when the row is sealed again unless a receipt arrives.
pub fn set_accepted(tx: &Tx<'_>, id: i64, again_at: Option<Timestamp>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'accepted', envelope = NULL, attempt = 0, next_at = ?2
         WHERE id = ?1",
        &[&id, &again_at.map_or(NOT_RETRIED, to_millis)],
    )?;
    Ok(())
}

/// Delays a row that the relay refused for a transient reason.
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

/// Removes a message for all its recipients: it will not be sent.
pub fn remove_for_message(tx: &Tx<'_>, message: MessageKey) -> Result<(), Fault> {
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

/// Whether a message still waits for all its recipients: nothing of it has ever been sealed.
pub fn is_unsealed(tx: &Tx<'_>, message: MessageKey) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM deliveries d WHERE d.message = ?1 AND NOT EXISTS (
                   SELECT 1 FROM outbox o WHERE o.message = d.message
                   AND o.connection = d.connection AND o.state = 'waiting' AND o.seq IS NULL)";
    Ok(tx.query_value::<i64>(sql, &[&message.as_i64()])?.is_none())
}

/// Removes what the peer has confirmed.
pub fn confirm(tx: &Tx<'_>, connection: ConnectionId, uuid: &MessageUuid) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE connection = ?1 AND uuid = ?2",
        &[&connection.to_string(), uuid.as_bytes()],
    )?;
    Ok(())
}

/// Removes everything of a kind that the peer has answered.
pub fn confirm_kind(tx: &Tx<'_>, connection: ConnectionId, kind: Kind) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE connection = ?1 AND kind = ?2",
        &[&connection.to_string(), &kind.0],
    )?;
    Ok(())
}

/// Lets everything that the relay has not accepted be sealed again, with the same number and time,
/// because the peer began a new session.
pub fn requeue_sealed(tx: &Tx<'_>, connection: ConnectionId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope = NULL, envelope_id = NULL, attempt = 0,
             next_at = 0 WHERE connection = ?1 AND state = 'sealed'",
        &[&connection.to_string()],
    )?;
    Ok(())
}

/// Lets accepted rows that are repeated until their receipt be sealed again when they are due. A
/// time further ahead than any that a row can have been given is due too: the clock was put back.
pub fn requeue_unconfirmed(tx: &Tx<'_>) -> Result<(), Fault> {
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

/// Lets a row whose envelope expired be sealed again.
pub fn requeue(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope_id = NULL, next_at = 0 WHERE id = ?1",
        &[&id],
    )?;
    Ok(())
}

/// Removes everything for a connection that has ended. Returns the messages that were on their way.
pub fn remove_for_connection(tx: &Tx<'_>, connection: ConnectionId) -> Result<Vec<DeliveryKey>, Fault> {
    let sql = "DELETE FROM outbox WHERE connection = ?1 RETURNING message";
    let messages: Vec<Option<i64>> =
        tx.query_rows(sql, &[&connection.to_string()], |row| row.read("message"))?;
    let keys = messages.into_iter().flatten().map(|id| DeliveryKey {
        message: MessageKey::from_i64(id),
        connection,
    });
    Ok(keys.collect())
}

/// Makes what waits after a refusal due now, because the relay is back.
pub fn make_due_now(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET next_at = 0 WHERE state = 'sealed' AND attempt > 0",
        &[],
    )?;
    Ok(())
}

/// Returns when the next row is due to be submitted, sealed or repeated.
pub fn find_next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) AS next_at FROM outbox WHERE next_at > ?1";
    let due = tx.query_row(sql, &[&to_millis(tx.now)], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}
