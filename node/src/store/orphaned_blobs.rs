//! Orphaned blobs: the relay may have parts of them, but no file references them. A blob is listed
//! here before its first byte is uploaded, so that a crash cannot leave unlisted parts behind.

use crate::{fault::Fault, store::Tx};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::{RowExt as _, to_millis};

/// Blob that the relay has to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrphanedBlob {
    pub blob: BlobId,
    /// Number of failed requests to delete the blob.
    pub attempt: u32,
}

pub(crate) fn add(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO orphaned_blobs (blob) VALUES (?1)",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

/// Removes a blob that a file references now, or that the relay has deleted.
pub(crate) fn remove(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM orphaned_blobs WHERE blob = ?1",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

pub(crate) fn contains(tx: &Tx<'_>, blob: &BlobId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM orphaned_blobs WHERE blob = ?1";
    Ok(tx.query_value::<i64>(sql, &[blob.as_bytes()])?.is_some())
}

/// Returns the blobs whose deletion is due.
pub(crate) fn load_due(tx: &Tx<'_>) -> Result<Vec<OrphanedBlob>, Fault> {
    tx.query_rows(
        "SELECT blob, attempt FROM orphaned_blobs WHERE next_at <= ?1",
        &[&to_millis(tx.now)],
        |row| {
            Ok(OrphanedBlob {
                blob: row.id("blob")?,
                attempt: row.read("attempt")?,
            })
        },
    )
}

/// Returns when the next deletion is due.
pub(crate) fn find_next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) AS next_at FROM orphaned_blobs WHERE next_at > ?1";
    let due = tx.query_row(sql, &[&to_millis(tx.now)], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}

/// Delays the next request to delete a blob.
pub(crate) fn postpone(
    tx: &Tx<'_>,
    orphan: &OrphanedBlob,
    next_at: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE orphaned_blobs SET attempt = ?2, next_at = ?3 WHERE blob = ?1",
        &[
            orphan.blob.as_bytes(),
            &(orphan.attempt + 1),
            &to_millis(next_at),
        ],
    )?;
    Ok(())
}

/// Makes all deletions due now, because the relay responds again.
pub(crate) fn make_due_now(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE orphaned_blobs SET next_at = 0 WHERE next_at > 0",
        &[],
    )?;
    Ok(())
}
