//! Lists of files.

use super::{COLUMNS, StoredFile, read};
use crate::{fault::Fault, store::Tx};
use sealpost_node_core::model::{ChatId, Direction, FileId, MessageId, MessageRowId};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::RowExt as _;

/// Filter and order of a list of files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub direction: Option<Direction>,
    /// Newest first.
    pub is_descending: bool,
    /// Start after this position.
    pub after: Option<i64>,
    pub limit: i64,
}

/// File in a list.
pub(crate) struct ListedFile {
    pub position: i64,
    pub file: StoredFile,
    pub created_at: Timestamp,
    /// First postings that show the file, with their contacts' names.
    pub messages: Vec<(MessageId, String)>,
    /// Number of messages that use the file, one for each recipient.
    pub message_count: u64,
}

/// Maximum number of messages listed with a file.
const MESSAGES_NAMED_MAX: u32 = 5;

/// Returns a page of files in the order in which they were stored.
pub(crate) fn load_page(tx: &Tx<'_>, filter: &Filter) -> Result<Vec<ListedFile>, Fault> {
    let (compare, order, start) = if filter.is_descending {
        ("<", "DESC", i64::MAX)
    } else {
        (">", "ASC", 0)
    };
    let sql = format!(
        "SELECT {COLUMNS}, f.position, f.created_at,
             (SELECT count(*) FROM attachments a JOIN postings p ON p.message = a.message
                 WHERE a.file = f.id) AS message_count
         FROM files f WHERE f.position {compare} ?1 AND (?2 IS NULL OR f.direction = ?2)
         ORDER BY f.position {order} LIMIT ?3"
    );
    let rows = tx.query_rows(
        &sql,
        &[
            &filter.after.unwrap_or(start),
            &filter.direction.map(Direction::as_str),
            &filter.limit,
        ],
        |row| {
            Ok((
                read(row)?,
                row.read("position")?,
                row.timestamp("created_at")?,
                row.read("message_count")?,
            ))
        },
    )?;
    rows.into_iter()
        .map(|(sealed, position, created_at, message_count)| {
            let file = sealed.open(tx)?;
            Ok(ListedFile {
                position,
                created_at,
                messages: named_messages(tx, file.id)?,
                message_count,
                file,
            })
        })
        .collect()
}

fn named_messages(tx: &Tx<'_>, id: FileId) -> Result<Vec<(MessageId, String)>, Fault> {
    let sql = "SELECT p.chat, p.number, n.name FROM attachments a
               JOIN postings p ON p.message = a.message JOIN chats c ON c.id = p.chat
               JOIN connections n ON n.id = c.connection
               WHERE a.file = ?1 ORDER BY p.message, p.chat LIMIT ?2";
    tx.query_rows(sql, &[&id.to_string(), &MESSAGES_NAMED_MAX], |row| {
        let id = MessageId {
            chat: row.parse("chat", ChatId::parse)?,
            number: row.read("number")?,
        };
        Ok((id, row.read("name")?))
    })
}

/// Returns the blobs of a received message's files that are on this node.
pub(crate) fn find_downloaded_blobs(
    tx: &Tx<'_>,
    message: MessageRowId,
) -> Result<Vec<BlobId>, Fault> {
    let sql = "SELECT f.blob FROM attachments a JOIN files f ON f.id = a.file
               WHERE a.message = ?1 AND f.direction = 'in' AND f.status = 'ready'";
    tx.query_rows(sql, &[&message.as_i64()], |row| row.id("blob"))
}
