//! Sealed metadata of a file's content: the detected type, the preview and the digest.

use super::TABLE;
use crate::{fault::Fault, store::Tx};
use sealpost_node_core::{file_type::FileType, model::FileId};
use sealpost_sqlite::Damaged;

pub(super) fn seal_file_type(
    tx: &mut Tx<'_>,
    id: FileId,
    file_type: &FileType,
) -> Result<Vec<u8>, Fault> {
    let json = serde_json::to_vec(file_type).map_err(|error| Fault::failed(error.to_string()))?;
    Ok(tx.seal(TABLE, id.to_string().as_bytes(), "file_type", 1, &json))
}

pub(super) fn open_file_type(tx: &Tx<'_>, id: FileId, sealed: &[u8]) -> Result<FileType, Fault> {
    let json = tx.open(TABLE, id.to_string().as_bytes(), "file_type", 1, sealed)?;
    serde_json::from_slice(&json).map_err(|_| Damaged::new(TABLE, "file_type").into())
}

/// Stores the type that was detected from a file's content.
pub(crate) fn set_file_type(
    tx: &mut Tx<'_>,
    id: FileId,
    file_type: &FileType,
) -> Result<(), Fault> {
    let sealed = seal_file_type(tx, id, file_type)?;
    tx.execute(
        "UPDATE files SET file_type = ?2 WHERE id = ?1",
        &[&id.to_string(), &sealed],
    )?;
    Ok(())
}

/// Returns a file's preview, if it has one.
pub(crate) fn load_preview(tx: &Tx<'_>, id: FileId) -> Result<Option<Vec<u8>>, Fault> {
    load_sealed(tx, id, "preview")
}

/// Returns the SHA-256 digest of an outgoing file's content.
pub(crate) fn load_content_digest(tx: &Tx<'_>, id: FileId) -> Result<Vec<u8>, Fault> {
    let digest = load_sealed(tx, id, "content_digest")?;
    digest.ok_or_else(|| Damaged::new(TABLE, "content_digest").into())
}

/// Returns the opened value of a sealed column that may be empty.
fn load_sealed(tx: &Tx<'_>, id: FileId, column: &'static str) -> Result<Option<Vec<u8>>, Fault> {
    let text = id.to_string();
    let sql = format!("SELECT {column} FROM files WHERE id = ?1");
    let sealed: Option<Option<Vec<u8>>> = tx.query_value(&sql, &[&text])?;
    let opened = sealed
        .flatten()
        .map(|sealed| tx.open(TABLE, text.as_bytes(), column, 1, &sealed));
    Ok(opened.transpose()?.map(|value| value.to_vec()))
}
