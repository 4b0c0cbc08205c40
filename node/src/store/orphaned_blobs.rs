//! Blobs that the relay may have parts of although they belong to no file. Each is listed before
//! its first byte leaves.

use crate::{fault::Fault, store::Tx};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::{RowExt as _, to_millis};

/// A blob that the relay is asked to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrphanedBlob {
    pub blob: BlobId,
    /// Failed requests to delete it.
    pub attempt: u32,
}

pub fn add(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO orphaned_blobs (blob) VALUES (?1)",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

/// Removes a blob that has become a file, or that the relay has deleted.
pub fn remove(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM orphaned_blobs WHERE blob = ?1",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

pub fn contains(tx: &Tx<'_>, blob: &BlobId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM orphaned_blobs WHERE blob = ?1";
    Ok(tx.value::<i64>(sql, &[blob.as_bytes()])?.is_some())
}

/// Returns the blobs that the relay is to be asked about now.
pub fn due(tx: &Tx<'_>) -> Result<Vec<OrphanedBlob>, Fault> {
    tx.rows(
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

/// Returns when the next blob that waits is due.
pub fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) AS next_at FROM orphaned_blobs WHERE next_at > ?1";
    let due = tx.row(sql, &[&to_millis(tx.now)], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}

/// Delays a blob that the relay did not delete.
pub fn postpone(tx: &Tx<'_>, orphan: &OrphanedBlob, next_at: Timestamp) -> Result<(), Fault> {
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

/// Makes everything that waits due now, because the relay is back.
pub fn make_due_now(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE orphaned_blobs SET next_at = 0 WHERE next_at > 0",
        &[],
    )?;
    Ok(())
}
