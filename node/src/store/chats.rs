//! Conversations and who takes part in them. So far each is the direct chat of one connection.

use crate::{
    fault::Fault,
    store::{Tx, count, millis, refs, refs::Noun, timestamp},
};
use rusqlite::Row;
use sealpost_proto::Timestamp;

/// One conversation, with its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// `CHT-…`
    pub name: String,
    /// The same on both sides.
    pub uuid: [u8; 16],
    /// Its connection.
    pub connection: String,
    /// False hides it.
    pub active: bool,
    /// The latest message.
    pub last_message: Option<String>,
    /// Incoming messages that nobody read.
    pub unread: u64,
    /// All messages.
    pub messages: u64,
    /// Files of all messages.
    pub attachments: u64,
    /// Messages that failed.
    pub errors: u64,
    /// Rises with every change.
    pub revision: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// One side of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// `CPT-…`
    pub name: String,
    /// Whether it is this node.
    pub is_self: bool,
    /// `active` so far.
    pub status: String,
}

const COLUMNS: &str = "SELECT c.ref, c.uuid, c.connection, c.active, c.message_count, c.revision, c.created_at, c.updated_at,
    (SELECT m.ref FROM messages m WHERE m.chat = c.ref ORDER BY m.position DESC LIMIT 1),
    (SELECT count(*) FROM messages m WHERE m.chat = c.ref AND m.direction = 'in' AND m.read_at IS NULL),
    (SELECT count(*) FROM messages m JOIN message_attachments a ON a.message = m.ref WHERE m.chat = c.ref),
    (SELECT count(*) FROM messages m JOIN deliveries d ON d.message = m.ref WHERE m.chat = c.ref AND d.status = 'failed')
    FROM chats c";

fn read(row: &Row<'_>) -> rusqlite::Result<Chat> {
    Ok(Chat {
        name: row.get(0)?,
        uuid: row.get(1)?,
        connection: row.get(2)?,
        active: row.get(3)?,
        messages: count(row.get(4)?),
        revision: count(row.get(5)?),
        created_at: timestamp(row.get(6)?),
        updated_at: timestamp(row.get(7)?),
        last_message: row.get(8)?,
        unread: count(row.get(9)?),
        attachments: count(row.get(10)?),
        errors: count(row.get(11)?),
    })
}

/// Makes the direct chat of a connection, or finds it: there are never two.
///
/// # Errors
/// When SQLite fails.
pub fn direct(tx: &mut Tx<'_>, connection: &str, uuid: &[u8; 16]) -> Result<String, Fault> {
    if let Some(chat) = of_connection(tx, connection)? {
        return Ok(chat);
    }
    let chat = refs::draw(tx, Noun::Chat)?;
    let now = millis(tx.now);
    tx.execute(
        "INSERT INTO chats (ref, uuid, type, connection, created_at, updated_at) VALUES (?1, ?2, 'direct', ?3, ?4, ?4)",
        &[&chat, uuid, &connection, &now],
    )?;
    for is_self in [true, false] {
        let participant = refs::draw(tx, Noun::Participant)?;
        tx.execute(
            "INSERT INTO participants (ref, chat, self, status) VALUES (?1, ?2, ?3, 'active')",
            &[&participant, &chat, &is_self],
        )?;
    }
    Ok(chat)
}

/// The direct chat of a connection, once it was accepted.
///
/// # Errors
/// When SQLite fails.
pub fn of_connection(tx: &Tx<'_>, connection: &str) -> Result<Option<String>, Fault> {
    tx.value(
        "SELECT ref FROM chats WHERE connection = ?1",
        &[&connection],
    )
}

/// Counts one more message and returns its number.
///
/// # Errors
/// When SQLite fails.
pub fn next_number(tx: &Tx<'_>, chat: &str) -> Result<i64, Fault> {
    let sql = "UPDATE chats SET message_count = message_count + 1, revision = revision + 1, updated_at = ?2
               WHERE ref = ?1 RETURNING message_count";
    tx.value(sql, &[&chat, &millis(tx.now)])?
        .ok_or_else(|| Fault::failed("a chat is missing"))
}

/// One conversation.
///
/// # Errors
/// When SQLite fails.
pub fn load(tx: &Tx<'_>, name: &str) -> Result<Option<Chat>, Fault> {
    tx.row(&format!("{COLUMNS} WHERE c.ref = ?1"), &[&name], read)
}

/// A page of conversations, by name after `after`.
///
/// # Errors
/// When SQLite fails.
pub fn page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<Chat>, Fault> {
    tx.rows(
        &format!("{COLUMNS} WHERE c.ref > ?1 ORDER BY c.ref LIMIT ?2"),
        &[&after, &limit],
        read,
    )
}

/// Who takes part, this node first.
///
/// # Errors
/// When SQLite fails.
pub fn participants(tx: &Tx<'_>, chat: &str) -> Result<Vec<Participant>, Fault> {
    tx.rows(
        "SELECT ref, self, status FROM participants WHERE chat = ?1 ORDER BY self DESC",
        &[&chat],
        |row| {
            Ok(Participant {
                name: row.get(0)?,
                is_self: row.get(1)?,
                status: row.get(2)?,
            })
        },
    )
}
