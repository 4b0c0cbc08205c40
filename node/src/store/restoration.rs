//! The single row about the restore of this node from a backup. A backup contains the row, so that
//! a node never continues from the state of a backup without recovery.

use crate::{
    fault::Fault,
    store::{
        Tx,
        events::{self, Subject},
    },
};
use sealpost_proto::Timestamp;
use sealpost_sqlite::{RowExt as _, to_integer, to_millis};

/// Restore of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restoration {
    pub backed_up_at: Timestamp,
    /// When the backup was restored; `None` in the backup itself.
    pub restored_at: Option<Timestamp>,
    /// First event of the stream that began with the restore.
    pub first_event: i64,
    /// When the sessions were replaced. Until then nothing is sent or received.
    pub recovered_at: Option<Timestamp>,
    /// Number of connections whose sessions were replaced.
    pub connections: u64,
}

/// Marks the database as the one of a backup that is made now.
pub(crate) fn mark_backup(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR REPLACE INTO restoration (id, backed_up_at) VALUES (1, ?1)",
        &[&to_millis(tx.now)],
    )?;
    Ok(())
}

/// Returns the restore, if this node was restored.
pub(crate) fn load(tx: &Tx<'_>) -> Result<Option<Restoration>, Fault> {
    let sql = "SELECT backed_up_at, restored_at, first_event, recovered_at, connections
               FROM restoration";
    tx.query_row(sql, &[], |row| {
        Ok(Restoration {
            backed_up_at: row.timestamp("backed_up_at")?,
            restored_at: row.optional_timestamp("restored_at")?,
            first_event: row.read("first_event")?,
            recovered_at: row.optional_timestamp("recovered_at")?,
            connections: row.read("connections")?,
        })
    })
}

/// Records that the backup is restored now, unless that was recorded before. The events after it
/// are numbered so that no client takes one of them for an event from before.
pub(crate) fn begin(tx: &Tx<'_>) -> Result<(), Fault> {
    let Some(Restoration {
        restored_at: None, ..
    }) = load(tx)?
    else {
        return Ok(());
    };
    let now = to_millis(tx.now);
    let first_event = events::start_stream(tx, now)?;
    tx.execute(
        "UPDATE restoration SET restored_at = ?1, first_event = ?2",
        &[&now, &first_event],
    )?;
    Ok(())
}

/// Records that the sessions of all connections were replaced.
pub(crate) fn complete(tx: &Tx<'_>, connections: usize) -> Result<(), Fault> {
    tx.execute(
        "UPDATE restoration SET recovered_at = ?1, connections = ?2",
        &[&to_millis(tx.now), &to_integer(connections as u64)],
    )?;
    events::add(tx, Subject::Node)
}
