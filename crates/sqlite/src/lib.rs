//! SQLite as both daemons use it: opened and migrated in one place, one writer thread that commits whatever has arrived
//! since its last commit, and a few threads that read.
//!
//! Nothing here knows a table. Nothing is answered before it is on disk: [`Database::write`] returns after the commit
//! that holds its changes has been fsynced. Queues are bounded and a full one is said at once ([`WriteError::Busy`]),
//! so memory stays flat whatever is asked.
//!
//! Start reading at [`Database`]; the group commit is in `writer.rs`.

mod failure;
mod jobs;
mod open;
pub mod query;
mod readers;
mod rows;
mod writer;

pub use failure::Failure;
pub use open::{Migration, OpenError, Options, Schema, look};
pub use readers::copy;
pub use rows::{Damaged, Parsed, RowError, RowExt, to_integer, to_millis};

use jobs::Durability;
use readers::Readers;
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use writer::Writer;

/// An open database. Clones are cheap and share it.
///
/// It closes when [`Database::close`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Database {
    writer: Writer,
    readers: Option<Readers>,
    counters: Arc<Counters>,
}

/// What the writer has done since the database was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits that changed something and were fsynced.
    pub commits: u64,
    /// Jobs whose changes were committed, or that changed nothing.
    pub jobs: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    jobs: AtomicU64,
}

/// Why a write did not happen. In every variant the database is as if the job had never been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError<E> {
    /// The job itself said no; its savepoint was rolled back, the other jobs of the commit were not.
    #[error("{0}")]
    Job(E),
    /// Too many jobs wait already.
    #[error("the database has too much to do")]
    Busy,
    /// The commit did not reach the disk because there is no space left.
    #[error("the disk is full")]
    DiskFull,
    /// The commit did not reach the disk for another reason.
    #[error("the database failed: {reason}")]
    Failed {
        /// SQLite's words; they name no values.
        reason: String,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

/// Why a read did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The job itself said no.
    #[error("{0}")]
    Job(E),
    /// Too many jobs wait already.
    #[error("the database has too much to do")]
    Busy,
    /// The database could not be read.
    #[error("the database failed: {reason}")]
    Failed {
        /// SQLite's words; they name no values.
        reason: String,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

/// Why a backup was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something stands at that path already.
    #[error("a file of that name exists already")]
    Exists,
    /// There is no space left for it.
    #[error("the disk is full")]
    DiskFull,
    /// It could not be read or written.
    #[error("the backup failed: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
}

impl Database {
    /// Opens the database at `path`, creates it (mode 0600) when there is none, and brings its schema up to date: each
    /// migration in a transaction of its own.
    ///
    /// Blocks while it migrates: call it at start, before anything is served.
    ///
    /// # Errors
    /// [`OpenError`] says whether the file is newer than this program, somebody else's, in use, or unreadable.
    pub fn open(
        path: &Path,
        migrations: &[Migration],
        options: Options,
    ) -> Result<Self, OpenError> {
        let connection = open::open_writer(path, migrations, options)?;
        let readers = Readers::start(path, options)?;
        Self::start(connection, Some(readers))
    }

    /// A database that lives in memory and dies with its last clone, for tests. Its reads wait in the writer's queue.
    ///
    /// # Errors
    /// [`OpenError`] when a migration does not apply.
    pub fn open_in_memory(migrations: &[Migration], options: Options) -> Result<Self, OpenError> {
        let connection = open::open_in_memory(migrations, options)?;
        Self::start(connection, None)
    }

    fn start(connection: Connection, readers: Option<Readers>) -> Result<Self, OpenError> {
        let counters = Arc::new(Counters::default());
        let writer = Writer::start(connection, Arc::clone(&counters))?;
        Ok(Self {
            writer,
            readers,
            counters,
        })
    }

    /// Runs `job` on the writer thread, inside a savepoint of its own, and returns once the commit with its changes is on
    /// disk. Jobs run in the order of their calls; as many as have arrived since the last commit, at most
    /// [`WRITER_BATCH_MAX`](sealpost_proto::limits::WRITER_BATCH_MAX), share one commit.
    ///
    /// A job must not block on anything but the database, and must not begin or end a transaction.
    ///
    /// # Errors
    /// [`WriteError::Job`] with what the job returned; the other variants when the commit did not happen.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.writer.write(Durability::Synced, job).await
    }

    /// As [`Database::write`], for what may be undone by a power cut (not by the end of the process) together with
    /// everything that was written after it: the log is fsynced with the next commit that asks for it. Only for what a
    /// restart puts right by itself.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn write_unsynced<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.writer.write(Durability::Unsynced, job).await
    }

    /// As [`Database::write`], for one job that answers several callers: `then` is called on the writer thread once the
    /// commit is on disk or has failed, and must not block. A job that panics drops `then`.
    ///
    /// # Errors
    /// [`WriteError::Busy`] and [`WriteError::Closed`], at once; then neither `job` nor `then` is called.
    pub fn write_then<T, E, F, R>(&self, job: F, then: R) -> Result<(), WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        R: FnOnce(Result<T, WriteError<E>>) + Send + 'static,
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.writer.write_then(job, then)
    }

    /// Runs `job` on a reading thread, inside one snapshot of the database.
    ///
    /// # Errors
    /// [`ReadError::Job`] with what the job returned; the other variants when it did not run.
    pub async fn read<T, E, F>(&self, job: F) -> Result<T, ReadError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.read(job).await,
            None => self
                .writer
                .write(Durability::Unsynced, job)
                .await
                .map_err(ReadError::from_write),
        }
    }

    /// What the writer has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            jobs: self.counters.jobs.load(Ordering::Relaxed),
        }
    }

    /// Writes a consistent copy to `path` (mode 0600, fsynced) while reading and writing go on.
    ///
    /// # Errors
    /// [`BackupError`]; what was written so far is removed. A database in memory has no backup.
    pub async fn backup_to(&self, path: &Path) -> Result<(), BackupError> {
        let Some(readers) = &self.readers else {
            return Err(BackupError::Failed {
                reason: "the database is in memory".to_owned(),
            });
        };
        readers.backup_to(path).await
    }

    /// Finishes what waits, folds the log into the database and closes it. Later calls answer `Closed`.
    pub async fn close(&self) {
        self.writer.close().await;
        if let Some(readers) = &self.readers {
            readers.close();
        }
    }
}

impl<E> ReadError<E> {
    fn from_write(error: WriteError<E>) -> Self {
        match error {
            WriteError::Job(error) => Self::Job(error),
            WriteError::Busy => Self::Busy,
            WriteError::DiskFull => Self::Failed {
                reason: WriteError::<E>::DISK_FULL.to_owned(),
            },
            WriteError::Failed { reason } => Self::Failed { reason },
            WriteError::Closed => Self::Closed,
        }
    }
}

impl<E> WriteError<E> {
    const DISK_FULL: &str = "the disk is full";
}

impl<E> From<Failure> for WriteError<E> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DiskFull => Self::DiskFull,
            Failure::Failed { reason } => Self::Failed { reason },
        }
    }
}

#[cfg(test)]
mod tests;
