//! Due receipts. A receipt is committed together with the message that it confirms, and is sealed
//! later in a batch.

use crate::{fault::Fault, store::Tx};
use sealpost_e2ee::payload::{Receipt, ReceiptKind};
use sealpost_node_core::model::{ConnectionId, MessageUuid};
use sealpost_proto::{BlobId, Timestamp, limits};
use sealpost_sqlite::{RowExt as _, to_millis};

const fn kind_as_str(kind: ReceiptKind) -> &'static str {
    match kind {
        ReceiptKind::READ => "read",
        ReceiptKind::FETCHED => "fetched",
        _ => "delivered",
    }
}

/// Adds a due receipt, unless the connection is blocked.
pub(crate) fn add(
    tx: &Tx<'_>,
    connection: ConnectionId,
    uuid: &MessageUuid,
    kind: ReceiptKind,
) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO receipts_due (connection, uuid, kind, at) SELECT ?1, ?2, ?3, ?4
         WHERE NOT EXISTS (SELECT 1 FROM connections WHERE id = ?1 AND status = 'blocked')",
        &[
            &connection.to_string(),
            uuid.as_bytes(),
            &kind_as_str(kind),
            &to_millis(tx.relay_now),
        ],
    )?;
    Ok(())
}

/// Adds a receipt again that may have been lost, with the time of the first one.
pub(crate) fn repeat(
    tx: &Tx<'_>,
    connection: ConnectionId,
    id: &MessageUuid,
    kind: ReceiptKind,
    at: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO receipts_due (connection, uuid, kind, at) VALUES (?1, ?2, ?3, ?4)",
        &[
            &connection.to_string(),
            id.as_bytes(),
            &kind_as_str(kind),
            &to_millis(at),
        ],
    )?;
    Ok(())
}

/// Adds a receipt that confirms the download of a file.
pub(crate) fn add_fetched(
    tx: &Tx<'_>,
    connection: ConnectionId,
    blob: &BlobId,
) -> Result<(), Fault> {
    let id = MessageUuid::from_bytes(*blob.as_bytes());
    add(tx, connection, &id, ReceiptKind::FETCHED)
}

/// Deletes the due receipts of a closed connection.
pub(crate) fn delete_for_connection(tx: &Tx<'_>, connection: ConnectionId) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM receipts_due WHERE connection = ?1",
        &[&connection.to_string()],
    )?;
    Ok(())
}

/// Returns the connections with due receipts.
pub(crate) fn find_connections_with_receipts(tx: &Tx<'_>) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT DISTINCT connection FROM receipts_due";
    tx.query_rows(sql, &[], |row| row.parse("connection", ConnectionId::parse))
}

/// Removes the due receipts of a connection and returns them in batches, each of one kind and with
/// up to [`limits::RECEIPT_IDS_MAX`] ids.
pub(crate) fn remove_due(tx: &Tx<'_>, connection: ConnectionId) -> Result<Vec<Receipt>, Fault> {
    let mut receipts = Vec::new();
    for kind in [
        ReceiptKind::DELIVERED,
        ReceiptKind::READ,
        ReceiptKind::FETCHED,
    ] {
        let sql = "DELETE FROM receipts_due WHERE connection = ?1 AND kind = ?2 RETURNING uuid, at";
        let params = (connection.to_string(), kind_as_str(kind));
        let due: Vec<(MessageUuid, Timestamp)> =
            tx.query_rows(sql, &[&params.0, &params.1], |row| {
                Ok((row.id("uuid")?, row.timestamp("at")?))
            })?;
        for batch in due.chunks(limits::RECEIPT_IDS_MAX) {
            receipts.push(Receipt {
                kind,
                ids: batch.iter().map(|(uuid, _)| *uuid).collect(),
                at: batch
                    .iter()
                    .map(|(_, at)| *at)
                    .max()
                    .unwrap_or(tx.relay_now),
            });
        }
    }
    Ok(receipts)
}
