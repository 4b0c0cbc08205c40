//! Messages of both directions. What they say is sealed; when and from whom is not.

use crate::{
    api::model::Direction,
    fault::Fault,
    store::{Tx, chats, count, millis, refs, timestamp, words},
};
use rusqlite::Row;
use sealpost_proto::{MessageId, Timestamp};

const TABLE: &str = "messages";

/// A message that is about to be stored.
#[derive(Debug)]
pub struct NewMessage<'a> {
    /// The chat it belongs to.
    pub chat: &'a str,
    /// The wire's id.
    pub uuid: MessageId,
    /// Which way.
    pub direction: Direction,
    /// The kind inside the encryption.
    pub kind: u16,
    /// The author's name as it is shown.
    pub sender_name: &'a str,
    /// What it says.
    pub content: &'a str,
    /// The media type of `content`.
    pub content_type: &'a str,
    /// Its place in the sender's count.
    pub seq: Option<u64>,
    /// Whether somebody has to do something.
    pub action_required: bool,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// When it must have arrived.
    pub deliver_by: Option<Timestamp>,
    /// When it must have been read.
    pub read_by: Option<Timestamp>,
    /// When its sender sent it.
    pub sent_at: Timestamp,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Rises in the order of arrival.
    pub position: i64,
    /// `CMG-…`
    pub name: String,
    /// Its chat.
    pub chat: String,
    /// The chat's connection.
    pub connection: String,
    /// The contact's name.
    pub contact: String,
    /// The wire's id.
    pub uuid: MessageId,
    /// Which way.
    pub direction: Direction,
    /// The author's name as it is shown.
    pub sender_name: String,
    /// What it says.
    pub content: String,
    /// The media type of `content`.
    pub content_type: String,
    /// Whether somebody has to do something.
    pub action_required: bool,
    /// The message it answers.
    pub reply_to: Option<String>,
    /// When it must have arrived.
    pub deliver_by: Option<Timestamp>,
    /// When it must have been read.
    pub read_by: Option<Timestamp>,
    /// When its sender sent it.
    pub sent_at: Timestamp,
    /// When it was stored here.
    pub received_at: Option<Timestamp>,
    /// When it was read here.
    pub read_at: Option<Timestamp>,
    /// Rises with every change.
    pub revision: u64,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// Stores a message under the next number of its chat and returns its name.
///
/// # Errors
/// When SQLite fails.
pub fn insert(tx: &mut Tx<'_>, new: &NewMessage<'_>) -> Result<String, Fault> {
    let number = chats::next_number(tx, new.chat)?;
    let name = refs::message(new.chat, number);
    let content = tx.seal(TABLE, name.as_bytes(), "content", 1, new.content.as_bytes());
    let received_at = (new.direction == Direction::In).then(|| millis(tx.now));
    tx.execute(
        "INSERT INTO messages (ref, chat, uuid, direction, kind, sender_name, content, content_type, seq, action_required,
             reply_to, deliver_by, read_by, sent_at, received_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        &[
            &name,
            &new.chat,
            new.uuid.as_bytes(),
            &words::word(&new.direction),
            &new.kind,
            &new.sender_name,
            &content,
            &new.content_type,
            &new.seq.and_then(|seq| i64::try_from(seq).ok()),
            &new.action_required,
            &new.reply_to.as_ref().map(MessageId::as_bytes),
            &new.deliver_by.map(millis),
            &new.read_by.map(millis),
            &millis(new.sent_at),
            &received_at,
            &millis(tx.now),
        ],
    )?;
    Ok(name)
}

const COLUMNS: &str = "SELECT m.position, m.ref, m.chat, n.ref, n.name, m.uuid, m.direction, m.sender_name, m.content,
    m.content_type, m.action_required,
    (SELECT r.ref FROM messages r WHERE r.chat = m.chat AND r.uuid = m.reply_to),
    m.deliver_by, m.read_by, m.sent_at, m.received_at, m.read_at, m.revision, m.updated_at
    FROM messages m JOIN chats c ON c.ref = m.chat JOIN connections n ON n.ref = c.connection";

