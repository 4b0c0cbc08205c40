//! The relay's database: one coarse operation for each step of the protocol, each a single
//! transaction that is on disk before the operation returns.
//!
//! Nothing of SQLite leaves this directory: rows are returned as types of the protocol and errors
//! as [`StoreError`]. `relay-core` makes the decisions, inside the transaction. Start reading at
//! `submissions` for accepting envelopes, then `deliveries` for leases and `outcomes` for the
//! results of calls and pulls.

mod accounts;
mod blobs;
mod deliveries;
mod envelopes;
mod inspection;
mod lanes;
mod mailbox_senders;
mod mailboxes;
mod operator;
mod outcomes;
#[cfg(test)]
mod power_cut;
mod queue_changes;
mod quotas;
#[cfg(test)]
mod random_operations;
mod rows;
mod submissions;
mod sweep;
#[cfg(test)]
mod tests;

pub(crate) use accounts::{AccountState, NewAccount};
pub(crate) use blobs::{NewBlob, PartState};
pub(crate) use deliveries::{BatchOutcome, CallOutcome, CallReport, DueLanes};
pub(crate) use envelopes::RecallOutcome;
pub(crate) use inspection::Inspection;
pub(crate) use mailboxes::{MailboxSettings, StoredPrekeys};
pub(crate) use operator::{
    AccountNames, AccountSummary, DropOutcome, ItemKind, LaneStatus, LaneSummary,
    NewRegistrationToken, Page, QueueCursor, QueueItem, QueueItems, QueueSummary,
    RegistrationToken, RetryOutcome, Totals,
};
pub(crate) use quotas::AccountQuota;
pub(crate) use rows::QueueState;
pub(crate) use submissions::Submission;
pub(crate) use sweep::SweepOutcome;

use crate::{health::Health, notifier::Notifier, storage::Storage};
use rusqlite::Connection;
use sealpost_sqlite::{
    Contents, Damaged, Database, Failure, Migration, OpenError, Options, ReadError, RowError,
    WriteError,
};
use std::{path::Path, sync::Arc};
use submissions::PendingSubmissions;

/// Marks the relay's database file: "SpRl".
const APPLICATION_ID: u32 = 0x5370_526c;
const READERS: usize = 3;
const OPTIONS: Options = Options {
    application_id: APPLICATION_ID,
    readers: READERS,
    has_secure_delete: false,
};
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../migrations/0001_first.sql"),
}];

/// The relay's database.
#[derive(Clone)]
pub(crate) struct Store {
    db: Database,
    submissions: PendingSubmissions,
    health: Arc<Health>,
    /// Reserve on the disk; absent for a store in memory.
    storage: Option<Arc<Storage>>,
    notifier: Arc<Notifier>,
}

/// Error of an operation, which then changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The queue of the writer or of the readers is full.
    #[error("the store is overloaded")]
    Busy,
    /// No space is left.
    #[error("the disk is full")]
    DiskFull,
    /// A row cannot be read.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// Any other failure.
    #[error("the store failed: {reason}")]
    Failed {
        /// Message of the database, which contains no values.
        reason: String,
    },
    /// The relay is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl Store {
    /// Opens or creates the database and migrates its schema.
    pub(crate) fn open(path: &Path, health: Arc<Health>) -> Result<Self, OpenError> {
        let db = Database::open(path, MIGRATIONS, OPTIONS)?;
        Ok(Self::new(db, health))
    }

    /// Opens a store in memory.
    pub(crate) fn open_in_memory() -> Result<Self, OpenError> {
        let db = Database::open_in_memory(MIGRATIONS, OPTIONS)?;
        Ok(Self::new(db, Arc::default()))
    }

    fn new(db: Database, health: Arc<Health>) -> Self {
        Self {
            db,
            submissions: PendingSubmissions::default(),
            health,
            storage: None,
            notifier: Arc::default(),
        }
    }

    /// Uses the reserve on the disk for what has to be written even when the disk is full.
    #[must_use]
    pub(crate) fn with_reserve(self, storage: Arc<Storage>) -> Self {
        Self {
            storage: Some(storage),
            ..self
        }
    }

    /// Notifies the scheduler and long polls of accepted envelopes.
    #[must_use]
    pub(crate) fn with_notifier(self, notifier: Arc<Notifier>) -> Self {
        Self { notifier, ..self }
    }

    /// Copies all rows, for a simulation that puts them back later.
    pub(crate) async fn read_contents(&self) -> Result<Contents, StoreError> {
        self.read(|sql| Ok(Contents::read(sql)?)).await
    }

    /// Replaces all rows by those of an earlier state.
    pub(crate) async fn write_contents(&self, contents: Contents) -> Result<(), StoreError> {
        self.write(move |sql| Ok(contents.write(sql)?)).await
    }

    /// Finishes the queued jobs and closes the database.
    pub(crate) async fn close(&self) {
        self.db.close().await;
    }

    /// Returns the numbers of commits and jobs so far.
    #[must_use]
    pub(crate) fn stats(&self) -> sealpost_sqlite::Stats {
        self.db.stats()
    }

    /// Runs a job that finishes, changes or deletes accepted items. If the disk is full, it is
    /// retried once on the reserve.
    async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let mut outcome = self.db.write(job.clone()).await.map_err(StoreError::from);
        if self.release_reserve(&outcome) {
            outcome = self.db.write(job).await.map_err(StoreError::from);
        }
        self.report_failure(outcome)
    }

    /// Runs a job that stores something new, which may not use the reserve.
    async fn write_new<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.report_failure(self.db.write(job).await.map_err(StoreError::from))
    }

    /// Runs a job as [`Self::write`] does, for changes that a restart repairs: a lease that a power
    /// cut undoes was never granted by the process that starts, and an outcome that it undoes is
    /// requested again with the same result.
    async fn write_unsynced<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Clone + Send + 'static,
        T: Send + 'static,
    {
        let first = self.db.write_unsynced(job.clone()).await;
        let mut outcome = first.map_err(StoreError::from);
        if self.release_reserve(&outcome) {
            outcome = self.db.write_unsynced(job).await.map_err(StoreError::from);
        }
        self.report_failure(outcome)
    }

    /// Releases the reserve if the disk is full, and returns whether the job should be retried.
    fn release_reserve<T>(&self, outcome: &Result<T, StoreError>) -> bool {
        let (Err(StoreError::DiskFull), Some(storage)) = (outcome, &self.storage) else {
            return false;
        };
        // All jobs of the failed commit get here. The first one releases the reserve; the others
        // find it released.
        storage.release_reserve();
        true
    }

    fn report_failure<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match &outcome {
            Err(error @ (StoreError::DiskFull | StoreError::Failed { .. })) => {
                self.health.record_store_failure(&error.to_string());
            }
            // The store still commits: only the rows in question are affected.
            Err(error @ StoreError::Damaged(_)) => tracing::error!(%error, "a row is damaged"),
            Ok(_) | Err(StoreError::Busy | StoreError::Closed) => {}
        }
        outcome
    }

    async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let outcome = self.db.read(job).await.map_err(StoreError::from);
        if let Err(error @ StoreError::Damaged(_)) = &outcome {
            tracing::error!(%error, "a row is damaged");
        }
        outcome
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Damaged(damaged) => damaged.into(),
            RowError::Failed(failure) => failure.into(),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
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
