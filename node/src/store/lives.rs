//! Lives: the order of the incarnations of a peer, as far as messages of them have arrived.

use crate::{fault::Fault, store::Tx};
use sealpost_e2ee::Incarnation;
use sealpost_node_core::{
    connection::MessageMetadata,
    model::{ConnectionId, SenderPosition, assign_life},
};
use sealpost_proto::Timestamp;
use sealpost_sqlite::to_integer;

/// Returns the place of a message among those of its sender. Assigns a life to the incarnation when
/// its first message arrives. `current` is the current incarnation of the peer.
pub(crate) fn find_position(
    tx: &Tx<'_>,
    connection: ConnectionId,
    current: Option<Incarnation>,
    message: &MessageMetadata,
) -> Result<SenderPosition, Fault> {
    Ok(SenderPosition {
        life: find_or_assign(tx, connection, current, message)?,
        seq: message.seq,
    })
}

fn find_or_assign(
    tx: &Tx<'_>,
    connection: ConnectionId,
    current: Option<Incarnation>,
    message: &MessageMetadata,
) -> Result<u64, Fault> {
    let incarnation = message.incarnation;
    if let Some(life) = find(tx, connection, incarnation)? {
        return Ok(life);
    }
    let is_current = current == Some(incarnation);
    if let Some(current) = current.filter(|_| !is_current)
        && find(tx, connection, current)?.is_none()
    {
        assign(tx, connection, current, true, tx.relay_now)?;
    }
    assign(tx, connection, incarnation, is_current, message.sent_at)
}

fn find(
    tx: &Tx<'_>,
    connection: ConnectionId,
    incarnation: Incarnation,
) -> Result<Option<u64>, Fault> {
    let sql = "SELECT life FROM lives WHERE connection = ?1 AND incarnation = ?2";
    tx.query_value(sql, &[&connection.to_string(), incarnation.as_bytes()])
}

fn assign(
    tx: &Tx<'_>,
    connection: ConnectionId,
    incarnation: Incarnation,
    is_current: bool,
    sent_at: Timestamp,
) -> Result<u64, Fault> {
    let connection = connection.to_string();
    let sql = "SELECT max(life) FROM lives WHERE connection = ?1";
    let highest: Option<Option<u64>> = tx.query_value(sql, &[&connection])?;
    // A time in the future would push all later incarnations there too.
    let sent_at = sent_at.min(tx.relay_now);
    let life = assign_life(highest.flatten(), is_current, sent_at);
    tx.execute(
        "INSERT INTO lives (connection, incarnation, life) VALUES (?1, ?2, ?3)",
        &[&connection, incarnation.as_bytes(), &to_integer(life)],
    )?;
    Ok(life)
}
