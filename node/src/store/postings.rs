//! Postings. A posting is one message in one chat, with the public id `CMG-…`.

mod listing;

pub use listing::{Cursor, Filter, load_page};

use crate::{
    fault::Fault,
    store::{
        Tx, chats, files,
        messages::{self, Message, SealedMessage},
    },
};
use rusqlite::Row;
use sealpost_node_core::model::{
    ChatId, ConnectionId, Direction, DisplayPosition, MessageId, MessageRowId, MessageUuid,
    SenderPosition, UserId,
};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::{RowError, RowExt as _, to_integer};

/// Message as one chat shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    pub id: MessageId,
    /// Where the chat shows it.
    pub position: DisplayPosition,
    pub connection: ConnectionId,
    /// The contact's name.
    pub contact: String,
    pub direction: Direction,
    /// Whether the user has read the message; always true for our own messages.
    pub is_read: bool,
    /// The message of the same chat that this one answers.
    pub reply_to: Option<MessageId>,
    pub message: Message,
}

/// Posting to be inserted.
#[derive(Debug)]
pub struct NewPosting {
    pub chat: ChatId,
    pub message: MessageRowId,
    pub direction: Direction,
    pub sender: SenderPosition,
    pub files: usize,
}

/// Adds a message to a chat under the chat's next number. A received message that arrives late is
/// shown before the next one of its sender.
pub fn insert(tx: &Tx<'_>, new: &NewPosting) -> Result<MessageId, Fault> {
    let next_sort = find_next_sort(tx, new)?;
    let number = chats::allocate_number(tx, new.chat)?;
    let position = DisplayPosition::new(number, new.sender, next_sort);
    tx.execute(
        "INSERT INTO postings (chat, number, message, own, sort, life, seq, files)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            &new.chat.to_string(),
            &to_integer(number),
            &new.message.as_i64(),
            &(new.direction == Direction::Out),
            &to_integer(position.sort),
            &to_integer(position.sender.life),
            &to_integer(position.sender.seq),
            &to_integer(new.files as u64),
        ],
    )?;
    Ok(MessageId {
        chat: new.chat,
        number,
    })
}

/// Returns the sort key of the first message that the same sender sent later, if one has arrived.
fn find_next_sort(tx: &Tx<'_>, new: &NewPosting) -> Result<Option<u64>, Fault> {
    if new.sender == SenderPosition::OWN {
        return Ok(None);
    }
    let sql = "SELECT sort FROM postings
               WHERE chat = ?1 AND own = ?2 AND (life, seq) > (?3, ?4)
               ORDER BY life, seq, sort LIMIT 1";
    tx.query_value(
        sql,
        &[
            &new.chat.to_string(),
            &(new.direction == Direction::Out),
            &to_integer(new.sender.life),
            &to_integer(new.sender.seq),
        ],
    )
}

const JOINS: &str = "JOIN messages m ON m.id = p.message JOIN connections n ON n.id = c.connection";

fn columns() -> String {
    format!(
        "p.chat, p.number, p.sort, p.life, p.seq, p.own, c.connection, n.name,
         p.number <= coalesce((SELECT r.number FROM read_positions r
             WHERE r.user = ?1 AND r.chat = p.chat), 0) AS is_read,
         (SELECT q.number FROM postings q JOIN messages a ON a.id = q.message
             WHERE q.chat = p.chat AND a.uuid = m.reply_to LIMIT 1) AS reply_number,
         {}",
        messages::COLUMNS
    )
}

struct SealedPosting {
    id: MessageId,
    position: DisplayPosition,
    connection: ConnectionId,
    contact: String,
    direction: Direction,
    is_read: bool,
    reply_to: Option<MessageId>,
    message: SealedMessage,
}

fn read(row: &Row<'_>) -> Result<SealedPosting, RowError> {
    let chat = row.parse("chat", ChatId::parse)?;
    let direction = if row.read("own")? {
        Direction::Out
    } else {
        Direction::In
    };
    let reply: Option<u64> = row.read("reply_number")?;
    Ok(SealedPosting {
        id: MessageId {
            chat,
            number: row.read("number")?,
        },
        position: read_position(row)?,
        connection: row.parse("connection", ConnectionId::parse)?,
        contact: row.read("name")?,
        direction,
        is_read: direction == Direction::Out || row.read("is_read")?,
        reply_to: reply.map(|number| MessageId { chat, number }),
        message: messages::read(row)?,
    })
}

impl SealedPosting {
    fn open(self, tx: &Tx<'_>) -> Result<Posting, Fault> {
        Ok(Posting {
            id: self.id,
            position: self.position,
            connection: self.connection,
            contact: self.contact,
            direction: self.direction,
            is_read: self.is_read,
            reply_to: self.reply_to,
            message: self.message.open(tx)?,
        })
    }
}

