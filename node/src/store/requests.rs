//! Completed requests to send a message, by the id that the client chose. The id makes a repeated
//! request idempotent (an *idempotency key*).

use crate::{fault::Fault, store::Tx};
use sealpost_node_core::model::MessageId;
use sealpost_proto::limits;
use sealpost_sqlite::{RowExt as _, to_millis};

/// Completed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRequest {
    /// Digest of the request body.
    pub digest: [u8; 32],
    /// The message that the request sent, as one id for the chat of each recipient.
    pub sent: Vec<MessageId>,
}

/// Returns the completed request with a given client id.
pub(crate) fn load(tx: &Tx<'_>, client_id: &str) -> Result<Option<StoredRequest>, Fault> {
    let sql = "SELECT digest, sent FROM requests WHERE client_id = ?1";
    tx.query_row(sql, &[&client_id], |row| {
        let parse = |text: &str| {
            text.split(' ')
                .map(MessageId::parse)
                .collect::<Result<_, _>>()
        };
        Ok(StoredRequest {
            digest: row.read("digest")?,
            sent: row.parse("sent", parse)?,
        })
    })
}

pub(crate) fn insert(tx: &Tx<'_>, client_id: &str, request: &StoredRequest) -> Result<(), Fault> {
    let sent: Vec<_> = request.sent.iter().map(MessageId::to_string).collect();
    tx.execute(
        "INSERT INTO requests (client_id, digest, sent, at) VALUES (?1, ?2, ?3, ?4)",
        &[
            &client_id,
            &request.digest,
            &sent.join(" "),
            &to_millis(tx.now),
        ],
    )?;
    Ok(())
}

pub(crate) fn delete_old(tx: &Tx<'_>) -> Result<(), Fault> {
    let before = tx.now.minus(limits::MESSAGE_ID_RETENTION);
    tx.execute("DELETE FROM requests WHERE at < ?1", &[&to_millis(before)])?;
    Ok(())
}
