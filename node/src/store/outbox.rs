//! What is on its way out. A row waits with its payload, is sealed together with the ratchet's step, is sent byte for byte
//! until the relay has answered, and stays until the receipt.
//!
//! | state | event | next state |
//! |---|---|---|
//! | (none) | something is to be sent | `waiting` |
//! | `waiting` | its turn comes | `sealed` |
//! | `sealed` | the relay has it on disk | `accepted` (a receipt's row goes) |
//! | `sealed` | the peer began a new session | `waiting` |
//! | `accepted` | the peer confirms it | (gone) |
//! | `accepted` | it is a `connection.accept`, and no receipt came for an hour, or its envelope expired | `waiting` |

use crate::{
    fault::Fault,
    store::{Tx, count, millis, timestamp},
};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::connection::{Outgoing, Sealed};
use sealpost_proto::{
    EnvelopeId, MailboxId, MailboxRef, MessageId, Origin, Timestamp, limits,
    wire::SubmittedEnvelope,
};

const TABLE: &str = "outbox";

/// The time of what is not tried again.
const NEVER: i64 = i64::MAX;

/// Puts something into the outbox.
///
/// # Errors
/// When SQLite fails.
pub fn add(
    tx: &mut Tx<'_>,
    connection: &str,
    kind: Kind,
    id: &MessageId,
    message: Option<&str>,
    body: &[u8],
) -> Result<(), Fault> {
    let mut item = [0; 16];
    tx.rng.fill_bytes(&mut item);
    let body = tx.seal(TABLE, &item, "body", 1, body);
    tx.execute(
        "INSERT INTO outbox (item, connection, kind, uuid, message, body, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting')",
        &[&item, &connection, &kind.0, id.as_bytes(), &message, &body],
    )?;
    Ok(())
}

/// A row that waits to be sealed.
pub struct Waiting {
    /// Its row.
    pub id: i64,
    /// What it is.
    pub outgoing: Outgoing,
    /// The message it belongs to.
    pub message: Option<String>,
}

/// The connections that have something to seal, and nothing sealed that the relay has not answered: one request is in
/// flight for a connection.
///
/// # Errors
/// When SQLite fails.
pub fn connections_to_seal(tx: &Tx<'_>) -> Result<Vec<String>, Fault> {
    let sql = "SELECT w.connection FROM outbox w WHERE w.state = 'waiting' AND w.next_at <= ?1
               AND NOT EXISTS (SELECT 1 FROM outbox s WHERE s.connection = w.connection AND s.state = 'sealed')
               GROUP BY w.connection ORDER BY min(w.id)";
    tx.rows(sql, &[&millis(tx.now)], |row| row.get(0))
}

/// What waits for one connection, in order: first what is no message, because messages may wait for files.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn waiting(tx: &Tx<'_>, connection: &str, limit: usize) -> Result<Vec<Waiting>, Fault> {
    let sql = "SELECT id, item, kind, uuid, message, body, seq, sent_at FROM outbox
               WHERE connection = ?1 AND state = 'waiting' AND next_at <= ?2 ORDER BY message IS NOT NULL, id LIMIT ?3";
    let rows = tx.rows(sql, &[&connection, &millis(tx.now), &limit], |row| {
        let item: [u8; 16] = row.get(1)?;
        let body: Vec<u8> = row.get(5)?;
        let waiting = Waiting {
            id: row.get(0)?,
            message: row.get(4)?,
            outgoing: Outgoing {
                kind: Kind(row.get(2)?),
                message_id: MessageId::from_bytes(row.get(3)?),
                seq: row.get::<_, Option<i64>>(6)?.map(count),
                sent_at: row.get::<_, Option<i64>>(7)?.map(timestamp),
                body: Vec::new(),
            },
        };
        Ok((waiting, item, body))
    })?;
    rows.into_iter()
        .map(|(mut waiting, item, sealed)| {
            waiting.outgoing.body = tx.open(TABLE, &item, "body", 1, &sealed)?.to_vec();
            Ok(waiting)
        })
        .collect()
}

