//! Messages of both directions, each stored once. The text and its rendering are sealed; the author
//! and the times are not.

use crate::{fault::Fault, store::Tx};
use rusqlite::Row;
use sealpost_node_core::{
    content,
    model::{ConnectionId, ContentType, MessageRowId, MessageUuid, UserId},
};
use sealpost_proto::Timestamp;
use sealpost_sqlite::{Damaged, RowError, RowExt as _, to_millis};

const TABLE: &str = "messages";

/// Author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageAuthor {
    User(UserId),
    Connection(ConnectionId),
    /// This node itself, which reports something in a chat.
    System,
}

/// Message to be inserted.
#[derive(Debug)]
pub struct NewMessage<'a> {
    pub uuid: MessageUuid,
    pub author: MessageAuthor,
    /// Display name of the author.
    pub author_name: &'a str,
    pub content: &'a str,
    pub content_type: ContentType,
    pub action_required: bool,
    /// The message that this one answers.
    pub reply_to: Option<MessageUuid>,
    pub deliver_by: Option<Timestamp>,
    pub read_by: Option<Timestamp>,
    /// Time by the author's clock.
    pub sent_at: Timestamp,
}

/// Stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub key: MessageRowId,
    pub uuid: MessageUuid,
    pub author: MessageAuthor,
    pub author_name: String,
    pub content: String,
    pub content_type: ContentType,
    pub action_required: bool,
    pub reply_to: Option<MessageUuid>,
    pub deliver_by: Option<Timestamp>,
    pub read_by: Option<Timestamp>,
    pub sent_at: Timestamp,
    pub received_at: Option<Timestamp>,
    pub revision: u64,
    pub updated_at: Timestamp,
}

impl MessageAuthor {
    const fn user(self) -> Option<i64> {
        match self {
            Self::User(user) => Some(user.as_i64()),
            Self::Connection(_) | Self::System => None,
        }
    }

    fn connection(self) -> Option<String> {
        match self {
            Self::User(_) | Self::System => None,
            Self::Connection(connection) => Some(connection.to_string()),
        }
    }
}

/// Builds the bytes that bind the sealed text to its row. The uuid alone is not unique, because
/// peers choose the uuids of their messages.
fn row_binding(author: MessageAuthor, uuid: &MessageUuid) -> Vec<u8> {
    let connection = author.connection().unwrap_or_default();
    [uuid.as_bytes().as_slice(), connection.as_bytes()].concat()
}

/// Stores a message with its HTML, so that displaying it costs nothing.
pub fn insert(tx: &mut Tx<'_>, new: &NewMessage<'_>) -> Result<MessageRowId, Fault> {
    let binding = row_binding(new.author, &new.uuid);
    let content = tx.seal(TABLE, &binding, "content", 1, new.content.as_bytes());
    let html = content::to_html(new.content, new.content_type);
    let html = tx.seal(TABLE, &binding, "html", 1, html.as_bytes());
    let is_received = matches!(new.author, MessageAuthor::Connection(_));
    let sql = "INSERT INTO messages (uuid, author_user, author_connection, author_name, content,
                   html, content_type, action_required, reply_to, deliver_by, read_by, sent_at,
                   received_at, updated_at, is_system)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
               RETURNING id";
    let id: Option<i64> = tx.query_value(
        sql,
        &[
            new.uuid.as_bytes(),
            &new.author.user(),
            &new.author.connection(),
            &new.author_name,
            &content,
            &html,
            &new.content_type.as_str(),
            &new.action_required,
            &new.reply_to.as_ref().map(MessageUuid::as_bytes),
            &new.deliver_by.map(to_millis),
            &new.read_by.map(to_millis),
            &to_millis(new.sent_at),
            &is_received.then(|| to_millis(tx.now)),
            &to_millis(tx.now),
            &(new.author == MessageAuthor::System),
        ],
    )?;
    let id = id.ok_or_else(|| Fault::failed("the new message has no id"))?;
    Ok(MessageRowId::from_i64(id))
}

/// Columns that [`read`] expects, from the table alias `m`.
pub(super) const COLUMNS: &str = "m.id AS message, m.uuid, m.author_user, m.author_connection,
    m.author_name, m.content, m.content_type, m.action_required, m.reply_to, m.deliver_by,
    m.read_by, m.sent_at, m.received_at, m.revision, m.updated_at, m.is_system";

