//! Receipts that are due: committed with what they confirm, sealed a little later in batches.

use crate::{
    fault::Fault,
    store::{Tx, millis, timestamp},
};
use sealpost_e2ee::payload::{Receipt, ReceiptKind};
use sealpost_proto::{BlobId, MessageId, limits};

const fn word(kind: ReceiptKind) -> &'static str {
    match kind {
        ReceiptKind::READ => "read",
        ReceiptKind::FETCHED => "fetched",
        _ => "delivered",
    }
}

/// Notes that a receipt is due, unless nothing flows to the connection any more.
///
/// # Errors
/// When SQLite fails.
pub fn add(tx: &Tx<'_>, connection: &str, id: &MessageId, kind: ReceiptKind) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR IGNORE INTO receipts_due (connection, uuid, kind, at) SELECT ?1, ?2, ?3, ?4
         WHERE NOT EXISTS (SELECT 1 FROM connections WHERE ref = ?1 AND status = 'blocked')",
        &[&connection, id.as_bytes(), &word(kind), &millis(tx.now)],
    )?;
    Ok(())
}

/// Notes that the sender of a file is to be told that it is here.
///
/// # Errors
/// When SQLite fails.
pub fn add_fetched(tx: &Tx<'_>, connection: &str, blob: &BlobId) -> Result<(), Fault> {
    add(
        tx,
        connection,
        &MessageId::from_bytes(*blob.as_bytes()),
        ReceiptKind::FETCHED,
    )
}

/// A connection has ended: nothing more is told to it.
///
/// # Errors
/// When SQLite fails.
pub fn forget(tx: &Tx<'_>, connection: &str) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM receipts_due WHERE connection = ?1",
        &[&connection],
    )?;
    Ok(())
}

/// The connections that have receipts due.
///
/// # Errors
/// When SQLite fails.
pub fn connections(tx: &Tx<'_>) -> Result<Vec<String>, Fault> {
    tx.rows("SELECT DISTINCT connection FROM receipts_due", &[], |row| {
        row.get(0)
    })
}

/// Takes the due receipts of a connection, in batches of one kind and at most 64 ids.
///
/// # Errors
/// When SQLite fails.
pub fn take(tx: &Tx<'_>, connection: &str) -> Result<Vec<Receipt>, Fault> {
    let mut receipts = Vec::new();
    for kind in [
        ReceiptKind::DELIVERED,
        ReceiptKind::READ,
        ReceiptKind::FETCHED,
    ] {
        let sql = "DELETE FROM receipts_due WHERE connection = ?1 AND kind = ?2 RETURNING uuid, at";
        let due: Vec<([u8; 16], i64)> = tx.rows(sql, &[&connection, &word(kind)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        for batch in due.chunks(limits::RECEIPT_IDS_MAX) {
            let at = batch.iter().map(|(_, at)| *at).max().unwrap_or_default();
            let ids = batch
                .iter()
                .map(|(id, _)| MessageId::from_bytes(*id))
                .collect();
            receipts.push(Receipt {
                kind,
                ids,
                at: timestamp(at),
            });
        }
    }
    Ok(receipts)
}
