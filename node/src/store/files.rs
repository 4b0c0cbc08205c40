//! Sealed files of both directions, each stored once. The file on disk is the sealed blob that is
//! transferred; its key, name and type are sealed in the row.

mod blob_requests;
mod contents;
mod listing;
mod repeated_uploads;

pub(crate) use blob_requests::*;
pub(crate) use contents::*;
pub(crate) use listing::*;
pub(crate) use repeated_uploads::*;

use crate::{
    fault::Fault,
    files::DiskFileId,
    store::{
        Tx,
        events::{self, Subject},
        ids, unreferenced_blobs,
    },
};
use rusqlite::Row;
use sealpost_e2ee::attachment::Descriptor;
use sealpost_node_core::{
    file_type::FileType,
    model::{AttachmentId, Direction, FileId, FileStatus, MessageRowId},
};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::{Damaged, RowError, RowExt as _, to_integer, to_millis};
use zeroize::Zeroizing;

const TABLE: &str = "files";

/// Stored file.
#[derive(Clone)]
pub(crate) struct StoredFile {
    pub(crate) id: FileId,
    /// First attachment that uses the file.
    pub(crate) attachment: AttachmentId,
    pub(crate) direction: Direction,
    pub(crate) status: FileStatus,
    /// Descriptor that opens the blob, without the preview.
    pub(crate) descriptor: Descriptor,
    /// Name of the file in the data directory.
    pub(crate) disk_file: DiskFileId,
    /// Type detected from the content; `None` until the content is on this node.
    pub(crate) file_type: Option<FileType>,
    pub(crate) has_preview: bool,
    /// Number of sealed bytes transferred so far.
    pub(crate) transferred: u64,
    /// Reason why the transfer waits or the file failed.
    pub(crate) reason: Option<String>,
    /// Number of consecutive failed attempts.
    pub(crate) attempt: u32,
}

/// File to be inserted.
pub(crate) struct NewFile<'a> {
    pub direction: Direction,
    pub status: FileStatus,
    /// Descriptor that opens the blob, with the preview.
    pub descriptor: &'a Descriptor,
    /// Type detected from the content, if the content is on this node.
    pub file_type: Option<&'a FileType>,
    pub disk_file: DiskFileId,
    /// SHA-256 digest of each part; empty for an incoming file.
    pub part_digests: &'a [[u8; 32]],
    /// SHA-256 digest of the plaintext of an outgoing file.
    pub content_digest: Option<&'a [u8; 32]>,
}

pub(crate) fn insert(tx: &mut Tx<'_>, new: &NewFile<'_>) -> Result<FileId, Fault> {
    let id: FileId = ids::generate(tx)?;
    let text = id.to_string();
    let without_preview = Descriptor {
        preview: None,
        ..new.descriptor.clone()
    };
    let encoded = encode(&without_preview);
    let descriptor = tx.seal(TABLE, text.as_bytes(), "descriptor", 1, &encoded);
    let preview = new.descriptor.preview.as_ref();
    let preview = preview.map(|preview| tx.seal(TABLE, text.as_bytes(), "preview", 1, preview));
    let content_digest = new
        .content_digest
        .map(|digest| tx.seal(TABLE, text.as_bytes(), "content_digest", 1, digest));
    let file_type = new
        .file_type
        .map(|file_type| seal_file_type(tx, id, file_type))
        .transpose()?;
    tx.execute(
        "INSERT INTO files (id, direction, status, disk_file, blob, descriptor, preview, file_type,
             size, digests, content_digest, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        &[
            &text,
            &new.direction.as_str(),
            &new.status.as_str(),
            new.disk_file.as_bytes(),
            new.descriptor.blob.id.as_bytes(),
            &descriptor,
            &preview,
            &file_type,
            &to_integer(new.descriptor.sealed.pt_len),
            &new.part_digests.concat(),
            &content_digest,
            &to_millis(tx.now),
        ],
    )?;
    Ok(id)
}

fn encode(descriptor: &Descriptor) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    // Writing to a vector cannot fail.
    let _ = descriptor.encode(&mut minicbor::Encoder::new(&mut *bytes));
    bytes
}

/// Columns that [`read`] expects, from the table alias `f`.
pub(super) const COLUMNS: &str = "f.id AS file, f.direction, f.status, f.disk_file, f.transferred,
    f.reason, f.attempt, f.descriptor, f.file_type, f.preview IS NOT NULL AS has_preview,
    (SELECT u.id FROM attachments u WHERE u.file = f.id ORDER BY u.position LIMIT 1)
        AS first_attachment";

