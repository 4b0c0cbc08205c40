//! Requests that must not be carried out twice, by the client's own id.

use crate::{
    fault::Fault,
    store::{Tx, millis},
};
use sealpost_proto::limits;

/// The digest of a request that came before under this id, and what it was answered.
///
/// # Errors
/// When SQLite fails.
pub fn load(tx: &Tx<'_>, client_id: &str) -> Result<Option<([u8; 32], String)>, Fault> {
    let sql = "SELECT digest, answer FROM requests WHERE client_id = ?1";
    tx.row(sql, &[&client_id], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Remembers a request and its answer.
///
/// # Errors
/// When SQLite fails.
pub fn insert(tx: &Tx<'_>, client_id: &str, digest: &[u8; 32], answer: &str) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO requests (client_id, digest, answer, at) VALUES (?1, ?2, ?3, ?4)",
        &[&client_id, digest, &answer, &millis(tx.now)],
    )?;
    Ok(())
}

/// Forgets what nobody will ask again.
///
/// # Errors
/// When SQLite fails.
pub fn forget_old(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM requests WHERE at < ?1",
        &[&millis(tx.now.minus(limits::MESSAGE_ID_RETENTION))],
    )?;
    Ok(())
}
