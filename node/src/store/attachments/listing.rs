//! Files as a list shows them.

use super::{Attachment, load};
use crate::{
    api::model::Direction,
    fault::Fault,
    store::{Tx, count, timestamp, words},
};
use rusqlite::Row;
use sealpost_proto::Timestamp;

/// Which files a list asks for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only ours, or only theirs.
    pub direction: Option<Direction>,
    /// The newest first.
    pub descending: bool,
    /// After this position.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// A file in a list.
pub struct Listed {
    /// Its place.
    pub position: i64,
    /// The file.
    pub file: Attachment,
    /// When its row was made.
    pub created_at: Timestamp,
    /// The first messages that it belongs to, with their contacts' names.
    pub messages: Vec<(String, String)>,
    /// How many there are.
    pub message_count: u64,
}

/// Most messages of a listed file that are named.
const MESSAGES_NAMED: u32 = 5;

/// Files in the order of their coming.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn page(tx: &Tx<'_>, filter: &Filter) -> Result<Vec<Listed>, Fault> {
    let (compare, order, start) = if filter.descending {
        ("<", "DESC", i64::MAX)
    } else {
        (">", "ASC", 0)
    };
    let sql = format!(
        "SELECT ref, position, created_at FROM attachments WHERE position {compare} ?1 AND (?2 IS NULL OR direction = ?2)
         ORDER BY position {order} LIMIT ?3"
    );
    let direction = filter.direction.as_ref().map(words::word);
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let rows = tx.rows(
        &sql,
        &[&filter.after.unwrap_or(start), &direction, &filter.limit],
        read,
    )?;
    let mut listed = Vec::with_capacity(rows.len());
    for (name, position, created_at) in rows {
        let name: String = name;
        let Some(file) = load(tx, &name)? else {
            continue;
        };
        let count_sql = "SELECT count(*) FROM message_attachments WHERE attachment = ?1";
        listed.push(Listed {
            position,
            file,
            created_at: timestamp(created_at),
            messages: named_messages(tx, &name)?,
            message_count: tx.value(count_sql, &[&name])?.map_or(0, count),
        });
    }
    Ok(listed)
}

fn named_messages(tx: &Tx<'_>, name: &str) -> Result<Vec<(String, String)>, Fault> {
    let sql = "SELECT m.ref, k.name FROM message_attachments l JOIN messages m ON m.ref = l.message
               JOIN chats c ON c.ref = m.chat JOIN connections k ON k.ref = c.connection
               WHERE l.attachment = ?1 ORDER BY m.position LIMIT ?2";
    tx.rows(sql, &[&name, &MESSAGES_NAMED], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}
