//! Lists of postings: one chat in its display order, or all chats in the order of arrival.

use super::{JOINS, Posting, SealedPosting, columns, read};
use crate::{fault::Fault, store::Tx};
use rusqlite::Row;
use sealpost_node_core::model::{
    ChatId, Direction, DisplayPosition, MessageRowId, SenderPosition, UserId,
};
use sealpost_proto::limits;
use sealpost_sqlite::{RowError, to_integer};

/// Position in a list of all chats, which is ordered by arrival, then by chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub message: MessageRowId,
    pub chat: ChatId,
}

/// Filter and order of a list of postings.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only one chat, in its display order.
    pub chat: Option<ChatId>,
    pub direction: Option<Direction>,
    /// Only unread incoming messages.
    pub unread: bool,
    /// Newest first.
    pub is_descending: bool,
    /// Where a list of all chats continues.
    pub after: Option<Cursor>,
    /// Where the list of one chat continues.
    pub after_shown: Option<DisplayPosition>,
    pub limit: i64,
}

impl Filter {
    /// Returns the comparison with the cursor and the direction of the order.
    const fn operators(&self) -> (&'static str, &'static str) {
        if self.is_descending {
            ("<", "DESC")
        } else {
            (">", "ASC")
        }
    }

    fn own(&self) -> Option<bool> {
        self.direction.map(|direction| direction == Direction::Out)
    }
}

/// Returns a page of postings. It ends early, with at least two postings, when their texts exceed
/// [`limits::PAGE_BYTES_MAX`] in total.
pub fn load_page(tx: &Tx<'_>, filter: &Filter) -> Result<Vec<Posting>, Fault> {
    match filter.chat {
        Some(chat) => load_chat_page(tx, chat, filter),
        None => load_arrivals_page(tx, filter),
    }
}

fn load_chat_page(tx: &Tx<'_>, chat: ChatId, filter: &Filter) -> Result<Vec<Posting>, Fault> {
    let (compare, order) = filter.operators();
    let order = format!("p.sort {order}, p.life {order}, p.seq {order}, p.number {order}");
    let unread = if filter.unread {
        "AND p.own = 0 AND p.number > coalesce((SELECT r.number FROM read_positions r
             WHERE r.user = ?1 AND r.chat = ?2), 0)"
    } else {
        ""
    };
    // The inner query sorts only keys, not texts.
    let sql = format!(
        "SELECT {} FROM (
             SELECT * FROM postings p WHERE p.chat = ?2
                 AND (p.sort, p.life, p.seq, p.number) {compare} (?3, ?4, ?5, ?6)
                 AND (?7 IS NULL OR p.own = ?7) {unread}
             ORDER BY {order} LIMIT ?8
         ) p JOIN chats c ON c.id = p.chat {JOINS} ORDER BY {order}",
        columns()
    );
    let start = if filter.is_descending { LAST } else { FIRST };
    let after = filter.after_shown.unwrap_or(start);
    let rows = tx.query_leading_rows(
        &sql,
        &[
            &UserId::FIRST.as_i64(),
            &chat.to_string(),
            &to_integer(after.sort),
            &to_integer(after.sender.life),
            &to_integer(after.sender.seq),
            &to_integer(after.number),
            &filter.own(),
            &filter.limit,
        ],
        limits::PAGE_BYTES_MAX,
        read_with_size,
    )?;
    rows.into_iter().map(|row| row.open(tx)).collect()
}

fn read_with_size(row: &Row<'_>) -> Result<(SealedPosting, usize), RowError> {
    let posting = read(row)?;
    let size = posting.message.content_bytes();
    Ok((posting, size))
}

/// Position before all messages of a chat.
const FIRST: DisplayPosition = DisplayPosition {
    sort: 0,
    sender: SenderPosition::OWN,
    number: 0,
};

/// Position after all messages of a chat.
const LAST: DisplayPosition = DisplayPosition {
    sort: u64::MAX,
    sender: SenderPosition {
        life: u64::MAX,
        seq: u64::MAX,
    },
    number: u64::MAX,
};

fn load_arrivals_page(tx: &Tx<'_>, filter: &Filter) -> Result<Vec<Posting>, Fault> {
    let (compare, order) = filter.operators();
    // A list of unread messages starts from the read positions, so that it skips read messages
    // without scanning them.
    let from = if filter.unread {
        "chats c LEFT JOIN read_positions r ON r.user = ?1 AND r.chat = c.id
         CROSS JOIN postings p ON p.chat = c.id AND p.own = 0
             AND p.number > coalesce(r.number, 0)"
    } else {
        "postings p JOIN chats c ON c.id = p.chat"
    };
    let sql = format!(
        "SELECT {} FROM {from} {JOINS}
         WHERE (?2 IS NULL OR (p.message, p.chat) {compare} (?2, ?3))
             AND (?4 IS NULL OR p.own = ?4)
         ORDER BY p.message {order}, p.chat {order} LIMIT ?5",
        columns()
    );
    let rows = tx.query_leading_rows(
        &sql,
        &[
            &UserId::FIRST.as_i64(),
            &filter.after.map(|after| after.message.as_i64()),
            &filter.after.map(|after| after.chat.to_string()),
            &filter.own(),
            &filter.limit,
        ],
        limits::PAGE_BYTES_MAX,
        read_with_size,
    )?;
    rows.into_iter().map(|row| row.open(tx)).collect()
}
