//! Opening of a database file: checks of its owner and schema version, and numbered migrations.

use crate::Failure;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use sealpost_proto::limits::{
    DATABASE_BUSY_TIMEOUT, DATABASE_CACHED_STATEMENTS_MAX, DATABASE_WAL_BYTES_MAX,
    DATABASE_WAL_CHECKPOINT_PAGES,
};
use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Step of a schema. The steps of a program are numbered from 1 and do not change once released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// `user_version` of the schema after this step.
    pub version: u32,
    /// Statements that run in one transaction.
    pub sql: &'static str,
}

/// Options for opening a database.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// SQLite's `application_id`, which marks the file as this program's. It is not zero.
    pub application_id: u32,
    /// Number of reader threads; 0 means 1.
    pub readers: usize,
    /// Whether SQLite overwrites deleted content with zeros.
    pub has_secure_delete: bool,
}

/// Error when opening a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A later version of this program migrated the database.
    #[error(
        "{} was created by a newer version of this program \
         (schema {found}, this version supports up to {supported}): \
         install the newer version again",
        path.display()
    )]
    NewerSchema {
        /// Path of the file.
        path: PathBuf,
        /// Schema version of the file.
        found: u32,
        /// Newest schema version that this program supports.
        supported: u32,
    },
    /// The file is not a database, or belongs to another program.
    #[error(
        "{} is not a database of this program, or is damaged: check --data, or restore a backup",
        path.display()
    )]
    NotOurs {
        /// Path of the file.
        path: PathBuf,
    },
    /// Another process has locked the file.
    #[error("{} is in use by another process: stop that process first", path.display())]
    Locked {
        /// Path of the file.
        path: PathBuf,
    },
    /// No space is left to open or migrate the database.
    #[error("the disk is full: free some space and start again")]
    DiskFull,
    /// Any other failure.
    #[error("the database cannot be opened: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
}

/// Opens the file for the writer, creates it if necessary and migrates it.
pub(crate) fn open_writer(
    path: &Path,
    migrations: &[Migration],
    options: Options,
) -> Result<Connection, OpenError> {
    create_private(path)?;
    let mut connection =
        Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
            .map_err(|error| to_open_error(path, &error))?;
    prepare_writer(&mut connection, migrations, options).map_err(|error| error.with_path(path))?;
    Ok(connection)
}

pub(crate) fn open_in_memory(
    migrations: &[Migration],
    options: Options,
) -> Result<Connection, OpenError> {
    let path = Path::new(":memory:");
    let mut connection =
        Connection::open_in_memory().map_err(|error| to_open_error(path, &error))?;
    prepare_writer(&mut connection, migrations, options).map_err(|error| error.with_path(path))?;
    Ok(connection)
}

/// Schema versions of a database and of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// Number of the last migration of the database; 0 before the first one.
    pub found: u32,
    /// Newest version that this program supports.
    pub supported: u32,
}

/// Opens a database for reading only, even while another process uses it. It changes nothing, not
/// even the schema.
///
/// # Errors
/// [`OpenError`], also if the schema is newer than this program.
pub fn open_read_only(
    path: &Path,
    migrations: &[Migration],
    options: Options,
) -> Result<(Connection, Schema), OpenError> {
    let connection = open_reader(path)?;
    let schema = read_schema_version(&connection, migrations, options.application_id)
        .map_err(|error| error.with_path(path))?;
    Ok((connection, schema))
}

/// Reads a database into memory.
pub(crate) fn open_from_memory(
    content: impl Read,
    bytes: usize,
    migrations: &[Migration],
    options: Options,
) -> Result<(Connection, Schema), OpenError> {
    let open = || {
        let mut connection = Connection::open_in_memory()?;
        connection.deserialize_read_exact("main", content, bytes, true)?;
        configure(&connection)?;
        read_schema_version(&connection, migrations, options.application_id)
            .map(|schema| (connection, schema))
    };
    open().map_err(|error: OpenFailure| error.with_path(Path::new("the database in memory")))
}

pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection =
            Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))?;
        configure(&connection)?;
        Ok(connection)
    };
    open().map_err(|error| to_open_error(path, &error))
}

fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Creates the file with mode 0600. SQLite gives its other files the mode of the database file.
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

/// Reason for an [`OpenError`], without the path.
enum OpenFailure {
    Newer { found: u32, supported: u32 },
    NotOurs,
    Sql(rusqlite::Error),
    Migrations(String),
}

impl From<rusqlite::Error> for OpenFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl OpenFailure {
    fn with_path(self, path: &Path) -> OpenError {
        match self {
            Self::Newer { found, supported } => OpenError::NewerSchema {
                path: path.to_owned(),
                found,
                supported,
            },
            Self::NotOurs => OpenError::NotOurs {
                path: path.to_owned(),
            },
            Self::Sql(error) => to_open_error(path, &error),
            Self::Migrations(reason) => OpenError::Failed { reason },
        }
    }
}

fn to_open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
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
) -> Result<(), OpenFailure> {
    configure(connection)?;
    // Before any write: a file of another program or of a newer version must not change.
    let Schema { found, .. } = read_schema_version(connection, migrations, options.application_id)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "secure_delete", options.has_secure_delete)?;
    connection.pragma_update_and_check(
        None,
        "wal_autocheckpoint",
        DATABASE_WAL_CHECKPOINT_PAGES,
        |_| Ok(()),
    )?;
    connection.pragma_update_and_check(
        None,
        "journal_size_limit",
        DATABASE_WAL_BYTES_MAX,
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

fn read_schema_version(
    connection: &Connection,
    migrations: &[Migration],
    application_id: u32,
) -> Result<Schema, OpenFailure> {
    let supported = newest_version(migrations)?;
    check_owner(connection, application_id)?;
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > supported {
        Err(OpenFailure::Newer { found, supported })
    } else {
        Ok(Schema { found, supported })
    }
}

/// Sets the options of every connection.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(DATABASE_BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(DATABASE_CACHED_STATEMENTS_MAX);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Otherwise SQLite prepares a statement again for each new value of a `LIMIT ?`.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Otherwise SQLite copies a large savepoint to a temporary file, possibly on another disk.
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "trusted_schema", false)
}

fn newest_version(migrations: &[Migration]) -> Result<u32, OpenFailure> {
    for (migration, expected) in migrations.iter().zip(1..) {
        if migration.version != expected {
            let reason = format!(
                "migration {} is in the place of migration {expected}",
                migration.version
            );
            return Err(OpenFailure::Migrations(reason));
        }
    }
    Ok(migrations.last().map_or(0, |migration| migration.version))
}

/// Checks that the file belongs to this program. A new file has no owner, no version and no
/// content.
fn check_owner(connection: &Connection, application_id: u32) -> Result<(), OpenFailure> {
    let owner: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if owner.cast_unsigned() == application_id {
        return Ok(());
    }
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let objects: u64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner == 0 && version == 0 && objects == 0 {
        Ok(())
    } else {
        Err(OpenFailure::NotOurs)
    }
}

fn migrate(
    connection: &mut Connection,
    migration: &Migration,
    application_id: u32,
) -> Result<(), OpenFailure> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction
        .execute_batch(migration.sql)
        .map_err(|error| match Failure::from(&error) {
            Failure::DiskFull => OpenFailure::Sql(error),
            Failure::Failed { reason } => {
                OpenFailure::Migrations(format!("migration {}: {reason}", migration.version))
            }
        })?;
    transaction.pragma_update(None, "application_id", application_id.cast_signed())?;
    transaction.pragma_update(None, "user_version", migration.version)?;
    transaction.commit()?;
    tracing::info!(version = migration.version, "the database was migrated");
    Ok(())
}
