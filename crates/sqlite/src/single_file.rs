//! Databases as single files, without write-ahead log: compacted for a backup, checked, and read
//! from memory.

use crate::{BackupError, Failure, Migration, OpenError, Options, Schema, open};
use rusqlite::Connection;
use std::{fs::File, io::Read, path::Path};

/// Rewrites a database that nobody else uses as a single file without deleted content, and syncs
/// it. Blocks the thread.
///
/// # Errors
/// [`BackupError`]; the file may then be incomplete.
pub fn compact(path: &Path) -> Result<(), BackupError> {
    let connection = Connection::open(path).map_err(Failure::from)?;
    let run = || {
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
        connection.execute_batch("VACUUM")
    };
    run().map_err(Failure::from)?;
    drop(connection);
    Ok(File::open(path)?.sync_all()?)
}

/// Opens a database of `bytes` bytes in memory for reading only.
///
/// # Errors
/// [`OpenError`] if it cannot be read, is not a database of this program, or its schema is newer.
pub fn open_from_memory(
    content: impl Read,
    bytes: usize,
    migrations: &[Migration],
    options: Options,
) -> Result<(Connection, Schema), OpenError> {
    open::open_from_memory(content, bytes, migrations, options)
}

/// Checks the structure of a database: every page, index and constraint.
///
/// # Errors
/// Returns the first problem that SQLite reports.
pub fn check_integrity(connection: &Connection) -> Result<(), Failure> {
    let check =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, String>(0));
    let found = check("integrity_check").map_err(Failure::from)?;
    if found != "ok" {
        return Err(Failure::Failed { reason: found });
    }
    match check("foreign_key_check") {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(()),
        Ok(table) => Err(Failure::Failed {
            reason: format!("a row of {table} refers to one that does not exist"),
        }),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIGRATIONS: &[Migration] = &[Migration {
        version: 1,
        sql: "CREATE TABLE secrets (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
              CREATE TABLE owned (owner INTEGER REFERENCES secrets (id)) STRICT",
    }];
    const OPTIONS: Options = Options {
        application_id: 7,
        readers: 1,
        has_secure_delete: false,
    };

    /// Creates a database from which a secret was deleted, in the write-ahead log mode.
    fn create(path: &Path) {
        let connection = open::open_writer(path, MIGRATIONS, OPTIONS).unwrap();
        let secret = b"a deleted secret".repeat(1_000);
        connection
            .execute("INSERT INTO secrets (value) VALUES (?1)", [&secret])
            .unwrap();
        connection.execute("DELETE FROM secrets", []).unwrap();
    }

    fn contains_secret(path: &Path) -> bool {
        let content = std::fs::read(path).unwrap();
        content.windows(8).any(|bytes| bytes == b"a delete")
    }

    #[test]
    fn compacted_database_has_no_deleted_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        create(&path);
        assert!(contains_secret(&path), "the test needs deleted content");
        compact(&path).unwrap();
        assert!(!contains_secret(&path));
        let entries = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(entries, 1, "only the database");
        let bytes = std::fs::read(&path).unwrap();
        let opened = open_from_memory(bytes.as_slice(), bytes.len(), MIGRATIONS, OPTIONS);
        let (connection, _) = opened.unwrap();
        assert_eq!(check_integrity(&connection), Ok(()));
        let written = connection.execute("DELETE FROM secrets", []);
        assert!(written.is_err(), "it is read-only");
    }

    #[test]
    fn damaged_databases_are_detected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        create(&path);
        compact(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let open = |bytes: &[u8]| open_from_memory(bytes, bytes.len(), MIGRATIONS, OPTIONS);
        assert!(
            open(&bytes[..bytes.len() / 2]).map(|(sql, _)| check_integrity(&sql)) != Ok(Ok(()))
        );
        let other = Options {
            application_id: 8,
            ..OPTIONS
        };
        let opened = open_from_memory(bytes.as_slice(), bytes.len(), MIGRATIONS, other);
        assert!(matches!(opened, Err(OpenError::NotOurs { .. })));
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "foreign_keys", false).unwrap();
        writer.execute("INSERT INTO owned VALUES (99)", []).unwrap();
        drop(writer);
        let (orphaned, _) = open(&std::fs::read(&path).unwrap()).unwrap();
        assert!(check_integrity(&orphaned).is_err());
    }
}
