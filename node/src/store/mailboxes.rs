//! Which mailboxes at the relay belong to this node.

use crate::{fault::Fault, store::Tx};
use sealpost_proto::MailboxId;

/// Whether a mailbox belongs to an invite or a connection, or a relay job is about it.
pub(crate) fn is_known(tx: &Tx<'_>, id: &MailboxId) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM mailboxes WHERE id = ?1)
                   OR EXISTS (SELECT 1 FROM relay_jobs WHERE mailbox = ?1) AS known";
    let known = tx.query_row(sql, &[id.as_bytes()], |row| Ok(row.get("known")?))?;
    Ok(known.unwrap_or_default())
}
