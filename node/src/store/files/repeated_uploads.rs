//! Files whose blob the relay has lost. A recipient asks the sender to upload such a file again;
//! the sender counts the uploads that each recipient causes.

use super::{StoredFile, TABLE, advance, complete_blob_request, select};
use crate::{
    fault::Fault,
    store::{
        Tx,
        events::{self, Subject},
    },
};
use rusqlite::Row;
use sealpost_node_core::model::{ConnectionId, FileId, FileStatus, MessageUuid};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::{Damaged, RowError, RowExt as _, to_millis};

/// Returns our file with a given blob, if a given message sent it to a connection.
pub(crate) fn find_sent(
    tx: &Tx<'_>,
    connection: ConnectionId,
    message: &MessageUuid,
    blob: &BlobId,
) -> Result<Option<StoredFile>, Fault> {
    let condition = "f.blob = ?1 AND f.direction = 'out' AND EXISTS (
        SELECT 1 FROM attachments a JOIN messages m ON m.id = a.message
            JOIN deliveries d ON d.message = m.id
        WHERE a.file = f.id AND m.uuid = ?2 AND m.author_user IS NOT NULL AND d.connection = ?3)";
    let params = (blob.as_bytes(), message.as_bytes(), connection.to_string());
    Ok(select(tx, condition, &[params.0, params.1, &params.2])?.pop())
}

/// Uploads that a recipient has caused of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RepeatedUploads {
    pub uploads: u32,
    /// When the recipient caused the last one.
    pub requested_at: Timestamp,
}

pub(crate) fn find_repeated_uploads(
    tx: &Tx<'_>,
    connection: ConnectionId,
    file: FileId,
) -> Result<Option<RepeatedUploads>, Fault> {
    let sql = "SELECT uploads, requested_at FROM upload_requests
               WHERE connection = ?1 AND file = ?2";
    tx.query_row(sql, &[&connection.to_string(), &file.to_string()], |row| {
        Ok(RepeatedUploads {
            uploads: row.read("uploads")?,
            requested_at: row.timestamp("requested_at")?,
        })
    })
}

/// Counts the files that one recipient, or all, have made this node upload again after `since`.
pub(crate) fn count_repeated_uploads(
    tx: &Tx<'_>,
    connection: Option<ConnectionId>,
    since: Timestamp,
) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM upload_requests
               WHERE requested_at > ?1 AND (?2 IS NULL OR connection = ?2)";
    let connection = connection.map(|connection| connection.to_string());
    let count = tx.query_value(sql, &[&to_millis(since), &connection])?;
    Ok(count.unwrap_or(0))
}

/// Records that a recipient waits for a file. `repeated` are the uploads that it has caused.
pub(crate) fn set_upload_request(
    tx: &Tx<'_>,
    connection: ConnectionId,
    file: FileId,
    message: &MessageUuid,
    repeated: RepeatedUploads,
) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR REPLACE INTO upload_requests
             (connection, file, message, uploads, requested_at, is_open)
         VALUES (?1, ?2, ?3, ?4, ?5, 1)",
        &[
            &connection.to_string(),
            &file.to_string(),
            message.as_bytes(),
            &repeated.uploads,
            &to_millis(repeated.requested_at),
        ],
    )?;
    Ok(())
}

/// Starts the upload of the same bytes for a recipient that could not fetch them. Returns false if
/// this node does not have them any more.
pub(crate) fn upload_for_recipient(
    tx: &Tx<'_>,
    id: FileId,
    connection: ConnectionId,
) -> Result<bool, Fault> {
    let text = id.to_string();
    let sql =
        "SELECT 1 FROM files WHERE id = ?1 AND on_disk AND status IN ('uploaded', 'released')";
    if tx.query_value::<i64>(sql, &[&text])?.is_none() {
        return Ok(false);
    }
    // The recipient may have lost what it had reported as fetched.
    tx.execute(
        "DELETE FROM delivery_files WHERE file = ?1 AND connection = ?2",
        &[&text, &connection.to_string()],
    )?;
    complete_blob_request(tx, id)?;
    let reason = "a recipient could not fetch it and asked for it again";
    advance(tx, id, FileStatus::Uploading, Some(reason))
}

/// Request of a recipient whose outcome is known.
pub(crate) struct CompletedUploadRequest {
    pub connection: ConnectionId,
    pub message: MessageUuid,
    pub blob: BlobId,
    /// Whether the relay has the file again.
    pub is_uploaded: bool,
}

