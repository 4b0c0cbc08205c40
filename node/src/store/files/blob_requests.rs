//! Lifetime of our blobs at the relay. The relay stores a blob as long as a recipient may still
//! download it. A request to the relay is stored with the file, in the transaction that requires
//! it, and is sent later.

use super::{COLUMNS, StoredFile, advance, read};
use crate::{
    fault::Fault,
    files::DiskFileId,
    store::{Tx, attachments, deliveries::DeliveryKey},
};
use rusqlite::Row;
use sealpost_node_core::model::{ConnectionId, FileId, FileStatus, MessageRowId};
use sealpost_proto::{BlobId, Timestamp, limits};
use sealpost_sqlite::{RowError, RowExt as _, to_millis};

/// Pending request to the relay about one of our blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobRequest {
    /// Extends the blob's lifetime to at least this time.
    Extend(Timestamp),
    /// Deletes the blob. The local file is deleted once the outbox does not need it any more.
    Delete,
}

/// Selects the messages that need a file: a recipient has not reported its download, and has the
/// message or may still receive it. An envelope that the relay reports as expired may have arrived.
const NEEDED: &str = "SELECT 1 FROM attachments a JOIN deliveries d ON d.message = a.message
    WHERE a.file = ?1 AND NOT EXISTS (
        SELECT 1 FROM delivery_files g WHERE g.message = d.message
        AND g.connection = d.connection AND g.file = a.file AND g.status = 'fetched')
    AND (d.status <> 'failed' OR d.code IS NULL \
    OR d.code IN ('expired', 'unconfirmed', 'unknown'))";

/// Records that the relay stores our complete blob until `blob_until`. Returns false if the file
/// was not uploading any more.
pub(crate) fn set_uploaded(tx: &Tx<'_>, id: FileId, blob_until: Timestamp) -> Result<bool, Fault> {
    if !advance(tx, id, FileStatus::Uploaded, None)? {
        return Ok(false);
    }
    tx.execute(
        "UPDATE files SET blob_until = ?2, keep_until = NULL, blob_request = NULL,
             blob_request_reason = NULL
         WHERE id = ?1",
        &[&id.to_string(), &to_millis(blob_until)],
    )?;
    Ok(true)
}

/// Records that a recipient has downloaded our file, for the messages sent to this recipient. Its
/// receipt calls this *fetched*.
pub(crate) fn record_fetched(
    tx: &Tx<'_>,
    connection: ConnectionId,
    blob: &BlobId,
    at: Timestamp,
) -> Result<(), Fault> {
    let sql = "SELECT id FROM files WHERE blob = ?1 AND direction = 'out'";
    let Some(id) = tx.query_row(sql, &[blob.as_bytes()], |row| {
        row.parse("id", FileId::parse)
    })?
    else {
        return Ok(());
    };
    let added = tx.execute(
        "INSERT OR IGNORE INTO delivery_files (message, connection, file, status, at)
         SELECT d.message, d.connection, a.file, 'fetched', ?3
         FROM attachments a JOIN deliveries d ON d.message = a.message
         WHERE a.file = ?1 AND d.connection = ?2",
        &[
            &id.to_string(),
            &connection.to_string(),
            &to_millis(at.min(tx.now)),
        ],
    )?;
    if added > 0 {
        release_unless_needed(tx, id)?;
    }
    Ok(())
}

/// Returns the connections that sent a file.
pub(crate) fn find_senders(tx: &Tx<'_>, id: FileId) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT DISTINCT m.author_connection FROM attachments a
               JOIN messages m ON m.id = a.message
               WHERE a.file = ?1 AND m.author_connection IS NOT NULL";
    tx.query_rows(sql, &[&id.to_string()], |row| {
        row.parse("author_connection", ConnectionId::parse)
    })
}

/// Releases the files of a failed message, unless another message needs them.
pub(crate) fn release_for_message(tx: &Tx<'_>, message: MessageRowId) -> Result<(), Fault> {
    attachments::find_files_for_message(tx, message)?
        .into_iter()
        .try_for_each(|file| release_unless_needed(tx, file))
}

/// Releases our file if no message needs it any more.
pub(crate) fn release_unless_needed(tx: &Tx<'_>, id: FileId) -> Result<(), Fault> {
    if tx.query_value::<i64>(NEEDED, &[&id.to_string()])?.is_none() {
        release(tx, id)
    } else {
        Ok(())
    }
}