/// Row with sealed columns.
pub(super) struct SealedFile {
    id: FileId,
    attachment: AttachmentId,
    direction: Direction,
    status: FileStatus,
    disk_file: DiskFileId,
    transferred: u64,
    reason: Option<String>,
    attempt: u32,
    descriptor: Vec<u8>,
    file_type: Option<Vec<u8>>,
    has_preview: bool,
}

pub(super) fn read(row: &Row<'_>) -> Result<SealedFile, RowError> {
    Ok(SealedFile {
        id: row.parse("file", FileId::parse)?,
        attachment: row.parse("first_attachment", AttachmentId::parse)?,
        direction: row.parse("direction", Direction::parse)?,
        status: row.parse("status", FileStatus::parse)?,
        disk_file: DiskFileId::from_bytes(row.read("disk_file")?),
        transferred: row.read("transferred")?,
        reason: row.read("reason")?,
        attempt: row.read("attempt")?,
        descriptor: row.read("descriptor")?,
        file_type: row.read("file_type")?,
        has_preview: row.read("has_preview")?,
    })
}

impl SealedFile {
    pub(super) fn open(self, tx: &Tx<'_>) -> Result<StoredFile, Fault> {
        let key = self.id.to_string();
        let bytes = tx.open(TABLE, key.as_bytes(), "descriptor", 1, &self.descriptor)?;
        let descriptor = Descriptor::parse(&mut minicbor::Decoder::new(&bytes))
            .map_err(|_| Damaged::new(TABLE, "descriptor"))?;
        let file_type = self.file_type.as_deref();
        Ok(StoredFile {
            id: self.id,
            attachment: self.attachment,
            direction: self.direction,
            status: self.status,
            descriptor,
            disk_file: self.disk_file,
            file_type: file_type
                .map(|sealed| open_file_type(tx, self.id, sealed))
                .transpose()?,
            has_preview: self.has_preview,
            transferred: self.transferred,
            reason: self.reason,
            attempt: self.attempt,
        })
    }
}

/// Returns the files that match a condition on the table alias `f`.
fn select(
    tx: &Tx<'_>,
    condition: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<StoredFile>, Fault> {
    let rows = tx.query_rows(
        &format!("SELECT {COLUMNS} FROM files f WHERE {condition}"),
        params,
        read,
    )?;
    rows.into_iter().map(|row| row.open(tx)).collect()
}

pub(crate) fn load(tx: &Tx<'_>, id: FileId) -> Result<Option<StoredFile>, Fault> {
    Ok(select(tx, "f.id = ?1", &[&id.to_string()])?.pop())
}

/// Returns the messages that use a file.
pub(crate) fn find_messages(tx: &Tx<'_>, id: FileId) -> Result<Vec<MessageRowId>, Fault> {
    let sql = "SELECT DISTINCT message FROM attachments
               WHERE file = ?1 AND message IS NOT NULL ORDER BY message";
    tx.query_rows(sql, &[&id.to_string()], |row| {
        Ok(MessageRowId::from_i64(row.read("message")?))
    })
}

/// Returns up to `limit` files of one direction whose transfer is due, oldest first.
pub(crate) fn load_due_transfers(
    tx: &Tx<'_>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<StoredFile>, Fault> {
    select(
        tx,
        "f.status IN ('uploading', 'waiting', 'downloading') AND f.next_at <= ?1
         AND f.direction = ?3 ORDER BY f.position LIMIT ?2",
        &[&to_millis(tx.now), &limit, &direction.as_str()],
    )
}

/// Returns when the next waiting transfer of a direction is due.
pub(crate) fn find_next_due(tx: &Tx<'_>, direction: Direction) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) AS next_at FROM files
               WHERE status IN ('uploading', 'waiting', 'downloading')
                   AND direction = ?1 AND next_at > ?2";
    let due = tx.query_row(sql, &[&direction.as_str(), &to_millis(tx.now)], |row| {
        row.optional_timestamp(0)
    })?;
    Ok(due.flatten())
}

/// Changes the status of a file if the change is legal, and announces the change. Returns whether
/// the status has changed.
pub(crate) fn advance(
    tx: &Tx<'_>,
    id: FileId,
    to: FileStatus,
    reason: Option<&str>,
) -> Result<bool, Fault> {
    let text = id.to_string();
    let sql = "SELECT status FROM files WHERE id = ?1";
    let from = tx.query_row(sql, &[&text], |row| row.parse("status", FileStatus::parse))?;
    if !from.is_some_and(|from| from.can_become(to)) {
        return Ok(false);
    }
    tx.execute(
        "UPDATE files SET status = ?2, reason = ?3, attempt = 0, next_at = 0 WHERE id = ?1",
        &[&text, &to.as_str(), &reason],
    )?;
    events::add(tx, Subject::File(id))?;
    Ok(true)
}

/// Stores the progress of a transfer and resets its failure count. Announces the change only if the
/// transfer had been waiting, because `transfer` events already report the progress.
pub(crate) fn set_transferred(tx: &Tx<'_>, id: FileId, transferred: u64) -> Result<(), Fault> {
    let text = id.to_string();
    let sql = "SELECT reason IS NOT NULL FROM files WHERE id = ?1";
    let has_waited: Option<bool> = tx.query_value(sql, &[&text])?;
    let changed = tx.execute(
        "UPDATE files SET transferred = ?2, reason = NULL, attempt = 0, next_at = 0
         WHERE id = ?1 AND status IN ('uploading', 'waiting', 'downloading')",
        &[&text, &to_integer(transferred)],
    )?;
    if changed == 1 && has_waited == Some(true) {
        events::add(tx, Subject::File(id))
    } else {
        Ok(())
    }
}

/// Delays a transfer after its `attempt`th consecutive failure.
pub(crate) fn postpone(
    tx: &Tx<'_>,
    id: FileId,
    attempt: u32,
    reason: &str,
    next_at: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET reason = ?2, attempt = ?3, next_at = ?4
         WHERE id = ?1 AND status IN ('uploading', 'waiting', 'downloading')",
        &[&id.to_string(), &reason, &attempt, &to_millis(next_at)],
    )?;
    events::add(tx, Subject::File(id))
}