/// Closes the requests whose file is no longer being uploaded, and returns them.
pub(crate) fn close_completed_requests(tx: &Tx<'_>) -> Result<Vec<CompletedUploadRequest>, Fault> {
    let sql = "SELECT r.connection, r.file, r.message, f.blob, f.status = 'uploaded' AS is_uploaded
               FROM upload_requests r JOIN files f ON f.id = r.file
               WHERE r.is_open AND f.status <> 'uploading'";
    let completed = tx.query_rows(sql, &[], |row| {
        Ok((row.read::<String>("file")?, read_completed(row)?))
    })?;
    for (file, request) in &completed {
        tx.execute(
            "UPDATE upload_requests SET is_open = 0 WHERE connection = ?1 AND file = ?2",
            &[&request.connection.to_string(), file],
        )?;
    }
    Ok(completed.into_iter().map(|(_, request)| request).collect())
}

fn read_completed(row: &Row<'_>) -> Result<CompletedUploadRequest, RowError> {
    Ok(CompletedUploadRequest {
        connection: row.parse("connection", ConnectionId::parse)?,
        message: row.id("message")?,
        blob: row.id("blob")?,
        is_uploaded: row.read("is_uploaded")?,
    })
}

/// Forgets requests since which no other has come for a long time.
pub(crate) fn delete_old_upload_requests(tx: &Tx<'_>, before: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM upload_requests WHERE requested_at < ?1 AND NOT is_open",
        &[&to_millis(before)],
    )?;
    Ok(())
}

/// Requests of this node to the sender of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileRequests {
    pub requests: u32,
    /// When the sender was asked, until it responds.
    pub requested_at: Option<Timestamp>,
}

pub(crate) fn load_file_requests(tx: &Tx<'_>, id: FileId) -> Result<FileRequests, Fault> {
    let sql = "SELECT requests, requested_at FROM files WHERE id = ?1";
    let requests = tx.query_row(sql, &[&id.to_string()], |row| {
        Ok(FileRequests {
            requests: row.read("requests")?,
            requested_at: row.optional_timestamp("requested_at")?,
        })
    })?;
    requests.ok_or_else(|| Damaged::new(TABLE, "id").into())
}

pub(crate) fn set_file_requests(
    tx: &Tx<'_>,
    id: FileId,
    requests: FileRequests,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET requests = ?2, requested_at = ?3 WHERE id = ?1",
        &[
            &id.to_string(),
            &requests.requests,
            &requests.requested_at.map(to_millis),
        ],
    )?;
    Ok(())
}

/// Returns the messages with which connections sent a file.
pub(crate) fn find_sources(
    tx: &Tx<'_>,
    id: FileId,
) -> Result<Vec<(ConnectionId, MessageUuid)>, Fault> {
    let sql = "SELECT m.author_connection, m.uuid FROM attachments a
               JOIN messages m ON m.id = a.message
               WHERE a.file = ?1 AND m.author_connection IS NOT NULL ORDER BY a.position";
    tx.query_rows(sql, &[&id.to_string()], |row| {
        Ok((
            row.parse("author_connection", ConnectionId::parse)?,
            row.id("uuid")?,
        ))
    })
}

/// Returns the files of a received message that have a given blob and that this node waits for
/// after it asked for them.
pub(crate) fn find_requested(
    tx: &Tx<'_>,
    connection: ConnectionId,
    message: &MessageUuid,
    blob: &BlobId,
) -> Result<Vec<FileId>, Fault> {
    let sql = "SELECT f.id FROM files f JOIN attachments a ON a.file = f.id
                   JOIN messages m ON m.id = a.message
               WHERE f.blob = ?1 AND f.direction = 'in' AND f.requested_at IS NOT NULL
                   AND m.uuid = ?2 AND m.author_connection = ?3";
    let params = (blob.as_bytes(), message.as_bytes(), connection.to_string());
    tx.query_rows(sql, &[params.0, params.1, &params.2], |row| {
        row.parse("id", FileId::parse)
    })
}

/// Makes a waiting download due now, because its sender has uploaded the file again.
pub(crate) fn resume_download(tx: &Tx<'_>, id: FileId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET requested_at = NULL, next_at = 0, reason = NULL WHERE id = ?1",
        &[&id.to_string()],
    )?;
    events::add(tx, Subject::File(id))
}
