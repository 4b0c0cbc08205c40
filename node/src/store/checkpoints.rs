//! Checkpoints that this database has written, and how much has changed since.

use crate::{fault::Fault, store::Tx};
use sealpost_e2ee::{Checkpoint, CheckpointMark};
use sealpost_proto::limits;
use sealpost_sqlite::{RowExt as _, to_integer, to_millis};

/// Returns the latest checkpoints, oldest first.
pub(crate) fn load(tx: &Tx<'_>) -> Result<Vec<Checkpoint>, Fault> {
    let sql = "SELECT generation, mark, written_at FROM checkpoints ORDER BY generation";
    tx.query_rows(sql, &[], |row| {
        Ok(Checkpoint {
            generation: row.read("generation")?,
            mark: CheckpointMark::from_bytes(row.read("mark")?),
            written_at: row.timestamp("written_at")?,
        })
    })
}

/// Stores a new checkpoint, and deletes all but the latest [`limits::CHECKPOINTS_KEPT`].
pub(crate) fn insert(tx: &Tx<'_>, checkpoint: &Checkpoint) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO checkpoints (generation, mark, activity, written_at) VALUES (?1, ?2, ?3, ?4)",
        &[
            &to_integer(checkpoint.generation),
            checkpoint.mark.as_bytes(),
            &count_inserted_rows(tx)?,
            &to_millis(checkpoint.written_at),
        ],
    )?;
    tx.execute(
        "DELETE FROM checkpoints WHERE generation NOT IN (
             SELECT generation FROM checkpoints ORDER BY generation DESC LIMIT ?1)",
        &[&limits::CHECKPOINTS_KEPT],
    )?;
    Ok(())
}

pub(crate) fn delete_all(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute("DELETE FROM checkpoints", &[])?;
    Ok(())
}

/// Whether anything was sent or received since the latest checkpoint.
pub(crate) fn has_activity(tx: &Tx<'_>) -> Result<bool, Fault> {
    let sql = "SELECT activity FROM checkpoints ORDER BY generation DESC LIMIT 1";
    let recorded: Option<i64> = tx.query_value(sql, &[])?;
    Ok(recorded != Some(count_inserted_rows(tx)?))
}

/// Counts the rows that were ever inserted into the tables that number them. Whatever is sent or
/// received inserts a row into the outbox, the messages, the events or the relay jobs.
fn count_inserted_rows(tx: &Tx<'_>) -> Result<i64, Fault> {
    let sql = "SELECT coalesce(sum(seq), 0) FROM sqlite_sequence";
    Ok(tx.query_value(sql, &[])?.unwrap_or(0))
}
