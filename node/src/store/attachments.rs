//! Attachments: the use of a file in a message. The attachment of a staged file does not belong to
//! a message yet.

use crate::{
    fault::Fault,
    store::{
        Tx,
        files::{self, StoredFile},
        ids,
    },
};
use sealpost_node_core::model::{AttachmentId, FileId, MessageRowId};
use sealpost_sqlite::{Damaged, RowExt as _, to_integer};

/// File as one message uses it.
#[derive(Clone)]
pub(crate) struct Attachment {
    pub id: AttachmentId,
    pub file: StoredFile,
}

/// Creates the attachment of a staged file.
pub(crate) fn insert_staged(tx: &mut Tx<'_>, file: FileId) -> Result<AttachmentId, Fault> {
    let id: AttachmentId = ids::generate(tx)?;
    tx.execute(
        "INSERT INTO attachments (id, file) VALUES (?1, ?2)",
        &[&id.to_string(), &file.to_string()],
    )?;
    Ok(id)
}

/// Adds a file to a message. Reuses the attachment that was created when the file was staged.
pub(crate) fn attach(
    tx: &mut Tx<'_>,
    file: FileId,
    message: MessageRowId,
    ordinal: usize,
) -> Result<AttachmentId, Fault> {
    let sql = "SELECT id FROM attachments WHERE file = ?1 AND message IS NULL";
    let staged = tx.query_row(sql, &[&file.to_string()], |row| {
        row.parse("id", AttachmentId::parse)
    })?;
    let id = match staged {
        Some(id) => id,
        None => insert_staged(tx, file)?,
    };
    tx.execute(
        "UPDATE attachments SET message = ?2, ordinal = ?3 WHERE id = ?1",
        &[
            &id.to_string(),
            &message.as_i64(),
            &to_integer(ordinal as u64),
        ],
    )?;
    Ok(id)
}

/// Returns the id of an attachment's file.
pub(crate) fn find_file(tx: &Tx<'_>, id: AttachmentId) -> Result<Option<FileId>, Fault> {
    let sql = "SELECT file FROM attachments WHERE id = ?1";
    tx.query_row(sql, &[&id.to_string()], |row| {
        row.parse("file", FileId::parse)
    })
}

pub(crate) fn load(tx: &Tx<'_>, id: AttachmentId) -> Result<Option<Attachment>, Fault> {
    let Some(file) = find_file(tx, id)? else {
        return Ok(None);
    };
    let file = files::load(tx, file)?.ok_or_else(|| Damaged::new("attachments", "file"))?;
    Ok(Some(Attachment { id, file }))
}

/// Returns the attachments of a message, in the order of the message.
pub(crate) fn load_for_message(
    tx: &Tx<'_>,
    message: MessageRowId,
) -> Result<Vec<Attachment>, Fault> {
    let sql = format!(
        "SELECT a.id AS attachment, {} FROM attachments a JOIN files f ON f.id = a.file
         WHERE a.message = ?1 ORDER BY a.ordinal",
        files::COLUMNS
    );
    let rows = tx.query_rows(&sql, &[&message.as_i64()], |row| {
        Ok((
            row.parse("attachment", AttachmentId::parse)?,
            files::read(row)?,
        ))
    })?;
    rows.into_iter()
        .map(|(id, file)| {
            Ok(Attachment {
                id,
                file: file.open(tx)?,
            })
        })
        .collect()
}

/// Returns the files of a message.
pub(super) fn find_files_for_message(
    tx: &Tx<'_>,
    message: MessageRowId,
) -> Result<Vec<FileId>, Fault> {
    let sql = "SELECT file FROM attachments WHERE message = ?1 ORDER BY ordinal";
    tx.query_rows(sql, &[&message.as_i64()], |row| {
        row.parse("file", FileId::parse)
    })
}
