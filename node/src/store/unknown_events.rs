//! Events of unknown kinds, stored unchanged for a later version that supports them.

use crate::{fault::Fault, store::Tx};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::{connection::MessageMetadata, model::ConnectionId};
use sealpost_sqlite::{to_integer, to_millis};

pub(crate) fn insert(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    frame: &MessageMetadata,
    kind: Kind,
    payload: &[u8],
) -> Result<(), Fault> {
    let key = [
        frame.message_id.as_bytes().as_slice(),
        connection.to_string().as_bytes(),
    ]
    .concat();
    let payload = tx.seal("unknown_events", &key, "payload", 1, payload);
    tx.execute(
        "INSERT OR IGNORE INTO unknown_events
             (connection, uuid, kind, seq, sent_at, payload, received_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            &connection.to_string(),
            frame.message_id.as_bytes(),
            &kind.0,
            &to_integer(frame.seq),
            &to_millis(frame.sent_at),
            &payload,
            &to_millis(tx.now),
        ],
    )?;
    Ok(())
}
