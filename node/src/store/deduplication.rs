//! Deduplication of received data: digests of opened envelopes and ratchet messages, and message
//! uuids.

use crate::{
    fault::Fault,
    store::{Tx, connections},
};
use sealpost_node_core::model::{ConnectionId, MessageUuid};
use sealpost_proto::{MailboxId, Timestamp, limits};
use sealpost_sqlite::{RowExt as _, to_millis};
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

/// Returns whether a message or a payload of an unknown kind has been received.
pub(crate) fn has_uuid(
    tx: &Tx<'_>,
    connection: ConnectionId,
    uuid: &MessageUuid,
) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM received_uuids WHERE connection = ?1 AND uuid = ?2";
    let found: Option<i64> = tx.query_value(sql, &[&connection.to_string(), uuid.as_bytes()])?;
    Ok(found.is_some())
}

/// Deletes the digests and uuids of a connection.
pub(super) fn delete_for_connection(tx: &Tx<'_>, connection: ConnectionId) -> Result<(), Fault> {
    let id = connection.to_string();
    tx.execute("DELETE FROM opened_digests WHERE scope = ?1", &[&id])?;
    tx.execute("DELETE FROM received_uuids WHERE connection = ?1", &[&id])?;
    Ok(())
}

/// Deletes rows that are too old for a duplicate to arrive. Digests of ratchet messages are retained
/// while their session is current.
pub(crate) fn delete_old(tx: &Tx<'_>) -> Result<(), Fault> {
    let retention =
        limits::ENVELOPE_LIFETIME_MAX.saturating_add(limits::DIGEST_RETENTION_AFTER_LIFETIME);
    let before = tx.now.minus(retention);
    let sql = "SELECT DISTINCT scope FROM opened_digests WHERE at < ?1";
    let scopes: Vec<String> = tx.query_rows(sql, &[&to_millis(before)], |row| row.read("scope"))?;
    for scope in scopes {
        let before = match ConnectionId::parse(&scope) {
            Ok(connection) => before.min(find_session_start(tx, connection)?),
            Err(_) => before,
        };
        let sql = "DELETE FROM opened_digests WHERE scope = ?1 AND at < ?2";
        tx.execute(sql, &[&scope, &to_millis(before)])?;
    }
    let uuids = to_millis(tx.now.minus(limits::MESSAGE_ID_RETENTION));
    tx.execute("DELETE FROM received_uuids WHERE at < ?1", &[&uuids])?;
    Ok(())
}

/// Returns when the current session of a connection started, with a margin for the difference
/// between the clocks.
fn find_session_start(tx: &Tx<'_>, connection: ConnectionId) -> Result<Timestamp, Fault> {
    let started = connections::load_secrets(tx, connection)?
        .secrets
        .sessions
        .current_started();
    Ok(started.map_or(tx.now, |at| {
        at.minus(limits::DIGEST_RETENTION_AFTER_LIFETIME)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connected_pair;

    #[test]
    fn digests_of_the_current_session_are_retained() {
        let mut pair = connected_pair(900);
        pair.acme.send(pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.bolt.receive(&sealed[0]);
        let to_acme = pair.to_acme.to_string();
        let digests = format!("SELECT count(*) FROM opened_digests WHERE scope = '{to_acme}'");
        let before = pair.bolt.query_number(&digests);
        assert!(before > 0);
        pair.bolt.advance(limits::MESSAGE_ID_RETENTION);
        pair.bolt.step(|tx, _| delete_old(tx));
        assert_eq!(pair.bolt.query_number(&digests), before);
        let id = pair.to_acme;
        pair.bolt.step(|tx, _| {
            let mut loaded = connections::load_secrets(tx, id)?;
            loaded.secrets.discard_sessions(tx.relay_now, tx.rng);
            connections::save(tx, &mut loaded)?;
            delete_old(tx)
        });
        assert_eq!(pair.bolt.query_number(&digests), 0);
    }
}
