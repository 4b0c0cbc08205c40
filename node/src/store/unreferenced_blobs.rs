//! Blobs of which the relay may have parts, although no stored file references them. A blob whose
//! upload starts before its file is stored is listed here first, so that a crash cannot leave
//! parts at the relay that nobody deletes.

use crate::{fault::Fault, store::Tx};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::{RowExt as _, to_millis};

/// Blob that no stored file references. The relay has to delete it, unless its file is still being
/// sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnreferencedBlob {
    pub blob: BlobId,
    /// Number of failed requests to delete the blob.
    pub attempt: u32,
}

pub(crate) fn add(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO unreferenced_blobs (blob) VALUES (?1)",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

/// Removes a blob that a file references now, or that the relay has deleted.
pub(crate) fn remove(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM unreferenced_blobs WHERE blob = ?1",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

pub(crate) fn contains(tx: &Tx<'_>, blob: &BlobId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM unreferenced_blobs WHERE blob = ?1";
    Ok(tx.query_value::<i64>(sql, &[blob.as_bytes()])?.is_some())
}

/// Returns the blobs whose deletion is due.
pub(crate) fn load_due(tx: &Tx<'_>) -> Result<Vec<UnreferencedBlob>, Fault> {
    tx.query_rows(
        "SELECT blob, attempt FROM unreferenced_blobs WHERE next_at <= ?1",
        &[&to_millis(tx.now)],
        |row| {
            Ok(UnreferencedBlob {
                blob: row.id("blob")?,
                attempt: row.read("attempt")?,
            })
        },
    )
}

/// Returns when the next deletion is due.
pub(crate) fn find_next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) AS next_at FROM unreferenced_blobs WHERE next_at > ?1";
    let due = tx.query_row(sql, &[&to_millis(tx.now)], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}

/// Delays the next request to delete a blob.
pub(crate) fn postpone(
    tx: &Tx<'_>,
    unreferenced: &UnreferencedBlob,
    next_at: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE unreferenced_blobs SET attempt = ?2, next_at = ?3 WHERE blob = ?1",
        &[
            unreferenced.blob.as_bytes(),
            &(unreferenced.attempt + 1),
            &to_millis(next_at),
        ],
    )?;
    Ok(())
}

/// Makes all deletions due now, because the relay responds again.
pub(crate) fn make_due_now(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE unreferenced_blobs SET next_at = 0 WHERE next_at > 0",
        &[],
    )?;
    Ok(())
}