/// Row with sealed text.
pub(super) struct SealedMessage {
    message: Message,
    content: Vec<u8>,
}

pub(super) fn read(row: &Row<'_>) -> Result<SealedMessage, RowError> {
    let user = row.optional_convert("author_user", |id: i64| {
        (id == UserId::FIRST.as_i64()).then_some(UserId::FIRST)
    })?;
    let connection = row.optional_parse("author_connection", ConnectionId::parse)?;
    let author = match (user, connection, row.read("is_system")?) {
        (Some(user), None, false) => MessageAuthor::User(user),
        (None, Some(connection), false) => MessageAuthor::Connection(connection),
        (None, None, true) => MessageAuthor::System,
        _ => return Err(row.damaged("author_connection")),
    };
    let message = Message {
        key: MessageRowId::from_i64(row.read("message")?),
        uuid: row.id("uuid")?,
        author,
        author_name: row.read("author_name")?,
        content: String::new(),
        content_type: row.parse("content_type", ContentType::parse)?,
        action_required: row.read("action_required")?,
        reply_to: row.optional_id("reply_to")?,
        deliver_by: row.optional_timestamp("deliver_by")?,
        read_by: row.optional_timestamp("read_by")?,
        sent_at: row.timestamp("sent_at")?,
        received_at: row.optional_timestamp("received_at")?,
        revision: row.read("revision")?,
        updated_at: row.timestamp("updated_at")?,
    };
    Ok(SealedMessage {
        message,
        content: row.read("content")?,
    })
}

impl SealedMessage {
    /// Returns the length of the sealed text.
    pub(super) const fn content_bytes(&self) -> usize {
        self.content.len()
    }

    pub(super) fn open(self, tx: &Tx<'_>) -> Result<Message, Fault> {
        let Self {
            mut message,
            content,
        } = self;
        let binding = row_binding(message.author, &message.uuid);
        let content = tx.open(TABLE, &binding, "content", 1, &content)?;
        message.content =
            String::from_utf8(content.to_vec()).map_err(|_| Damaged::new(TABLE, "content"))?;
        Ok(message)
    }
}

pub fn load(tx: &Tx<'_>, key: MessageRowId) -> Result<Message, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM messages m WHERE m.id = ?1");
    let sealed = tx.query_row(&sql, &[&key.as_i64()], read)?;
    sealed.ok_or_else(|| Damaged::new(TABLE, "id"))?.open(tx)
}

/// Returns the text of a message as HTML, as it was rendered when the message was stored.
pub(crate) fn load_html(tx: &Tx<'_>, message: &Message) -> Result<String, Fault> {
    let sql = "SELECT html FROM messages WHERE id = ?1";
    let sealed: Option<Vec<u8>> = tx.query_value(sql, &[&message.key.as_i64()])?;
    let sealed = sealed.ok_or_else(|| Damaged::new(TABLE, "id"))?;
    let binding = row_binding(message.author, &message.uuid);
    let html = tx.open(TABLE, &binding, "html", 1, &sealed)?;
    String::from_utf8(html.to_vec()).map_err(|_| Damaged::new(TABLE, "html").into())
}

/// Replaces the text of a message.
pub fn set_content(tx: &mut Tx<'_>, message: &Message, content: &str) -> Result<(), Fault> {
    let binding = row_binding(message.author, &message.uuid);
    let sealed = tx.seal(TABLE, &binding, "content", 1, content.as_bytes());
    let html = content::to_html(content, message.content_type);
    let html = tx.seal(TABLE, &binding, "html", 1, html.as_bytes());
    tx.execute(
        "UPDATE messages SET content = ?2, html = ?3 WHERE id = ?1",
        &[&message.key.as_i64(), &sealed, &html],
    )?;
    Ok(())
}

/// Returns our message with a given uuid, if it was sent to a given connection.
pub fn find_sent(
    tx: &Tx<'_>,
    connection: ConnectionId,
    uuid: &MessageUuid,
) -> Result<Option<MessageRowId>, Fault> {
    let sql = "SELECT m.id FROM messages m JOIN deliveries d ON d.message = m.id
               WHERE m.uuid = ?1 AND m.author_user IS NOT NULL AND d.connection = ?2";
    let id: Option<i64> = tx.query_value(sql, &[uuid.as_bytes(), &connection.to_string()])?;
    Ok(id.map(MessageRowId::from_i64))
}
