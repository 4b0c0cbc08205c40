//! SQLite for relay and node: opening and migration, one writer thread that commits jobs in groups,
//! a few reader threads, and typed access to rows.
//!
//! This crate knows no tables. [`Database::write`] returns after the commit with its changes has
//! been fsynced. Queues are bounded, and a full queue is an immediate error ([`WriteError::Busy`]),
//! so memory use is bounded as well.
//!
//! Start reading at [`Database`]; the group commit is in `writer.rs`, the row readers in [`RowExt`]
//! and [`query`].

#![warn(missing_docs)]

mod contents;
mod failure;
mod jobs;
mod open;
pub mod query;
mod readers;
mod rows;
mod single_file;
mod writer;

pub use contents::Contents;
pub use failure::Failure;
pub use open::{Migration, OpenError, Options, Schema, open_read_only};
pub use readers::copy;
pub use rows::{Damaged, Parsed, RowError, RowExt, to_integer, to_millis};
pub use single_file::{check_integrity, compact, open_from_memory};

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

/// Open database. Clones are cheap and share it.
///
/// [`Database::close`], or dropping the last clone, closes the database.
#[derive(Clone)]
pub struct Database {
    writer: Writer,
    readers: Option<Readers>,
    counters: Arc<Counters>,
}

/// Counts of the writer since the database was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits with changes that were fsynced.
    pub commits: u64,
    /// Jobs in successful commits, including those without changes.
    pub jobs: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    jobs: AtomicU64,
}

/// Error returned by a write. In every variant the database is unchanged by the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError<E> {
    /// The job returned an error. Its changes were rolled back; the other jobs of the commit were
    /// not.
    #[error("{0}")]
    Job(E),
    /// The queue is full.
    #[error("the database is busy")]
    Busy,
    /// The commit failed because no space is left on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// The commit failed for another reason.
    #[error("the database failed: {reason}")]
    Failed {
        /// SQLite's error message, without stored values.
        reason: String,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

/// Error returned by a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The job returned an error.
    #[error("{0}")]
    Job(E),
    /// The queue is full.
    #[error("the database is busy")]
    Busy,
    /// The database could not be read.
    #[error("the database failed: {reason}")]
    Failed {
        /// SQLite's error message, without stored values.
        reason: String,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

/// Error returned by a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// There is already a file at the path.
    #[error("a file with that name already exists")]
    Exists,
    /// No space is left on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// The database could not be read, or the backup not written.
    #[error("the backup failed: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
}

impl Database {
    /// Opens the database at `path`, creates it (mode 0600) if it does not exist, and applies
    /// missing migrations, each in its own transaction.
    ///
    /// Blocks the thread during the migrations: call it at startup, before serving requests.
    ///
    /// # Errors
    /// Returns [`OpenError`] if the file is newer than this program, belongs to another program, is
    /// in use or cannot be read.
    pub fn open(
        path: &Path,
        migrations: &[Migration],
        options: Options,
    ) -> Result<Self, OpenError> {
        let connection = open::open_writer(path, migrations, options)?;
        let readers = Readers::start(path, options)?;
        Self::start(connection, Some(readers))
    }

    /// Opens a database in memory, for tests. Its reads share the queue of the writer.
    ///
    /// # Errors
    /// Returns [`OpenError`] if a migration fails.
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

    /// Runs `job` on the writer thread in its own savepoint and returns once the commit with its
    /// changes is on disk. Jobs run in the order of the calls; those that arrived since the last
    /// commit, up to [`WRITER_BATCH_MAX`](sealpost_proto::limits::WRITER_BATCH_MAX), share a
    /// commit.
    ///
    /// A job must not block on anything but the database, and must not begin or end a transaction.
    ///
    /// # Errors
    /// [`WriteError::Job`] with the error of the job; the other variants when the commit failed.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.writer.write(Durability::Synced, job).await
    }

    /// Like [`Database::write`], but returns before the commit is fsynced; the next commit of
    /// [`Database::write`] does that. A power cut may undo the changes together with all later
    /// unsynced ones; the end of the process does not. Use it only for changes that a restart
    /// recovers.
    ///
    /// # Errors
    /// Like [`Database::write`].
    pub async fn write_unsynced<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.writer.write(Durability::Unsynced, job).await
    }

    /// Like [`Database::write`], for a job on behalf of several callers: calls `then` on the writer
    /// thread once the commit is on disk or has failed. `then` must not block. If the job panics,
    /// `then` is dropped.
    ///
    /// # Errors
    /// [`WriteError::Busy`] and [`WriteError::Closed`], immediately; then neither `job` nor `then`
    /// is called.
    pub fn write_then<T, E, F, R>(&self, job: F, then: R) -> Result<(), WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        R: FnOnce(Result<T, WriteError<E>>) + Send + 'static,
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        self.writer.write_then(job, then)
    }

    /// Runs `job` on a reader thread, in one snapshot of the database.
    ///
    /// # Errors
    /// [`ReadError::Job`] with the error of the job; the other variants when it did not run.
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

    /// Returns the counts of the writer.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            jobs: self.counters.jobs.load(Ordering::Relaxed),
        }
    }

    /// Writes a consistent copy to `path` (mode 0600, fsynced); reads and writes continue
    /// meanwhile.
    ///
    /// # Errors
    /// [`BackupError`]; an incomplete copy is removed. A database in memory cannot be backed up.
    pub async fn backup_to(&self, path: &Path) -> Result<(), BackupError> {
        let Some(readers) = &self.readers else {
            return Err(BackupError::Failed {
                reason: "the database is in memory".to_owned(),
            });
        };
        readers.backup_to(path).await
    }

    /// Runs the queued jobs, moves the log into the database and closes it. Later calls return
    /// `Closed`.
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
