//! Events of kinds that this version does not show, kept as they came for the version that will.

use crate::{
    fault::Fault,
    store::{Tx, millis},
};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::connection::Frame;

/// Keeps one event.
///
/// # Errors
/// When SQLite fails.
pub fn insert(
    tx: &mut Tx<'_>,
    connection: &str,
    frame: &Frame,
    kind: Kind,
    body: &[u8],
) -> Result<(), Fault> {
    let body = tx.seal("kept", frame.message_id.as_bytes(), "body", 1, body);
    tx.execute(
        "INSERT OR IGNORE INTO kept (connection, uuid, kind, seq, sent_at, body, received_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            &connection,
            frame.message_id.as_bytes(),
            &kind.0,
            &i64::try_from(frame.seq).unwrap_or(i64::MAX),
            &millis(frame.sent_at),
            &body,
            &millis(tx.now),
        ],
    )?;
    Ok(())
}
