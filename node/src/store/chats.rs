//! Chats and their participants. So far, every chat is the direct chat of one connection.

use crate::{
    fault::Fault,
    store::{Tx, ids},
};
use rusqlite::Row;
use sealpost_node_core::model::{
    ChatId, ConnectionId, MessageId, ParticipantId, ParticipantStatus, UserId,
};
use sealpost_proto::Timestamp;
use sealpost_sqlite::{Damaged, RowError, RowExt as _, to_integer, to_millis};

/// Chat with its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chat {
    pub id: ChatId,
    /// Identifies the chat on both sides.
    pub uuid: [u8; 16],
    pub connection: ConnectionId,
    /// Hidden chats are inactive.
    pub active: bool,
    /// Number of the message that arrived last; 0 if there is none.
    pub last_number: u64,
    /// Number of the message that is shown last.
    last_shown: Option<u64>,
    /// Number of incoming messages after the user's read position.
    pub unread: u64,
    pub attachments: u64,
    /// Number of messages whose delivery failed.
    pub errors: u64,
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Chat {
    /// Returns the id of the message that is shown last.
    #[must_use]
    pub(crate) fn last_message(&self) -> Option<MessageId> {
        self.last_shown.map(|number| MessageId {
            chat: self.id,
            number,
        })
    }
}

/// Side of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Participant {
    pub id: ParticipantId,
    /// Whether the participant is this node.
    pub is_self: bool,
    pub status: ParticipantStatus,
}

const COLUMNS: &str = "SELECT c.id, c.uuid, c.connection, c.active, c.last_number, c.revision,
    c.created_at, c.updated_at,
    (SELECT count(*) FROM postings p WHERE p.chat = c.id AND p.own = 0 AND p.number > coalesce(
        (SELECT r.number FROM read_positions r WHERE r.user = ?1 AND r.chat = c.id), 0)) AS unread,
    (SELECT coalesce(sum(p.files), 0) FROM postings p WHERE p.chat = c.id AND p.files > 0)
        AS attachments,
    (SELECT count(*) FROM deliveries d WHERE d.connection = c.connection AND d.status = 'failed')
        AS errors,
    (SELECT p.number FROM postings p WHERE p.chat = c.id
        ORDER BY p.sort DESC, p.life DESC, p.seq DESC, p.number DESC LIMIT 1) AS last_shown
    FROM chats c";

