//! Digests of what was opened before, and the ids of messages that are stored: the memory that makes repetition harmless.

use crate::{
    fault::Fault,
    store::{Tx, millis},
};
use sealpost_proto::{MessageId, limits};

/// Whether this digest was seen in the scope (a mailbox's or a connection's).
///
/// # Errors
/// When SQLite fails.
pub fn has_digest(tx: &Tx<'_>, scope: &str, digest: &[u8; 32]) -> Result<bool, Fault> {
    Ok(tx
        .value::<i64>(
            "SELECT 1 FROM seen WHERE scope = ?1 AND hash = ?2",
            &[&scope, digest],
        )?
        .is_some())
}

/// Remembers a digest.
///
/// # Errors
/// When SQLite fails.
pub fn remember_digest(tx: &Tx<'_>, scope: &str, digest: &[u8; 32]) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO seen (scope, hash, at) VALUES (?1, ?2, ?3)",
        &[&scope, digest, &millis(tx.now)],
    )?;
    Ok(())
}

/// Remembers a message's id; false when the connection's message of that id was stored before.
///
/// # Errors
/// When SQLite fails.
pub fn remember_message(tx: &Tx<'_>, connection: &str, id: &MessageId) -> Result<bool, Fault> {
    let new = tx.execute(
        "INSERT OR IGNORE INTO message_ids (connection, uuid, at) VALUES (?1, ?2, ?3)",
        &[&connection, id.as_bytes(), &millis(tx.now)],
    )?;
    Ok(new == 1)
}

/// Forgets what is older than it has to be kept.
///
/// # Errors
/// When SQLite fails.
pub fn forget_old(tx: &Tx<'_>) -> Result<(), Fault> {
    let digests = millis(tx.now.minus(
        limits::ENVELOPE_LIFETIME_MAX.saturating_add(limits::DIGEST_RETENTION_AFTER_LIFETIME),
    ));
    let ids = millis(tx.now.minus(limits::MESSAGE_ID_RETENTION));
    tx.execute("DELETE FROM seen WHERE at < ?1", &[&digests])?;
    tx.execute("DELETE FROM message_ids WHERE at < ?1", &[&ids])?;
    Ok(())
}
