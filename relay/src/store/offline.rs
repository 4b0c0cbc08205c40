//! The database looked at from outside the relay that may be using it: for the operator's commands. Nothing is changed.

use super::{
    MIGRATIONS, OPTIONS, StoreError,
    rows::{count, first, row, small, uint},
};
use crate::blobs::PartName;
use rusqlite::{Connection, Transaction};
use sealpost_proto::{BlobId, Timestamp, blob::BlobSize, limits::BLOB_BYTES_MAX};
use sealpost_sqlite::{OpenError, Schema, look};
use std::path::Path;

/// A database that is looked at.
pub(crate) struct Looked {
    db: Connection,
    /// How new it is.
    pub(crate) schema: Schema,
}

impl Looked {
    /// Opens it for reading, whoever else uses it, and leaves its schema as it is.
    ///
    /// # Errors
    /// [`OpenError`], also for a schema that is newer than this program.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let (db, schema) = look(path, MIGRATIONS, OPTIONS)?;
        Ok(Self { db, schema })
    }

    /// What is damaged in it, in SQLite's words.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub(crate) fn damage(&self) -> Result<Vec<String>, StoreError> {
        let found = super::rows::rows(&self.db, "PRAGMA quick_check(10)", [], |row| {
            row.get::<_, String>(0)
        })?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// When the relay last committed its heartbeat, if it ever did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn heartbeat(&self) -> Result<Option<Timestamp>, StoreError> {
        let at = first::<i64>(
            &self.db,
            "SELECT value FROM counters WHERE name = 'heartbeat'",
            [],
        )?;
        Ok(at
            .map(uint)
            .filter(|at| *at > 0)
            .map(Timestamp::from_millis))
    }

    /// One state of the database, for several questions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        Ok(Snapshot(self.db.unchecked_transaction()?))
    }
}

/// One state of the database.
pub(crate) struct Snapshot<'a>(Transaction<'a>);

impl Snapshot<'_> {
    /// Calls `visit` for every part of a blob that is there according to the database, with the bytes it has.
    ///
    /// # Errors
    /// [`StoreError`], or what `visit` gave, with which it ends.
    pub(crate) fn each_part<E: From<StoreError>>(
        &self,
        mut visit: impl FnMut(PartName, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "SELECT p.blob, p.number, p.digest, b.size FROM parts p JOIN blobs b ON b.blob = p.blob";
        let mut statement = self.0.prepare(sql).map_err(StoreError::from)?;
        let mut rows = statement.query([]).map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            let (name, bytes) = part(row).map_err(StoreError::from)?;
            visit(name, bytes)?;
        }
        Ok(())
    }

    /// Whether a blob has a row, or is still to be deleted from the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn knows_blob(&self, blob: BlobId) -> Result<bool, StoreError> {
        let sql =
            "SELECT 1 FROM blobs WHERE blob = ?1 UNION ALL SELECT 1 FROM doomed WHERE blob = ?1";
        Ok(row(&self.0, sql, [blob.as_bytes()], |_| Ok(()))?.is_some())
    }
}

fn part(row: &rusqlite::Row<'_>) -> rusqlite::Result<(PartName, u64)> {
    let number = small(row, "number")?;
    let odd = || rusqlite::Error::IntegralValueOutOfRange(0, i64::from(number));
    let size = BlobSize::parse(count(row, "size")?, BLOB_BYTES_MAX).map_err(|_| odd())?;
    let bytes = size.part_bytes(number).ok_or_else(odd)?;
    let name = PartName {
        blob: BlobId::from_bytes(row.get("blob")?),
        number,
        digest: row.get("digest")?,
    };
    Ok((name, bytes as u64))
}