fn read(row: &Row<'_>) -> rusqlite::Result<(Message, Vec<u8>)> {
    let message = Message {
        position: row.get(0)?,
        name: row.get(1)?,
        chat: row.get(2)?,
        connection: row.get(3)?,
        contact: row.get(4)?,
        uuid: MessageId::from_bytes(row.get(5)?),
        direction: words::parse(&row.get::<_, String>(6)?).unwrap_or(Direction::In),
        sender_name: row.get(7)?,
        content: String::new(),
        content_type: row.get(9)?,
        action_required: row.get(10)?,
        reply_to: row.get(11)?,
        deliver_by: row.get::<_, Option<i64>>(12)?.map(timestamp),
        read_by: row.get::<_, Option<i64>>(13)?.map(timestamp),
        sent_at: timestamp(row.get(14)?),
        received_at: row.get::<_, Option<i64>>(15)?.map(timestamp),
        read_at: row.get::<_, Option<i64>>(16)?.map(timestamp),
        revision: count(row.get(17)?),
        updated_at: timestamp(row.get(18)?),
    };
    Ok((message, row.get(8)?))
}

fn open(tx: &Tx<'_>, (mut message, sealed): (Message, Vec<u8>)) -> Result<Message, Fault> {
    let content = tx.open(TABLE, message.name.as_bytes(), "content", 1, &sealed)?;
    message.content = String::from_utf8_lossy(&content).into_owned();
    Ok(message)
}

/// One message.
///
/// # Errors
/// When SQLite fails.
pub fn load(tx: &Tx<'_>, name: &str) -> Result<Option<Message>, Fault> {
    let row = tx.row(&format!("{COLUMNS} WHERE m.ref = ?1"), &[&name], read)?;
    row.map(|row| open(tx, row)).transpose()
}

/// Which messages a list shall hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this chat.
    pub chat: Option<String>,
    /// Only one way.
    pub direction: Option<Direction>,
    /// Only incoming ones that nobody read.
    pub unread: bool,
    /// Newest first.
    pub descending: bool,
    /// Continue behind this position.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// A page of messages in the order of arrival.
///
/// # Errors
/// When SQLite fails.
pub fn page(tx: &Tx<'_>, filter: &Filter) -> Result<Vec<Message>, Fault> {
    let (compare, order, start) = if filter.descending {
        ("<", "DESC", i64::MAX)
    } else {
        (">", "ASC", 0)
    };
    let sql = format!(
        "{COLUMNS} WHERE m.position {compare} ?1 AND (?2 IS NULL OR m.chat = ?2) AND (?3 IS NULL OR m.direction = ?3)
         AND (NOT ?4 OR (m.direction = 'in' AND m.read_at IS NULL)) ORDER BY m.position {order} LIMIT ?5"
    );
    let direction = filter.direction.as_ref().map(words::word);
    let start = filter.after.unwrap_or(start);
    let rows = tx.rows(
        &sql,
        &[
            &start,
            &filter.chat,
            &direction,
            &filter.unread,
            &filter.limit,
        ],
        read,
    )?;
    rows.into_iter().map(|row| open(tx, row)).collect()
}

/// The name of a chat's message with this id.
///
/// # Errors
/// When SQLite fails.
pub fn by_uuid(tx: &Tx<'_>, connection: &str, uuid: &MessageId) -> Result<Option<String>, Fault> {
    tx.value(
        "SELECT m.ref FROM messages m JOIN chats c ON c.ref = m.chat WHERE m.uuid = ?1 AND c.connection = ?2",
        &[uuid.as_bytes(), &connection],
    )
}

/// Marks an incoming message as read; false when it was read before.
///
/// # Errors
/// When SQLite fails.
pub fn mark_read(tx: &Tx<'_>, name: &str) -> Result<bool, Fault> {
    let changed = tx.execute(
        "UPDATE messages SET read_at = ?2, updated_at = ?2, revision = revision + 1
         WHERE ref = ?1 AND direction = 'in' AND read_at IS NULL",
        &[&name, &millis(tx.now)],
    )?;
    Ok(changed == 1)
}

/// How many incoming messages nobody read.
///
/// # Errors
/// When SQLite fails.
pub fn unread(tx: &Tx<'_>) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM messages WHERE direction = 'in' AND read_at IS NULL";
    Ok(count(tx.value(sql, &[])?.unwrap_or(0)))
}