fn read(row: &Row<'_>) -> Result<Chat, RowError> {
    Ok(Chat {
        id: row.parse("id", ChatId::parse)?,
        uuid: row.read("uuid")?,
        connection: row.parse("connection", ConnectionId::parse)?,
        active: row.read("active")?,
        last_number: row.read("last_number")?,
        last_shown: row.read("last_shown")?,
        revision: row.read("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
        unread: row.read("unread")?,
        attachments: row.read("attachments")?,
        errors: row.read("errors")?,
    })
}

/// Returns the direct chat of a connection, and creates it if it does not exist.
pub(crate) fn find_or_create_direct(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    uuid: &[u8; 16],
) -> Result<ChatId, Fault> {
    if let Some(chat) = find_direct(tx, connection)? {
        return Ok(chat);
    }
    let chat: ChatId = ids::generate(tx)?;
    tx.execute(
        "INSERT INTO chats (id, uuid, type, connection, created_at, updated_at)
         VALUES (?1, ?2, 'direct', ?3, ?4, ?4)",
        &[
            &chat.to_string(),
            uuid,
            &connection.to_string(),
            &to_millis(tx.now),
        ],
    )?;
    for is_self in [true, false] {
        let participant: ParticipantId = ids::generate(tx)?;
        tx.execute(
            "INSERT INTO participants (id, chat, self, status) VALUES (?1, ?2, ?3, ?4)",
            &[
                &participant.to_string(),
                &chat.to_string(),
                &is_self,
                &ParticipantStatus::Active.as_str(),
            ],
        )?;
    }
    Ok(chat)
}

/// Returns the direct chat of a connection; `None` before the connection is accepted.
pub(crate) fn find_direct(tx: &Tx<'_>, connection: ConnectionId) -> Result<Option<ChatId>, Fault> {
    let sql = "SELECT id FROM chats WHERE connection = ?1 AND type = 'direct'";
    tx.query_row(sql, &[&connection.to_string()], |row| {
        row.parse("id", ChatId::parse)
    })
}

/// Increments the number of the chat's last message and returns it.
pub(super) fn allocate_number(tx: &Tx<'_>, chat: ChatId) -> Result<u64, Fault> {
    let sql = "UPDATE chats SET last_number = last_number + 1, revision = revision + 1,
                   updated_at = ?2 WHERE id = ?1 RETURNING last_number";
    tx.query_value(sql, &[&chat.to_string(), &to_millis(tx.now)])?
        .ok_or_else(|| Damaged::new("chats", "id").into())
}

pub(crate) fn load(tx: &Tx<'_>, id: ChatId) -> Result<Option<Chat>, Fault> {
    tx.query_row(
        &format!("{COLUMNS} WHERE c.id = ?2"),
        &[&UserId::FIRST.as_i64(), &id.to_string()],
        read,
    )
}

/// Returns a page of chats with ids above `after`, ordered by id.
pub(crate) fn load_page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<Chat>, Fault> {
    tx.query_rows(
        &format!("{COLUMNS} WHERE c.id > ?2 ORDER BY c.id LIMIT ?3"),
        &[&UserId::FIRST.as_i64(), &after, &limit],
        read,
    )
}

/// Returns the participants of a chat, this node first.
pub(crate) fn load_participants(tx: &Tx<'_>, chat: ChatId) -> Result<Vec<Participant>, Fault> {
    tx.query_rows(
        "SELECT id, self, status FROM participants WHERE chat = ?1 ORDER BY self DESC",
        &[&chat.to_string()],
        |row| {
            Ok(Participant {
                id: row.parse("id", ParticipantId::parse)?,
                is_self: row.read("self")?,
                status: row.parse("status", ParticipantStatus::parse)?,
            })
        },
    )
}

/// Returns the number up to which a user has read a chat.
pub(crate) fn load_read_position(tx: &Tx<'_>, user: UserId, chat: ChatId) -> Result<u64, Fault> {
    let sql = "SELECT number FROM read_positions WHERE user = ?1 AND chat = ?2";
    let number = tx.query_value(sql, &[&user.as_i64(), &chat.to_string()])?;
    Ok(number.unwrap_or(0))
}

pub(crate) fn set_read_position(
    tx: &Tx<'_>,
    user: UserId,
    chat: ChatId,
    number: u64,
) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO read_positions (user, chat, number) VALUES (?1, ?2, ?3)
         ON CONFLICT (user, chat) DO UPDATE SET number = excluded.number",
        &[&user.as_i64(), &chat.to_string(), &to_integer(number)],
    )?;
    Ok(())
}

/// Returns the number up to which read receipts have been queued.
pub(crate) fn load_reported_position(tx: &Tx<'_>, chat: ChatId) -> Result<u64, Fault> {
    let sql = "SELECT read_reported FROM chats WHERE id = ?1";
    tx.query_value(sql, &[&chat.to_string()])?
        .ok_or_else(|| Damaged::new("chats", "id").into())
}

pub(crate) fn set_reported_position(tx: &Tx<'_>, chat: ChatId, number: u64) -> Result<(), Fault> {
    tx.execute(
        "UPDATE chats SET read_reported = ?2 WHERE id = ?1",
        &[&chat.to_string(), &to_integer(number)],
    )?;
    Ok(())
}

/// Counts the unread messages of all chats.
pub(crate) fn unread_count(tx: &Tx<'_>) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM chats c
               LEFT JOIN read_positions r ON r.user = ?1 AND r.chat = c.id
               CROSS JOIN postings p ON p.chat = c.id AND p.number > coalesce(r.number, 0)
               WHERE p.own = 0";
    Ok(tx
        .query_value(sql, &[&UserId::FIRST.as_i64()])?
        .unwrap_or(0))
}