fn release(tx: &Tx<'_>, id: FileId) -> Result<(), Fault> {
    if was_uploaded(tx, id)? {
        advance(tx, id, FileStatus::Released, None)?;
    } else {
        let reason = Some("its message was not sent");
        advance(tx, id, FileStatus::Cancelled, reason)?;
    }
    tx.execute(
        "UPDATE files SET blob_request = 'delete', blob_request_reason = NULL,
             blob_request_attempt = 0, blob_request_next_at = 0
         WHERE id = ?1 AND direction = 'out' AND status IN ('released', 'cancelled', 'failed')",
        &[&id.to_string()],
    )?;
    Ok(())
}

/// Returns whether our file was completely uploaded before, so that it is now uploaded again if at
/// all.
pub(crate) fn was_uploaded(tx: &Tx<'_>, id: FileId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM files WHERE id = ?1 AND blob_until IS NOT NULL";
    Ok(tx.query_value::<i64>(sql, &[&id.to_string()])?.is_some())
}

/// Releases our file because it cannot be uploaded again.
pub(crate) fn release_after_failure(tx: &Tx<'_>, id: FileId, reason: &str) -> Result<(), Fault> {
    release(tx, id)?;
    tx.execute(
        "UPDATE files SET reason = ?2 WHERE id = ?1 AND status = 'released'",
        &[&id.to_string(), &reason],
    )?;
    Ok(())
}

/// Requests that the relay stores the files of a message at least until a given time.
pub(crate) fn request_extension(
    tx: &Tx<'_>,
    message: MessageRowId,
    until: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET blob_request = 'extend', blob_request_reason = NULL,
             blob_request_attempt = 0, blob_request_next_at = 0, keep_until = ?2
         WHERE id IN (SELECT file FROM attachments WHERE message = ?1)
             AND status = 'uploaded' AND blob_until < ?2
             AND (keep_until IS NULL OR keep_until < ?2)",
        &[&message.as_i64(), &to_millis(until)],
    )?;
    Ok(())
}

/// Maintains our blobs at the relay. Extends the blobs of pending messages before they expire.
/// Uploads an expired blob again if a pending message needs it, and releases it otherwise.
pub(crate) fn maintain_blobs(tx: &Tx<'_>) -> Result<(), Fault> {
    let lifetime =
        limits::ENVELOPE_LIFETIME_DEFAULT.saturating_add(limits::BLOB_LIFETIME_AFTER_MESSAGE);
    let sql = "SELECT DISTINCT d.message FROM files f JOIN attachments a ON a.file = f.id
               JOIN deliveries d ON d.message = a.message
               WHERE f.status = 'uploaded' AND d.status = 'pending'
                   AND f.blob_until > ?1 AND f.blob_until < ?2";
    let extend_before = tx
        .relay_now
        .plus(lifetime)
        .minus(limits::BLOB_EXTENSION_INTERVAL);
    let waiting = tx.query_rows(
        sql,
        &[&to_millis(tx.relay_now), &to_millis(extend_before)],
        |row| Ok(MessageRowId::from_i64(row.read("message")?)),
    )?;
    for message in waiting {
        request_extension(tx, message, tx.relay_now.plus(lifetime))?;
    }
    let sql = "SELECT id FROM files WHERE status = 'uploaded' AND blob_until <= ?1";
    let expired = tx.query_rows(sql, &[&to_millis(tx.relay_now)], |row| {
        row.parse("id", FileId::parse)
    })?;
    expired.into_iter().try_for_each(|id| {
        if has_pending_message(tx, id)? {
            upload_again(tx, id)
        } else {
            release(tx, id)
        }
    })
}

fn has_pending_message(tx: &Tx<'_>, id: FileId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM attachments a JOIN deliveries d ON d.message = a.message
               WHERE a.file = ?1 AND d.status = 'pending'";
    Ok(tx.query_value::<i64>(sql, &[&id.to_string()])?.is_some())
}

/// Restarts the upload of the same bytes, because the relay has lost the blob.
pub(crate) fn upload_again(tx: &Tx<'_>, id: FileId) -> Result<(), Fault> {
    complete_blob_request(tx, id)?;
    let reason = Some("the relay has lost the file");
    advance(tx, id, FileStatus::Uploading, reason).map(|_| ())
}