/// Stores the envelope of a row that was just sealed.
///
/// # Errors
/// When SQLite fails.
pub fn set_sealed(
    tx: &Tx<'_>,
    id: i64,
    sealed: &Sealed,
    envelope_id: EnvelopeId,
) -> Result<(), Fault> {
    let proof = sealpost_signatures::proofs::post(
        &sealed.send_key,
        sealed.mailbox.id,
        envelope_id,
        &sealed.envelope,
    );
    tx.execute(
        "UPDATE outbox SET state = 'sealed', seq = ?2, sent_at = ?3, envelope_id = ?4, relay = ?5, mailbox = ?6, proof = ?7,
             envelope = ?8, expires_at = ?9, next_at = 0 WHERE id = ?1",
        &[
            &id,
            &i64::try_from(sealed.seq).unwrap_or(i64::MAX),
            &millis(sealed.sent_at),
            envelope_id.as_bytes(),
            &sealed.mailbox.relay.as_str(),
            sealed.mailbox.id.as_bytes(),
            &proof.as_slice(),
            &sealed.envelope,
            &sealed.expires_at.map(millis),
        ],
    )?;
    Ok(())
}

/// The sealed envelopes to submit now, in order, at most `limit` and `bytes_max` together.
///
/// # Errors
/// When SQLite fails.
pub fn to_submit(
    tx: &Tx<'_>,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<SubmittedEnvelope>, Fault> {
    let sql = "SELECT envelope_id, relay, mailbox, proof, envelope, expires_at FROM outbox
               WHERE state = 'sealed' AND next_at <= ?1 ORDER BY id LIMIT ?2";
    let rows = tx.rows(sql, &[&millis(tx.now), &limit], |row| {
        Ok((
            EnvelopeId::from_bytes(row.get(0)?),
            row.get::<_, String>(1)?,
            MailboxId::from_bytes(row.get(2)?),
            row.get::<_, Vec<u8>>(3)?,
            row.get::<_, Vec<u8>>(4)?,
            row.get::<_, Option<i64>>(5)?.map(timestamp),
        ))
    })?;
    let mut envelopes = Vec::new();
    let mut total = 0;
    for (id, relay, mailbox, proof, bytes, expires_at) in rows {
        total += bytes.len();
        if total > bytes_max && !envelopes.is_empty() {
            break;
        }
        let relay = Origin::parse(&relay).map_err(|_| Fault::failed("an outbox row is broken"))?;
        let mailbox = MailboxRef { relay, id: mailbox };
        envelopes.push(SubmittedEnvelope {
            id,
            mailbox,
            proof: proof.into(),
            expires_at,
            bytes: bytes.into(),
        });
    }
    Ok(envelopes)
}

/// A sealed row that the relay has answered.
pub struct Row {
    /// Its row.
    pub id: i64,
    /// What it is.
    pub kind: Kind,
    /// Its connection.
    pub connection: String,
    /// Its id inside the encryption.
    pub uuid: MessageId,
    /// The message it belongs to.
    pub message: Option<String>,
    /// Refusals so far.
    pub attempt: u32,
}

/// The row of an envelope.
///
/// # Errors
/// When SQLite fails.
pub fn by_envelope(tx: &Tx<'_>, envelope: &EnvelopeId) -> Result<Option<Row>, Fault> {
    let sql =
        "SELECT id, kind, connection, uuid, message, attempt FROM outbox WHERE envelope_id = ?1";
    tx.row(sql, &[envelope.as_bytes()], |row| {
        Ok(Row {
            id: row.get(0)?,
            kind: Kind(row.get(1)?),
            connection: row.get(2)?,
            uuid: MessageId::from_bytes(row.get(3)?),
            message: row.get(4)?,
            attempt: row.get(5)?,
        })
    })
}

/// The relay has a row's envelope on disk: the envelope itself is not needed again. `again_at` is when it is sealed anew
/// unless a receipt came.
///
/// # Errors
/// When SQLite fails.
pub fn set_accepted(tx: &Tx<'_>, id: i64, again_at: Option<Timestamp>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'accepted', envelope = NULL, attempt = 0, next_at = ?2 WHERE id = ?1",
        &[&id, &again_at.map_or(NEVER, millis)],
    )?;
    Ok(())
}

