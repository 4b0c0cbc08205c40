//! Read-only access to the database for the operator's commands, whether or not a relay uses it at
//! the same time.

use super::{
    MIGRATIONS, OPTIONS, StoreError,
    blobs::read_size,
    rows::{exists, visit_rows},
};
use crate::blobs::PartName;
use rusqlite::{Connection, Row, Transaction};
use sealpost_proto::{BlobId, Timestamp};
use sealpost_sqlite::{OpenError, Schema, open_read_only};
use sealpost_sqlite::{RowError, RowExt as _, query};
use std::path::Path;

/// Database that is open for reading only.
pub(crate) struct Inspection {
    db: Connection,
    pub(crate) schema: Schema,
}

impl Inspection {
    /// Opens the database and leaves its schema as it is. A schema that is newer than this program
    /// is an error.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let (db, schema) = open_read_only(path, MIGRATIONS, OPTIONS)?;
        Ok(Self { db, schema })
    }

    /// Runs SQLite's quick check and returns what it reports as damaged.
    pub(crate) fn check_integrity(&self) -> Result<Vec<String>, StoreError> {
        let sql = "PRAGMA quick_check(10)";
        let found: Vec<String> = query::all_rows(&self.db, sql, [], |row| row.read(0))?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// Returns when the relay last committed its heartbeat, if it ever did.
    pub(crate) fn load_heartbeat(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT value FROM counters WHERE name = 'heartbeat'";
        let at: Option<u64> = query::first_value(&self.db, sql, [])?;
        Ok(at.filter(|at| *at > 0).map(Timestamp::from_millis))
    }

    /// Starts a snapshot, so that several queries see the same state.
    pub(crate) fn start_snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        Ok(Snapshot(self.db.unchecked_transaction()?))
    }
}

/// Snapshot of the database.
pub(crate) struct Snapshot<'a>(Transaction<'a>);

impl Snapshot<'_> {
    /// Calls `visit` with every part of a blob and its length, until it returns an error.
    pub(crate) fn visit_parts<E: From<StoreError>>(
        &self,
        mut visit: impl FnMut(PartName, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "SELECT p.blob_id, p.number, p.digest, b.size_bytes \
                   FROM blob_parts p JOIN blobs b ON b.id = p.blob_id";
        visit_rows(&self.0, sql, [], |row| {
            let (name, bytes) = read_part(row).map_err(StoreError::from)?;
            visit(name, bytes)?;
            Ok(true)
        })
    }

    /// Returns whether a blob exists, or waits to be deleted from the disk.
    pub(crate) fn contains_blob(&self, blob: BlobId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM blobs WHERE id = ?1 \
                   UNION ALL SELECT 1 FROM blob_deletions WHERE blob_id = ?1";
        exists(&self.0, sql, [blob.as_bytes()])
    }
}

fn read_part(row: &Row<'_>) -> Result<(PartName, u64), RowError> {
    let number = row.read("number")?;
    let bytes = read_size(row)?
        .part_bytes(number)
        .ok_or_else(|| row.damaged("number"))?;
    let name = PartName {
        blob: row.id("blob_id")?,
        number,
        digest: row.read("digest")?,
    };
    Ok((name, bytes as u64))
}
