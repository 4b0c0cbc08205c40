//! Opening: whose file it is, how new its schema is, and the numbered migrations that bring it up to date.

use crate::Failure;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use sealpost_proto::limits::{
    DATABASE_BUSY_TIMEOUT, DATABASE_LOG_BYTES_KEPT, DATABASE_LOG_PAGES, DATABASE_STATEMENTS_KEPT,
};
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// One step of a schema. The steps of a program are numbered 1, 2, 3 and so on, and never change once released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The `user_version` that the schema has afterwards.
    pub version: u32,
    /// Statements, run in one transaction.
    pub sql: &'static str,
}

/// How to open.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Marks the file as this program's (SQLite's `application_id`); not zero.
    pub application_id: u32,
    /// Reading threads, at least one.
    pub readers: usize,
    /// Whether deleted content is overwritten with zeros.
    pub secure_delete: bool,
}

/// Why a database was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A later version of this program has migrated it.
    #[error(
        "{} was made by a newer version of this program (schema {found}, this version knows up to {supported}): \
         install the newer version again",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema that this program knows.
        supported: u32,
    },
    /// Not a database, or another program's.
    #[error("{} is not a database of this program: choose another data folder", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds it.
    #[error("{} is in use by another process: stop that one first", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No space left to open or migrate it.
    #[error("the disk is full: make room, then start again")]
    DiskFull,
    /// Anything else.
    #[error("the database cannot be opened: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
}

/// Opens, creates and migrates the file for the writer.
pub(crate) fn open_writer(
    path: &Path,
    migrations: &[Migration],
    options: Options,
) -> Result<Connection, OpenError> {
    create_private(path)?;
    let mut connection =
        Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
            .map_err(|error| explain(path, &error))?;
    prepare_writer(&mut connection, migrations, options).map_err(|error| error.at(path))?;
    Ok(connection)
}

pub(crate) fn open_in_memory(
    migrations: &[Migration],
    options: Options,
) -> Result<Connection, OpenError> {
    let path = Path::new(":memory:");
    let mut connection = Connection::open_in_memory().map_err(|error| explain(path, &error))?;
    prepare_writer(&mut connection, migrations, options).map_err(|error| error.at(path))?;
    Ok(connection)
}

/// How new the schema of a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// The number of its last migration; 0 when it has none.
    pub found: u32,
    /// The newest that this program knows.
    pub supported: u32,
}

/// Opens a database for reading only, whoever else uses it, and changes nothing, also not its schema.
///
/// # Errors
/// [`OpenError`]; a schema that is newer than this program is one.
pub fn look(
    path: &Path,
    migrations: &[Migration],
    options: Options,
) -> Result<(Connection, Schema), OpenError> {
    let connection = open_reader(path)?;
    let schema =
        schema(&connection, migrations, options.application_id).map_err(|error| error.at(path))?;
    Ok((connection, schema))
}

pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection =
            Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))?;
        settle(&connection)?;
        Ok(connection)
    };
    open().map_err(|error| explain(path, &error))
}

fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// SQLite gives its side files the mode of the database, so making that one private is enough.
fn create_private(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(OpenError::DiskFull),
        Err(error) => Err(OpenError::Failed {
            reason: format!("{}: {error}", path.display()),
        }),
    }
}

/// What went wrong, before the path is added.
enum Trouble {
    Newer { found: u32, supported: u32 },
    NotOurs,
    Sql(rusqlite::Error),
    Migrations(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    fn at(self, path: &Path) -> OpenError {
        match self {
            Self::Newer { found, supported } => OpenError::NewerSchema {
                path: path.to_owned(),
                found,
                supported,
            },
            Self::NotOurs => OpenError::NotOurs {
                path: path.to_owned(),
            },
            Self::Sql(error) => explain(path, &error),
            Self::Migrations(reason) => OpenError::Failed { reason },
        }
    }
}

fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotOurs {
            path: path.to_owned(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked {
            path: path.to_owned(),
        },
        _ => match Failure::from(error) {
            Failure::DiskFull => OpenError::DiskFull,
            Failure::Failed { reason } => OpenError::Failed {
                reason: format!("{}: {reason}", path.display()),
            },
        },
    }
}

fn prepare_writer(
    connection: &mut Connection,
    migrations: &[Migration],
    options: Options,
) -> Result<(), Trouble> {
    settle(connection)?;
    // Before anything is written: a foreign or newer file must stay as it is.
    let Schema { found, .. } = schema(connection, migrations, options.application_id)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "secure_delete", options.secure_delete)?;
    connection
        .pragma_update_and_check(None, "wal_autocheckpoint", DATABASE_LOG_PAGES, |_| Ok(()))?;
    connection.pragma_update_and_check(
        None,
        "journal_size_limit",
        DATABASE_LOG_BYTES_KEPT,
        |_| Ok(()),
    )?;
    for migration in migrations
        .iter()
        .filter(|migration| migration.version > found)
    {
        migrate(connection, migration, options.application_id)?;
    }
    Ok(())
}

fn schema(
    connection: &Connection,
    migrations: &[Migration],
    application_id: u32,
) -> Result<Schema, Trouble> {
    let supported = newest(migrations)?;
    check_owner(connection, application_id)?;
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > supported {
        Err(Trouble::Newer { found, supported })
    } else {
        Ok(Schema { found, supported })
    }
}

/// What every connection has.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(DATABASE_BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(DATABASE_STATEMENTS_KEPT);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Else each new value of a `LIMIT ?` makes SQLite prepare the statement again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Else a large savepoint is copied into a file of the system's folder for temporary files, on whatever disk that is.
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "trusted_schema", false)
}

fn newest(migrations: &[Migration]) -> Result<u32, Trouble> {
    for (migration, expected) in migrations.iter().zip(1..) {
        if migration.version != expected {
            let reason = format!(
                "migration {} stands where {expected} belongs",
                migration.version
            );
            return Err(Trouble::Migrations(reason));
        }
    }
    Ok(migrations.last().map_or(0, |migration| migration.version))
}

/// A file without owner, version and content is new, hence ours to be.
fn check_owner(connection: &Connection, ours: u32) -> Result<(), Trouble> {
    let owner: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if owner.cast_unsigned() == ours {
        return Ok(());
    }
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let objects: u64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner == 0 && version == 0 && objects == 0 {
        Ok(())
    } else {
        Err(Trouble::NotOurs)
    }
}

fn migrate(
    connection: &mut Connection,
    migration: &Migration,
    application_id: u32,
) -> Result<(), Trouble> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction
        .execute_batch(migration.sql)
        .map_err(|error| match Failure::from(&error) {
            Failure::DiskFull => Trouble::Sql(error),
            Failure::Failed { reason } => {
                Trouble::Migrations(format!("migration {}: {reason}", migration.version))
            }
        })?;
    transaction.pragma_update(None, "application_id", application_id.cast_signed())?;
    transaction.pragma_update(None, "user_version", migration.version)?;
    transaction.commit()?;
    tracing::info!(version = migration.version, "the database was migrated");
    Ok(())
}
