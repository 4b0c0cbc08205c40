//! What is known of a file's content without opening it: what its first bytes tell, and its preview. Both are sealed.

use super::TABLE;
use crate::{fault::Fault, store::Tx};
use sealpost_node_core::file_type::FileType;

pub(super) fn seal_file_type(
    tx: &mut Tx<'_>,
    name: &str,
    file_type: &FileType,
) -> Result<Vec<u8>, Fault> {
    let json = serde_json::to_vec(file_type).map_err(|error| Fault::failed(error.to_string()))?;
    Ok(tx.seal(TABLE, name.as_bytes(), "file_type", 1, &json))
}

pub(super) fn open_file_type(tx: &Tx<'_>, name: &str, sealed: &[u8]) -> Result<FileType, Fault> {
    let json = tx.open(TABLE, name.as_bytes(), "file_type", 1, sealed)?;
    serde_json::from_slice(&json)
        .map_err(|_| Fault::failed("the type of a file in the database is broken"))
}

/// Notes what the bytes of a file tell, now that they are here.
///
/// # Errors
/// When SQLite fails.
pub fn set_file_type(tx: &mut Tx<'_>, name: &str, file_type: &FileType) -> Result<(), Fault> {
    let sealed = seal_file_type(tx, name, file_type)?;
    tx.execute(
        "UPDATE attachments SET file_type = ?2 WHERE ref = ?1",
        &[&name, &sealed],
    )?;
    Ok(())
}

/// A file's preview, where it has one.
///
/// # Errors
/// When SQLite fails or the column does not open.
pub fn preview(tx: &Tx<'_>, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let sealed: Option<Option<Vec<u8>>> =
        tx.value("SELECT preview FROM attachments WHERE ref = ?1", &[&name])?;
    let opened = sealed
        .flatten()
        .map(|sealed| tx.open(TABLE, name.as_bytes(), "preview", 1, &sealed));
    Ok(opened.transpose()?.map(|preview| preview.to_vec()))
}