/// The relay refused a row for a passing reason.
///
/// # Errors
/// When SQLite fails.
pub fn postpone(tx: &Tx<'_>, id: i64, at: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET attempt = attempt + 1, next_at = ?2 WHERE id = ?1",
        &[&id, &millis(at)],
    )?;
    Ok(())
}

/// A row's road has ended.
///
/// # Errors
/// When SQLite fails.
pub fn remove(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    tx.execute("DELETE FROM outbox WHERE id = ?1", &[&id])?;
    Ok(())
}

/// A message will not be sent.
///
/// # Errors
/// When SQLite fails.
pub fn remove_message(tx: &Tx<'_>, message: &str) -> Result<(), Fault> {
    tx.execute("DELETE FROM outbox WHERE message = ?1", &[&message])?;
    Ok(())
}

/// Whether a message waits for its turn: nothing of it has been sealed.
///
/// # Errors
/// When SQLite fails.
pub fn is_waiting(tx: &Tx<'_>, message: &str) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM outbox WHERE message = ?1 AND state = 'waiting' AND seq IS NULL";
    Ok(tx.value::<i64>(sql, &[&message])?.is_some())
}

/// The peer confirmed this id: it is not needed again.
///
/// # Errors
/// When SQLite fails.
pub fn confirm(tx: &Tx<'_>, connection: &str, uuid: &MessageId) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE connection = ?1 AND uuid = ?2",
        &[&connection, uuid.as_bytes()],
    )?;
    Ok(())
}

/// The peer has answered what of this kind was under way.
///
/// # Errors
/// When SQLite fails.
pub fn confirm_kind(tx: &Tx<'_>, connection: &str, kind: Kind) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM outbox WHERE connection = ?1 AND kind = ?2",
        &[&connection, &kind.0],
    )?;
    Ok(())
}

/// The peer began a new session: what the relay has not accepted is sealed again, with the same number and time.
///
/// # Errors
/// When SQLite fails.
pub fn seal_again(tx: &Tx<'_>, connection: &str) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope = NULL, envelope_id = NULL, attempt = 0, next_at = 0
         WHERE connection = ?1 AND state = 'sealed'",
        &[&connection],
    )?;
    Ok(())
}

/// What is repeated until it is receipted, and was not for long enough, waits again; also what is meant for a time further
/// ahead than any that it can have been given, because the clock was put back.
///
/// # Errors
/// When SQLite fails.
pub fn repeat_unconfirmed(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope_id = NULL, next_at = 0
         WHERE state = 'accepted' AND next_at < ?3 AND (next_at <= ?1 OR next_at > ?2)",
        &[
            &millis(tx.now),
            &millis(tx.now.plus(limits::ACCEPT_RETRY_INTERVAL)),
            &NEVER,
        ],
    )?;
    Ok(())
}

/// A row's envelope expired, and it is worth another one.
///
/// # Errors
/// When SQLite fails.
pub fn repeat(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope_id = NULL, next_at = 0 WHERE id = ?1",
        &[&id],
    )?;
    Ok(())
}

/// Forgets everything for a connection that has ended; returns the messages that were under way.
///
/// # Errors
/// When SQLite fails.
pub fn drop_connection(tx: &Tx<'_>, connection: &str) -> Result<Vec<String>, Fault> {
    let messages: Vec<Option<String>> = tx.rows(
        "DELETE FROM outbox WHERE connection = ?1 RETURNING message",
        &[&connection],
        |row| row.get(0),
    )?;
    Ok(messages.into_iter().flatten().collect())
}

/// What waits after a refusal is due now: the relay is back.
///
/// # Errors
/// When SQLite fails.
pub fn hurry(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE outbox SET next_at = 0 WHERE state = 'sealed' AND attempt > 0",
        &[],
    )?;
    Ok(())
}

/// When something is due next: a sealed row to submit, a waiting one to seal, an accepted one to repeat.
///
/// # Errors
/// When SQLite fails.
pub fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) FROM outbox WHERE next_at > ?1";
    Ok(tx
        .value::<Option<i64>>(sql, &[&millis(tx.now)])?
        .flatten()
        .map(timestamp))
}