/// Makes all transfers and blob requests due now, because the relay responds again.
pub(crate) fn make_due_now(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute("UPDATE files SET next_at = 0 WHERE next_at > 0", &[])?;
    tx.execute(
        "UPDATE files SET blob_request_next_at = 0 WHERE blob_request_next_at > 0",
        &[],
    )?;
    Ok(())
}

/// Deletes a staged file that no message uses, and lists its blob as unreferenced, so that its
/// parts at the relay are deleted. Returns whether there was such a file.
pub(crate) fn delete_staged(tx: &Tx<'_>, id: FileId) -> Result<bool, Fault> {
    let text = id.to_string();
    let sql = "SELECT blob FROM files WHERE id = ?1 AND status = 'staged' AND NOT EXISTS (
                   SELECT 1 FROM attachments WHERE file = ?1 AND message IS NOT NULL)";
    let Some(blob) = tx.query_row(sql, &[&text], |row| row.id::<BlobId>("blob"))? else {
        return Ok(false);
    };
    tx.execute("DELETE FROM attachments WHERE file = ?1", &[&text])?;
    tx.execute("DELETE FROM files WHERE id = ?1", &[&text])?;
    unreferenced_blobs::add(tx, &blob)?;
    Ok(true)
}

/// Returns our file with a given blob.
pub(crate) fn find_by_blob(tx: &Tx<'_>, blob: &BlobId) -> Result<Option<StoredFile>, Fault> {
    let condition = "f.blob = ?1 AND f.direction = 'out'";
    Ok(select(tx, condition, &[blob.as_bytes()])?.pop())
}

/// Returns the files that were staged before `before` and that no message uses.
pub(crate) fn find_abandoned(tx: &Tx<'_>, before: Timestamp) -> Result<Vec<StoredFile>, Fault> {
    let condition = "f.status = 'staged' AND f.created_at < ?1";
    select(tx, condition, &[&to_millis(before)])
}

/// Returns whether a row references a file in the data directory.
pub(crate) fn has_disk_file(tx: &Tx<'_>, file: DiskFileId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM files WHERE disk_file = ?1 AND on_disk";
    Ok(tx.query_value::<i64>(sql, &[file.as_bytes()])?.is_some())
}

/// Returns the SHA-256 digest of each part of our blob.
pub(crate) fn load_part_digests(tx: &Tx<'_>, id: FileId) -> Result<Vec<[u8; 32]>, Fault> {
    let sql = "SELECT digests FROM files WHERE id = ?1";
    let digests: Option<Vec<u8>> = tx.query_value(sql, &[&id.to_string()])?;
    match digests.unwrap_or_default().as_chunks() {
        (digests, []) => Ok(digests.to_vec()),
        _ => Err(Damaged::new(TABLE, "digests").into()),
    }
}

/// Returns whether a file is being transferred or queued for transfer.
pub(crate) fn is_transferring(tx: &Tx<'_>, id: FileId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM files
               WHERE id = ?1 AND status IN ('uploading', 'waiting', 'downloading')";
    Ok(tx.query_value::<i64>(sql, &[&id.to_string()])?.is_some())
}
