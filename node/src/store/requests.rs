//! Requests that must not run twice, by the client's own id.

use crate::{fault::Fault, store::Tx};
use sealpost_node_core::model::MessageId;
use sealpost_proto::limits;
use sealpost_sqlite::{RowExt as _, to_millis};

/// A request that ran before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// Digest of the request's body.
    pub digest: [u8; 32],
    /// The messages that it sent.
    pub sent: Vec<MessageId>,
}

/// Returns the request that ran under this id.
pub fn load(tx: &Tx<'_>, client_id: &str) -> Result<Option<StoredRequest>, Fault> {
    let sql = "SELECT digest, response FROM requests WHERE client_id = ?1";
    tx.row(sql, &[&client_id], |row| {
        let parse = |text: &str| {
            text.split(' ')
                .map(MessageId::parse)
                .collect::<Result<_, _>>()
        };
        Ok(StoredRequest {
            digest: row.read("digest")?,
            sent: row.parse("response", parse)?,
        })
    })
}

pub fn insert(tx: &Tx<'_>, client_id: &str, request: &StoredRequest) -> Result<(), Fault> {
    let sent: Vec<_> = request.sent.iter().map(MessageId::to_string).collect();
    tx.execute(
        "INSERT INTO requests (client_id, digest, response, at) VALUES (?1, ?2, ?3, ?4)",
        &[
            &client_id,
            &request.digest,
            &sent.join(" "),
            &to_millis(tx.now),
        ],
    )?;
    Ok(())
}

pub fn delete_old(tx: &Tx<'_>) -> Result<(), Fault> {
    let before = tx.now.minus(limits::MESSAGE_ID_RETENTION);
    tx.execute("DELETE FROM requests WHERE at < ?1", &[&to_millis(before)])?;
    Ok(())
}