pub fn load(tx: &Tx<'_>, id: MessageId) -> Result<Option<Posting>, Fault> {
    let sql = format!(
        "SELECT {} FROM postings p JOIN chats c ON c.id = p.chat {JOINS}
         WHERE p.chat = ?2 AND p.number = ?3",
        columns()
    );
    let params = (
        UserId::FIRST.as_i64(),
        id.chat.to_string(),
        to_integer(id.number),
    );
    let row = tx.query_row(&sql, &[&params.0, &params.1, &params.2], read)?;
    row.map(|sealed| sealed.open(tx)).transpose()
}

/// Returns the postings of a message, ordered by chat.
pub fn find_by_message(tx: &Tx<'_>, message: MessageRowId) -> Result<Vec<MessageId>, Fault> {
    let sql = "SELECT chat, number FROM postings WHERE message = ?1 ORDER BY chat";
    tx.query_rows(sql, &[&message.as_i64()], read_id)
}

fn read_id(row: &Row<'_>) -> Result<MessageId, RowError> {
    Ok(MessageId {
        chat: row.parse("chat", ChatId::parse)?,
        number: row.read("number")?,
    })
}

/// Returns the display position of a posting.
pub fn load_display_position(tx: &Tx<'_>, id: MessageId) -> Result<Option<DisplayPosition>, Fault> {
    let sql = "SELECT number, sort, life, seq FROM postings WHERE chat = ?1 AND number = ?2";
    tx.query_row(
        sql,
        &[&id.chat.to_string(), &to_integer(id.number)],
        read_position,
    )
}

/// Returns the display positions of the incoming messages of a chat with numbers greater than
/// `position`.
pub fn load_incoming_positions_after(
    tx: &Tx<'_>,
    chat: ChatId,
    position: u64,
) -> Result<Vec<DisplayPosition>, Fault> {
    let sql = "SELECT number, sort, life, seq FROM postings
               WHERE chat = ?1 AND number > ?2 AND own = 0";
    tx.query_rows(
        sql,
        &[&chat.to_string(), &to_integer(position)],
        read_position,
    )
}

fn read_position(row: &Row<'_>) -> Result<DisplayPosition, RowError> {
    Ok(DisplayPosition {
        sort: row.read("sort")?,
        sender: SenderPosition {
            life: row.read("life")?,
            seq: row.read("seq")?,
        },
        number: row.read("number")?,
    })
}

/// Incoming message in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncomingPosting {
    pub id: MessageId,
    pub connection: ConnectionId,
    pub uuid: MessageUuid,
    /// Whether this node wrote it itself, so that nobody waits for a receipt.
    pub is_system: bool,
}

/// Returns the incoming messages of a chat with numbers greater than `from`, up to `to`.
pub fn load_incoming_between(
    tx: &Tx<'_>,
    chat: ChatId,
    from: u64,
    to: u64,
) -> Result<Vec<IncomingPosting>, Fault> {
    let sql = "SELECT p.chat, p.number, c.connection, m.uuid, m.is_system FROM postings p
               JOIN chats c ON c.id = p.chat JOIN messages m ON m.id = p.message
               WHERE p.chat = ?1 AND p.number > ?2 AND p.number <= ?3 AND p.own = 0
               ORDER BY p.number";
    let params = (chat.to_string(), to_integer(from), to_integer(to));
    tx.query_rows(sql, &[&params.0, &params.1, &params.2], |row| {
        Ok(IncomingPosting {
            id: read_id(row)?,
            connection: row.parse("connection", ConnectionId::parse)?,
            uuid: row.id("uuid")?,
            is_system: row.read("is_system")?,
        })
    })
}

/// Received message, as its receipts report it.
pub(crate) struct ReceivedMessage {
    pub uuid: MessageUuid,
    pub received_at: Timestamp,
    /// Whether the message is covered by a read receipt.
    pub is_reported_read: bool,
    /// Blobs of its files that this node has downloaded.
    pub downloaded: Vec<BlobId>,
}

/// Finds a received message by the id that its sender chose.
pub(crate) fn find_received(
    tx: &Tx<'_>,
    connection: ConnectionId,
    uuid: &MessageUuid,
) -> Result<Option<ReceivedMessage>, Fault> {
    let sql =
        "SELECT m.id AS message, m.received_at, p.number <= c.read_reported AS is_read, p.files
               FROM chats c JOIN postings p ON p.chat = c.id JOIN messages m ON m.id = p.message
               WHERE c.connection = ?1 AND m.author_connection = ?1 AND m.uuid = ?2";
    let params = (connection.to_string(), uuid.as_bytes());
    let found = tx.query_row(sql, &[&params.0, params.1], |row| {
        let received = ReceivedMessage {
            uuid: *uuid,
            received_at: row.timestamp("received_at")?,
            is_reported_read: row.read("is_read")?,
            downloaded: Vec::new(),
        };
        let message = MessageRowId::from_i64(row.read("message")?);
        Ok((received, message, row.read::<u64>("files")? > 0))
    })?;
    let Some((mut received, message, has_files)) = found else {
        return Ok(None);
    };
    if has_files {
        received.downloaded = files::find_downloaded_blobs(tx, message)?;
    }
    Ok(Some(received))
}
