//! How long the relay keeps a blob of ours: as long as somebody may still fetch it, and no longer. What the relay has to be
//! asked is written down with the change that makes it necessary, and asked after.

use super::{Attachment, COLUMNS, advance, of_message, open, read};
use crate::{
    api::model::AttachmentStatus,
    fault::Fault,
    store::{Tx, millis, timestamp},
};
use sealpost_proto::{BlobId, Timestamp, limits};

/// What the relay has still to be asked about a blob of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayDue {
    /// To keep it at least until then.
    Extend(Timestamp),
    /// To delete it; then it leaves this disk too.
    Delete,
}

/// A message that needs a blob: its recipient has not said that it was fetched, and may have the message or get it yet. A
/// relay's word that it expired does not say that it was never delivered.
const NEEDED: &str = "SELECT 1 FROM message_attachments l JOIN deliveries d ON d.message = l.message
    WHERE l.attachment = ?1 AND l.fetched_at IS NULL
    AND (d.status <> 'failed' OR d.code IS NULL OR d.code IN ('expired', 'unconfirmed', 'unknown'))";

/// The relay has all of a blob of ours, until then. Returns whether the file was still on its way there.
///
/// # Errors
/// When SQLite fails.
pub fn uploaded(tx: &Tx<'_>, name: &str, blob_until: Timestamp) -> Result<bool, Fault> {
    if !advance(tx, name, AttachmentStatus::Uploaded, None)? {
        return Ok(false);
    }
    let sql = "UPDATE attachments SET blob_until = ?2, keep_until = NULL, relay_due = NULL, relay_reason = NULL WHERE ref = ?1";
    tx.execute(sql, &[&name, &millis(blob_until)])?;
    Ok(true)
}

/// A recipient says that it has a file of ours; it counts only when a message to that connection names it.
///
/// # Errors
/// When SQLite fails.
pub fn fetched(tx: &Tx<'_>, connection: &str, blob: &BlobId, at: Timestamp) -> Result<(), Fault> {
    let sql = "SELECT ref FROM attachments WHERE blob = ?1 AND direction = 'out'";
    let Some(name) = tx.value::<String>(sql, &[blob.as_bytes()])? else {
        return Ok(());
    };
    let changed = tx.execute(
        "UPDATE message_attachments SET fetched_at = ?3 WHERE attachment = ?1 AND fetched_at IS NULL
         AND message IN (SELECT message FROM deliveries WHERE connection = ?2)",
        &[&name, &connection, &millis(at.min(tx.now))],
    )?;
    if changed > 0 {
        release_unless_needed(tx, &name)?;
    }
    Ok(())
}

/// The connections that a file of theirs came from.
///
/// # Errors
/// When SQLite fails.
pub fn senders(tx: &Tx<'_>, name: &str) -> Result<Vec<String>, Fault> {
    let sql = "SELECT DISTINCT c.connection FROM message_attachments l JOIN messages m ON m.ref = l.message
               JOIN chats c ON c.ref = m.chat WHERE l.attachment = ?1";
    tx.rows(sql, &[&name], |row| row.get(0))
}

/// A message will not be sent: of its files go those that no other message needs.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn release_of(tx: &Tx<'_>, message: &str) -> Result<(), Fault> {
    of_message(tx, message)?
        .iter()
        .try_for_each(|file| release_unless_needed(tx, &file.name))
}

/// Lets go of a file of ours that no message needs any more.
///
/// # Errors
/// When SQLite fails.
pub fn release_unless_needed(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    if tx.value::<i64>(NEEDED, &[&name])?.is_none() {
        release(tx, name)
    } else {
        Ok(())
    }
}

fn release(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    let stopped = Some("its message is not sent");
    if !advance(tx, name, AttachmentStatus::Released, None)? {
        advance(tx, name, AttachmentStatus::Cancelled, stopped)?;
    }
    let sql = "UPDATE attachments SET relay_due = 'delete', relay_reason = NULL, relay_attempt = 0, relay_next_at = 0
               WHERE ref = ?1 AND direction = 'out' AND status IN ('released', 'cancelled', 'failed')";
    tx.execute(sql, &[&name])?;
    Ok(())
}

/// The files of a message shall be at the relay until then, as far as they are not needed longer.
///
/// # Errors
/// When SQLite fails.
pub fn keep_until(tx: &Tx<'_>, message: &str, until: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE attachments SET relay_due = 'extend', relay_reason = NULL, relay_attempt = 0, relay_next_at = 0, keep_until = ?2
         WHERE ref IN (SELECT attachment FROM message_attachments WHERE message = ?1)
         AND status = 'uploaded' AND blob_until < ?2 AND (keep_until IS NULL OR keep_until < ?2)",
        &[&message, &millis(until)],
    )?;
    Ok(())
}

