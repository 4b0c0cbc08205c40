//! Deduplication of received data: digests of opened envelopes and ratchet messages, and message
//! uuids.

use crate::{fault::Fault, store::Tx};
use sealpost_node_core::model::{ConnectionId, MessageUuid};
use sealpost_proto::{MailboxId, limits};
use sealpost_sqlite::to_millis;
use std::fmt;

/// Scope of a digest: a mailbox for envelopes, a connection for ratchet messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigestScope {
    Mailbox(MailboxId),
    Connection(ConnectionId),
}

impl fmt::Display for DigestScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(id) => id.fmt(f),
            Self::Connection(id) => id.fmt(f),
        }
    }
}

pub(crate) fn has_digest(
    tx: &Tx<'_>,
    scope: DigestScope,
    digest: &[u8; 32],
) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM opened_digests WHERE scope = ?1 AND digest = ?2";
    Ok(tx
        .query_value::<i64>(sql, &[&scope.to_string(), digest])?
        .is_some())
}

pub(crate) fn record_digest(
    tx: &Tx<'_>,
    scope: DigestScope,
    digest: &[u8; 32],
) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO opened_digests (scope, digest, at) VALUES (?1, ?2, ?3)",
        &[&scope.to_string(), digest, &to_millis(tx.now)],
    )?;
    Ok(())
}

/// Records the uuid of a received message, or of a payload of an unknown kind. Returns false if it
/// is a duplicate.
pub(crate) fn record_uuid(
    tx: &Tx<'_>,
    connection: ConnectionId,
    uuid: &MessageUuid,
) -> Result<bool, Fault> {
    let added = tx.execute(
        "INSERT OR IGNORE INTO received_uuids (connection, uuid, at) VALUES (?1, ?2, ?3)",
        &[&connection.to_string(), uuid.as_bytes(), &to_millis(tx.now)],
    )?;
    Ok(added == 1)
}

/// Deletes the digests and uuids of a connection.
pub(super) fn delete_for_connection(tx: &Tx<'_>, connection: ConnectionId) -> Result<(), Fault> {
    let id = connection.to_string();
    tx.execute("DELETE FROM opened_digests WHERE scope = ?1", &[&id])?;
    tx.execute("DELETE FROM received_uuids WHERE connection = ?1", &[&id])?;
    Ok(())
}

/// Deletes rows that are too old for a duplicate to arrive.
pub(crate) fn delete_old(tx: &Tx<'_>) -> Result<(), Fault> {
    let retention =
        limits::ENVELOPE_LIFETIME_MAX.saturating_add(limits::DIGEST_RETENTION_AFTER_LIFETIME);
    let digests = to_millis(tx.now.minus(retention));
    let uuids = to_millis(tx.now.minus(limits::MESSAGE_ID_RETENTION));
    tx.execute("DELETE FROM opened_digests WHERE at < ?1", &[&digests])?;
    tx.execute("DELETE FROM received_uuids WHERE at < ?1", &[&uuids])?;
    Ok(())
}