/// Uploads the released files of a message again, because the message is sent again to one
/// recipient, who may have lost them.
pub(crate) fn reclaim_for_delivery(tx: &Tx<'_>, key: &DeliveryKey) -> Result<(), Fault> {
    let sql = "SELECT f.id FROM attachments a JOIN files f ON f.id = a.file
               WHERE a.message = ?1 AND f.status = 'released' AND f.on_disk";
    let released = tx.query_rows(sql, &[&key.message.as_i64()], |row| {
        row.parse("id", FileId::parse)
    })?;
    for id in released {
        tx.execute(
            "DELETE FROM delivery_files WHERE message = ?1 AND connection = ?2 AND file = ?3",
            &[
                &key.message.as_i64(),
                &key.connection.to_string(),
                &id.to_string(),
            ],
        )?;
        complete_blob_request(tx, id)?;
        let reason = Some("its message is sent again");
        advance(tx, id, FileStatus::Uploading, reason)?;
    }
    Ok(())
}

/// Returns the outgoing files on the disk that are deleted at the relay and that no message in the
/// outbox needs, and records that they are no longer on the disk. The caller deletes them.
pub(crate) fn forget_released(tx: &Tx<'_>) -> Result<Vec<DiskFileId>, Fault> {
    let sql = "UPDATE files SET on_disk = 0
               WHERE direction = 'out' AND on_disk AND blob_request IS NULL
                   AND status IN ('released', 'cancelled', 'failed')
                   AND NOT EXISTS (SELECT 1 FROM attachments a JOIN outbox o ON o.message = a.message
                       WHERE a.file = files.id)
               RETURNING disk_file";
    tx.query_rows(sql, &[], |row| {
        Ok(DiskFileId::from_bytes(row.read("disk_file")?))
    })
}

/// Due blob request.
pub(crate) struct DueBlobRequest {
    pub file: StoredFile,
    pub request: BlobRequest,
    /// Number of consecutive failed attempts of this request.
    pub attempt: u32,
}

/// Returns up to `limit` blob requests that are due.
pub(crate) fn load_due_blob_requests(
    tx: &Tx<'_>,
    limit: usize,
) -> Result<Vec<DueBlobRequest>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS}, f.blob_request, f.keep_until, f.blob_request_attempt FROM files f
         WHERE f.blob_request IS NOT NULL AND f.blob_request_next_at <= ?1
         ORDER BY f.blob_request_next_at, f.position LIMIT ?2"
    );
    let rows = tx.query_rows(&sql, &[&to_millis(tx.now), &limit], |row| {
        Ok((
            read(row)?,
            read_request(row)?,
            row.read("blob_request_attempt")?,
        ))
    })?;
    rows.into_iter()
        .map(|(sealed, request, attempt)| {
            Ok(DueBlobRequest {
                file: sealed.open(tx)?,
                request,
                attempt,
            })
        })
        .collect()
}

fn read_request(row: &Row<'_>) -> Result<BlobRequest, RowError> {
    let until = row.optional_timestamp("keep_until")?;
    row.parse("blob_request", |kind| match (kind, until) {
        ("extend", Some(until)) => Some(BlobRequest::Extend(until)),
        ("delete", _) => Some(BlobRequest::Delete),
        _ => None,
    })
}

/// Delays a blob request after a failure. The file's own status and reason do not change.
pub(crate) fn postpone_blob_request(
    tx: &Tx<'_>,
    id: FileId,
    attempt: u32,
    reason: &str,
    next_at: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET blob_request_reason = ?2, blob_request_attempt = ?3,
             blob_request_next_at = ?4
         WHERE id = ?1 AND blob_request IS NOT NULL",
        &[&id.to_string(), &reason, &attempt, &to_millis(next_at)],
    )?;
    Ok(())
}

/// Returns when the next blob request is due.
pub(crate) fn find_next_blob_request(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql =
        "SELECT min(blob_request_next_at) AS next_at FROM files WHERE blob_request IS NOT NULL";
    let due = tx.query_row(sql, &[], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}

/// Records that the relay stores our blob until `blob_until`.
pub(crate) fn set_extended(tx: &Tx<'_>, id: FileId, blob_until: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET blob_until = ?2, blob_request = NULL, blob_request_reason = NULL,
             blob_request_attempt = 0
         WHERE id = ?1 AND blob_request = 'extend'",
        &[&id.to_string(), &to_millis(blob_until)],
    )?;
    Ok(())
}

/// Records that the relay has carried out the request.
pub(crate) fn complete_blob_request(tx: &Tx<'_>, id: FileId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET blob_request = NULL, blob_request_reason = NULL, blob_request_attempt = 0
         WHERE id = ?1",
        &[&id.to_string()],
    )?;
    Ok(())
}
