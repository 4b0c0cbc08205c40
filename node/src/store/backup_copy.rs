//! Removes from a copy of the database what a backup must not contain: secrets with which somebody
//! could read what was sent, and the state of what was running. The copy is of no use to a running
//! node.

use crate::{
    fault::Fault,
    files::DiskFileId,
    store::{Tx, connections, files, invites, restoration},
};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::model::FileId;
use sealpost_sqlite::RowExt as _;

/// Turns a copy of the database into the database of a backup that is made now.
pub(crate) fn prepare(tx: &mut Tx<'_>) -> Result<(), Fault> {
    remove_session_secrets(tx)?;
    remove_running_state(tx)?;
    restoration::mark_backup(tx)
}

fn remove_session_secrets(tx: &mut Tx<'_>) -> Result<(), Fault> {
    for id in connections::find_all(tx)? {
        let mut loaded = connections::load_secrets(tx, id)?;
        loaded.secrets.remove_session_secrets();
        connections::save(tx, &mut loaded)?;
    }
    for mut row in invites::load_all(tx)? {
        row.issued.bundles.clear();
        invites::save(tx, &row)?;
    }
    tx.execute("DELETE FROM opened_digests", &[])?;
    Ok(())
}

fn remove_running_state(tx: &Tx<'_>) -> Result<(), Fault> {
    // Prekeys whose secrets were just removed, and sessions that the recovery starts anyway.
    tx.execute(
        "DELETE FROM relay_jobs WHERE kind IN ('publish_prekeys', 'start_session')",
        &[],
    )?;
    tx.execute(
        "UPDATE outbox SET state = 'waiting', envelope_id = NULL, relay = NULL, mailbox = NULL,
             proof = NULL, envelope = NULL, expires_at = NULL, attempt = 0, next_at = 0
         WHERE state = 'sealed'",
        &[],
    )?;
    // They describe what had arrived, and the recovery repeats them.
    tx.execute("DELETE FROM outbox WHERE kind = ?1", &[&Kind::RESEND.0])?;
    tx.execute("DELETE FROM events", &[])?;
    for id in find_staged(tx)? {
        files::delete_staged(tx, id)?;
    }
    tx.execute(
        "UPDATE files SET transferred = 0 WHERE direction = 'in' AND status <> 'ready'",
        &[],
    )?;
    Ok(())
}

fn find_staged(tx: &Tx<'_>) -> Result<Vec<FileId>, Fault> {
    let sql = "SELECT id FROM files WHERE status = 'staged'";
    tx.query_rows(sql, &[], |row| row.parse("id", FileId::parse))
}

/// Sealed file that the database says is in the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredDiskFile {
    pub id: FileId,
    pub disk_file: DiskFileId,
}

/// Returns the files that the data directory must contain.
pub(crate) fn find_disk_files(tx: &Tx<'_>) -> Result<Vec<StoredDiskFile>, Fault> {
    let sql = "SELECT id, disk_file FROM files
               WHERE status = 'ready' OR (direction = 'out' AND on_disk) ORDER BY position";
    tx.query_rows(sql, &[], |row| {
        Ok(StoredDiskFile {
            id: row.parse("id", FileId::parse)?,
            disk_file: DiskFileId::from_bytes(row.read("disk_file")?),
        })
    })
}

/// Records that a file is not in the data directory. A received file can be requested again while
/// the relay has it; an upload that needs the file fails when it runs.
pub(crate) fn record_missing(tx: &Tx<'_>, id: FileId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE files SET status = 'failed', transferred = 0, reason = ?2
         WHERE id = ?1 AND status = 'ready'",
        &[
            &id.to_string(),
            &"the file is missing: it was not in the backup",
        ],
    )?;
    tx.execute(
        "UPDATE files SET on_disk = 0 WHERE id = ?1 AND direction = 'out'",
        &[&id.to_string()],
    )?;
    Ok(())
}
