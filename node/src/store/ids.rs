//! Generation of unique public ids.

use crate::{fault::Fault, store::Tx};
use sealpost_node_core::model::{
    AttachmentId, ChatId, ConnectionId, FileId, IdKind, InviteId, ParticipantId, generate_id,
};

/// Kind of id that is the key of a table.
pub(crate) trait StoredId: IdKind {
    const FIND: &'static str;
}

macro_rules! stored {
    ($($name:ident in $table:literal;)*) => {$(
        impl StoredId for $name {
            const FIND: &'static str = concat!("SELECT 1 FROM ", $table, " WHERE id = ?1");
        }
    )*};
}

stored! {
    InviteId in "invites";
    ConnectionId in "connections";
    ChatId in "chats";
    ParticipantId in "participants";
    FileId in "files";
    AttachmentId in "attachments";
}

/// Generates an id that the table does not contain.
pub(super) fn generate<I: StoredId>(tx: &mut Tx<'_>) -> Result<I, Fault> {
    let sql = tx.sql;
    generate_id(tx.rng, |id: I| {
        let found: Option<i64> =
            sealpost_sqlite::query::first_value(sql, I::FIND, [id.to_string()])?;
        Ok(found.is_some())
    })
}
