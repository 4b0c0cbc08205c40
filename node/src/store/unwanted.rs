//! Blobs that the relay may have parts of, and that no file is. Each stands here before its first byte leaves.

use super::{Tx, millis, timestamp};
use crate::fault::Fault;
use sealpost_proto::{BlobId, Timestamp};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwanted {
    /// Which.
    pub blob: BlobId,
    /// How often the relay was asked in vain to delete it.
    pub attempt: u32,
}

/// Nobody wants a blob, or not yet.
///
/// # Errors
/// When SQLite fails.
pub fn add(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO unwanted_blobs (blob) VALUES (?1)",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

/// A blob became a file, or the relay has deleted it.
///
/// # Errors
/// When SQLite fails.
pub fn remove(tx: &Tx<'_>, blob: &BlobId) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM unwanted_blobs WHERE blob = ?1",
        &[blob.as_bytes()],
    )?;
    Ok(())
}

/// Whether nobody wants a blob.
///
/// # Errors
/// When SQLite fails.
pub fn contains(tx: &Tx<'_>, blob: &BlobId) -> Result<bool, Fault> {
    Ok(tx
        .value::<i64>(
            "SELECT 1 FROM unwanted_blobs WHERE blob = ?1",
            &[blob.as_bytes()],
        )?
        .is_some())
}

/// Those that the relay may be asked about now.
///
/// # Errors
/// When SQLite fails.
pub fn due(tx: &Tx<'_>) -> Result<Vec<Unwanted>, Fault> {
    tx.rows(
        "SELECT blob, attempt FROM unwanted_blobs WHERE next_at <= ?1",
        &[&millis(tx.now)],
        |row| {
            Ok(Unwanted {
                blob: BlobId::from_bytes(row.get(0)?),
                attempt: row.get(1)?,
            })
        },
    )
}

/// When the relay may be asked about the next one that waits.
///
/// # Errors
/// When SQLite fails.
pub fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) FROM unwanted_blobs WHERE next_at > ?1";
    Ok(tx
        .value::<Option<i64>>(sql, &[&millis(tx.now)])?
        .flatten()
        .map(timestamp))
}

/// The relay did not delete it: it is asked again then.
///
/// # Errors
/// When SQLite fails.
pub fn postpone(tx: &Tx<'_>, unwanted: &Unwanted, next_at: Timestamp) -> Result<(), Fault> {
    let sql = "UPDATE unwanted_blobs SET attempt = ?2, next_at = ?3 WHERE blob = ?1";
    tx.execute(
        sql,
        &[
            unwanted.blob.as_bytes(),
            &(unwanted.attempt + 1),
            &millis(next_at),
        ],
    )?;
    Ok(())
}

/// Lets the relay be asked at once: it is back.
///
/// # Errors
/// When SQLite fails.
pub fn hurry(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "UPDATE unwanted_blobs SET next_at = 0 WHERE next_at > 0",
        &[],
    )?;
    Ok(())
}