/// Looks after blobs of ours: those of messages that have not gone yet must not end before these have, and what ended at the
/// relay is sent again where a message still waits, and else let go of.
///
/// # Errors
/// When SQLite fails.
pub fn look_after_blobs(tx: &Tx<'_>) -> Result<(), Fault> {
    let life =
        limits::ENVELOPE_LIFETIME_DEFAULT.saturating_add(limits::BLOB_LIFETIME_AFTER_MESSAGE);
    let sql = "SELECT DISTINCT d.message FROM attachments a JOIN message_attachments l ON l.attachment = a.ref
               JOIN deliveries d ON d.message = l.message
               WHERE a.status = 'uploaded' AND d.status = 'pending' AND a.blob_until > ?1 AND a.blob_until < ?2";
    let short = tx.now.plus(life).minus(limits::BLOB_EXTENSION_INTERVAL);
    let waiting: Vec<String> =
        tx.rows(sql, &[&millis(tx.now), &millis(short)], |row| row.get(0))?;
    for message in waiting {
        keep_until(tx, &message, tx.now.plus(life))?;
    }
    let sql = "SELECT ref FROM attachments WHERE status = 'uploaded' AND blob_until <= ?1";
    let ended: Vec<String> = tx.rows(sql, &[&millis(tx.now)], |row| row.get(0))?;
    ended.iter().try_for_each(|name| {
        if waits(tx, name)? {
            lost(tx, name)
        } else {
            release(tx, name)
        }
    })
}

fn waits(tx: &Tx<'_>, name: &str) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM message_attachments l JOIN deliveries d ON d.message = l.message
               WHERE l.attachment = ?1 AND d.status = 'pending'";
    Ok(tx.value::<i64>(sql, &[&name])?.is_some())
}

/// The relay does not have a blob of ours any more: the same bytes are sent again.
///
/// # Errors
/// When SQLite fails.
pub fn lost(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    asked(tx, name)?;
    advance(
        tx,
        name,
        AttachmentStatus::Uploading,
        Some("the relay has lost it"),
    )
    .map(|_| ())
}

/// A relay request for a blob of ours that is due.
pub struct DueRelayRequest {
    pub file: Attachment,
    pub request: RelayDue,
    /// Failed attempts of this request, in a row.
    pub attempt: u32,
}

/// The relay requests that are due now.
pub fn relay_due(tx: &Tx<'_>, limit: usize) -> Result<Vec<DueRelayRequest>, Fault> {
    let sql = format!(
        "{COLUMNS} WHERE a.relay_due IS NOT NULL AND a.relay_next_at <= ?1
         ORDER BY a.relay_next_at, a.position LIMIT ?2"
    );
    let files = tx.rows(&sql, &[&millis(tx.now), &limit], read)?;
    files
        .into_iter()
        .map(|raw| {
            let sql = "SELECT CASE relay_due WHEN 'extend' THEN keep_until END, relay_attempt
                       FROM attachments WHERE ref = ?1";
            let row = tx.row(sql, &[&raw.name], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?))
            })?;
            let (until, attempt) = row.unwrap_or_default();
            Ok(DueRelayRequest {
                file: open(tx, raw)?,
                request: until.map_or(RelayDue::Delete, |until| RelayDue::Extend(timestamp(until))),
                attempt,
            })
        })
        .collect()
}

/// Delays a file's relay request after a failure. The file's own status and reason stay as they are.
pub fn postpone_relay_request(
    tx: &Tx<'_>,
    name: &str,
    attempt: u32,
    reason: &str,
    next_at: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE attachments SET relay_reason = ?2, relay_attempt = ?3, relay_next_at = ?4
         WHERE ref = ?1 AND relay_due IS NOT NULL",
        &[&name, &reason, &attempt, &millis(next_at)],
    )?;
    Ok(())
}

/// When the relay has to be asked something next.
///
/// # Errors
/// When SQLite fails.
pub fn next_relay_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(relay_next_at) FROM attachments WHERE relay_due IS NOT NULL";
    Ok(tx.value::<Option<i64>>(sql, &[])?.flatten().map(timestamp))
}

/// The relay keeps a blob of ours until then.
///
/// # Errors
/// When SQLite fails.
pub fn extended(tx: &Tx<'_>, name: &str, blob_until: Timestamp) -> Result<(), Fault> {
    let sql = "UPDATE attachments SET blob_until = ?2, relay_due = NULL, relay_reason = NULL, relay_attempt = 0
               WHERE ref = ?1 AND relay_due = 'extend'";
    tx.execute(sql, &[&name, &millis(blob_until)])?;
    Ok(())
}

/// The relay was asked, and there is nothing more to ask.
///
/// # Errors
/// When SQLite fails.
pub fn asked(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    tx.execute(
        "UPDATE attachments SET relay_due = NULL, relay_reason = NULL, relay_attempt = 0 WHERE ref = ?1",
        &[&name],
    )?;
    Ok(())
}
