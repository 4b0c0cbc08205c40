//! What the relay keeps: one coarse operation for each step of the protocol, each a single transaction that is on disk
//! before it returns.
//!
//! Nothing of SQLite leaves this folder; rows come out as words of the protocol and errors as [`StoreError`]. Decisions
//! are asked of `relay-core` inside the transaction. Start reading at `submissions` for accepting, then `deliveries` for what
//! goes out and `outcomes` for what is said of it.

mod accounts;
mod admin;
mod blobs;
mod deliveries;
mod envelopes;
mod lanes;
mod mailboxes;
mod offline;
mod outcomes;
#[cfg(test)]
mod power_cut;
mod quotas;
mod rows;
#[cfg(test)]
mod story;
mod submissions;
mod sweep;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use accounts::{AccountFacts, NewAccount};
pub(crate) use admin::{Census, NewRegistrationToken, QueueCursor};
pub(crate) use blobs::{NewBlob, PartPlace};
pub(crate) use deliveries::{CallEnd, Due, Handed, LeasedBatch, Webhook};
pub(crate) use envelopes::Recall;
pub(crate) use mailboxes::StoredPrekeys;
pub(crate) use offline::Looked;
pub(crate) use quotas::AccountQuota;
pub(crate) use submissions::Submission;
pub(crate) use sweep::Swept;
pub(crate) use tally::Woken;

use crate::{health::Health, storage::Storage, wakes::Wakes};
use rusqlite::Connection;
use sealpost_proto::ErrorCode;
use sealpost_service::http::ProblemResponse;
use sealpost_sqlite::{Database, Failure, Migration, OpenError, Options, ReadError, WriteError};
use std::{path::Path, sync::Arc};
use submissions::Arrivals;

/// Marks the relay's database file: "SpRl".
const APPLICATION_ID: u32 = 0x5370_526c;
const READERS: usize = 3;
const OPTIONS: Options = Options {
    application_id: APPLICATION_ID,
    readers: READERS,
    secure_delete: false,
};
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../migrations/0001_first.sql"),
}];

/// The relay's database.
#[derive(Clone)]
pub(crate) struct Store {
    db: Database,
    arrivals: Arrivals,
    health: Arc<Health>,
    /// The disk, when there is one.
    storage: Option<Arc<Storage>>,
    /// Who hears of what waits now.
    wakes: Arc<Wakes>,
}

/// Why an operation did not happen; the database is as if it had never been asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too much waits already.
    #[error("the store has too much to do")]
    Busy,
    /// No space left.
    #[error("the disk is full")]
    DiskFull,
    /// Anything else.
    #[error("the store failed: {reason}")]
    Failed {
        /// The database's words; they name no values.
        reason: String,
    },
    /// The relay stops.
    #[error("the store is closed")]
    Closed,
}

impl Store {
    /// Opens the database, or makes it, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`], in words for the operator.
    pub(crate) fn open(path: &Path, health: Arc<Health>) -> Result<Self, OpenError> {
        Ok(Self {
            db: Database::open(path, MIGRATIONS, OPTIONS)?,
            arrivals: Arrivals::default(),
            health,
            storage: None,
            wakes: Arc::default(),
        })
    }

    /// The same, with the reserve of a disk for what has to be written even when the disk is full.
    #[must_use]
    pub(crate) fn with_reserve(self, storage: Arc<Storage>) -> Self {
        Self {
            storage: Some(storage),
            ..self
        }
    }

    /// A store that lives in memory and dies with its last clone.
    ///
    /// # Errors
    /// [`OpenError`] when a migration does not apply.
    pub(crate) fn open_in_memory() -> Result<Self, OpenError> {
        Ok(Self {
            db: Database::open_in_memory(MIGRATIONS, OPTIONS)?,
            arrivals: Arrivals::default(),
            health: Arc::default(),
            storage: None,
            wakes: Arc::default(),
        })
    }

    /// The same, with somebody who calls webhooks.
    #[must_use]
    pub(crate) fn with_wakes(self, wakes: Arc<Wakes>) -> Self {
        Self { wakes, ..self }
    }

    /// Finishes what waits and closes the database.
    pub(crate) async fn close(&self) {
        self.db.close().await;
    }

    /// Commits and jobs so far.
    #[must_use]
    pub(crate) fn stats(&self) -> sealpost_sqlite::Stats {
        self.db.stats()
    }

    /// Runs a job that finishes, changes or takes away what was accepted. When the disk is full it is tried once more on
    /// the reserve.
    async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut outcome = self.db.write(job.clone()).await.map_err(StoreError::from);
        if self.made_room(&outcome) {
            outcome = self.db.write(job).await.map_err(StoreError::from);
        }
        self.note_health(outcome)
    }

    /// Runs a job that makes the relay keep more than before: it has no claim to the reserve.
    async fn write_new<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.note_health(self.db.write(job).await.map_err(StoreError::from))
    }

    /// As [`Self::write`], for what a restart puts right by itself: a lease that a power cut undoes was never given out by
    /// the process that starts, and an outcome that it undoes is asked for again and answered the same.
    async fn write_unsynced<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut outcome = self
            .db
            .write_unsynced(job.clone())
            .await
            .map_err(StoreError::from);
        if self.made_room(&outcome) {
            outcome = self.db.write_unsynced(job).await.map_err(StoreError::from);
        }
        self.note_health(outcome)
    }

    /// Gives the reserve to what found no room; true when another try makes sense.
    fn made_room<T>(&self, outcome: &Result<T, StoreError>) -> bool {
        let (Err(StoreError::DiskFull), Some(storage)) = (outcome, &self.storage) else {
            return false;
        };
        // Whoever shared the commit asks at the same time, and all but one find that it was given.
        storage.give_way();
        true
    }

    fn note_health<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::DiskFull | StoreError::Failed { .. })) = &outcome {
            self.health.store_failed(error);
        }
        outcome
    }

    async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        Ok(self.db.read(job).await?)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match Failure::from(error) {
            Failure::DiskFull => Self::DiskFull,
            Failure::Failed { reason } => Self::Failed { reason },
        }
    }
}

impl From<WriteError<Self>> for StoreError {
    fn from(error: WriteError<Self>) -> Self {
        match error {
            WriteError::Job(error) => error,
            WriteError::Busy => Self::Busy,
            WriteError::DiskFull => Self::DiskFull,
            WriteError::Failed { reason } => Self::Failed { reason },
            WriteError::Closed => Self::Closed,
        }
    }
}

impl From<ReadError<Self>> for StoreError {
    fn from(error: ReadError<Self>) -> Self {
        match error {
            ReadError::Job(error) => error,
            ReadError::Busy => Self::Busy,
            ReadError::Failed { reason } => Self::Failed { reason },
            ReadError::Closed => Self::Closed,
        }
    }
}

impl StoreError {
    /// The code that is answered.
    #[must_use]
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Busy => ErrorCode::Overloaded,
            Self::DiskFull => ErrorCode::StorageFull,
            Self::Failed { .. } | Self::Closed => ErrorCode::Unavailable,
        }
    }
}

impl From<StoreError> for ProblemResponse {
    fn from(error: StoreError) -> Self {
        crate::http::passing_problem(error.code())
    }
}
