//! The single writer thread. It takes the jobs that have arrived since its last commit, runs each
//! in its own savepoint inside one transaction, commits with one fsync (none if no job needs it),
//! and then sends all replies.

use crate::{
    Counters, Failure, OpenError, WriteError,
    jobs::{Durability, Job, JobOutcome, Reply, new_job, new_job_with_reply},
};
use rusqlite::Connection;
use sealpost_proto::limits::{WRITER_BATCH_MAX, WRITER_QUEUE_MAX};
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Command>,
}

enum Command {
    Run(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        counters: Arc<Counters>,
    ) -> Result<Self, OpenError> {
        let (queue, commands) = mpsc::channel(WRITER_QUEUE_MAX);
        let thread = WriterThread {
            connection,
            commands,
            counters,
            durability: Durability::Synced,
        };
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| OpenError::Failed {
                reason: error.to_string(),
            })?;
        Ok(Self { queue })
    }

    pub(crate) async fn write<T, E, F>(
        &self,
        durability: Durability,
        job: F,
    ) -> Result<T, WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (job, reply) = new_job(durability, job);
        self.enqueue(job)?;
        match reply.await {
            Ok(Ok(outcome)) => outcome.map_err(WriteError::Job),
            Ok(Err(failure)) => Err(failure.into()),
            Err(_) if self.queue.is_closed() => Err(WriteError::Closed),
            Err(_) => Err(WriteError::Failed {
                reason: "the job panicked".to_owned(),
            }),
        }
    }

    pub(crate) fn write_then<T, E, F, R>(&self, job: F, then: R) -> Result<(), WriteError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        R: FnOnce(Result<T, WriteError<E>>) + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.enqueue(new_job_with_reply(
            Durability::Synced,
            job,
            |reply: Reply<T, E>| {
                then(match reply {
                    Ok(outcome) => outcome.map_err(WriteError::Job),
                    Err(failure) => Err(failure.into()),
                });
            },
        ))
    }

    fn enqueue<E>(&self, job: Box<dyn Job>) -> Result<(), WriteError<E>> {
        self.queue
            .try_send(Command::Run(job))
            .map_err(|error| match error {
                TrySendError::Full(_) => WriteError::Busy,
                TrySendError::Closed(_) => WriteError::Closed,
            })
    }

    #[cfg(test)]
    pub(crate) fn queued_jobs(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Command::Close(done)).await.is_ok() {
            // An error means that the thread has ended, which is the goal.
            let _ = closed.await;
        }
    }
}

struct WriterThread {
    connection: Connection,
    commands: mpsc::Receiver<Command>,
    counters: Arc<Counters>,
    /// Current setting of the connection.
    durability: Durability,
}

impl WriterThread {
    fn run(mut self) {
        let mut closing = Vec::new();
        while let Some(first) = self.commands.blocking_recv() {
            let batch = self.next_batch(first, &mut closing);
            self.commit(batch);
        }
        let Self { connection, .. } = self;
        checkpoint(&connection);
        if connection.close().is_err() {
            tracing::warn!("the database did not close cleanly; no data is lost");
        }
        for done in closing {
            let _ = done.send(());
        }
    }

    /// Takes the queued jobs up to the limit. A close command ends the queue for new jobs; the
    /// queued ones still run.
    fn next_batch(
        &mut self,
        first: Command,
        closing: &mut Vec<oneshot::Sender<()>>,
    ) -> Vec<Box<dyn Job>> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Run(job) => batch.push(job),
                Command::Close(done) => {
                    self.commands.close();
                    closing.push(done);
                }
            }
            next = if batch.len() < WRITER_BATCH_MAX {
                self.commands.try_recv().ok()
            } else {
                None
            };
        }
        batch
    }

    fn commit(&mut self, mut batch: Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        let outcome = self.run_in_transaction(&mut batch);
        if let Err(failure) = &outcome {
            tracing::warn!(
                jobs = batch.len(),
                %failure,
                "a commit failed; all its jobs were rolled back"
            );
            self.roll_back();
        }
        for job in batch {
            job.reply(outcome.clone());
        }
    }

    fn run_in_transaction(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let synced = batch
            .iter()
            .any(|job| job.durability() == Durability::Synced);
        self.set_durability(if synced {
            Durability::Synced
        } else {
            Durability::Unsynced
        })?;
        let changes_before = self.total_changes()?;
        self.execute("BEGIN IMMEDIATE")?;
        for job in batch.iter_mut() {
            self.run_in_savepoint(job.as_mut())?;
        }
        let changed = self.total_changes()? != changes_before;
        self.execute("COMMIT")?;
        self.counters
            .jobs
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        if changed && synced {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// In WAL mode `full` fsyncs each commit and `normal` does not; both fsync the log before a
    /// checkpoint.
    fn set_durability(&mut self, durability: Durability) -> Result<(), Failure> {
        if self.durability != durability {
            let synchronous = match durability {
                Durability::Synced => "full",
                Durability::Unsynced => "normal",
            };
            self.connection
                .pragma_update(None, "synchronous", synchronous)?;
            self.durability = durability;
        }
        Ok(())
    }

    fn run_in_savepoint(&self, job: &mut dyn Job) -> Result<(), Failure> {
        self.execute("SAVEPOINT job")?;
        let outcome = job.run(&self.connection);
        // After some errors, such as a full disk, SQLite has rolled back the whole transaction.
        if self.connection.is_autocommit() {
            return Err(Failure::for_lost_transaction(
                self.connection.path().map(Path::new),
            ));
        }
        if outcome == JobOutcome::Refused {
            self.execute("ROLLBACK TO job")?;
        }
        self.execute("RELEASE job")
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(failure) = self.execute("ROLLBACK")
        {
            tracing::error!(%failure, "cannot roll back a failed commit");
        }
    }

    fn execute(&self, sql: &'static str) -> Result<(), Failure> {
        Ok(self
            .connection
            .prepare_cached(sql)?
            .execute([])
            .map(|_| ())?)
    }

    fn total_changes(&self) -> Result<i64, Failure> {
        Ok(self
            .connection
            .prepare_cached("SELECT total_changes()")?
            .query_row([], |row| row.get(0))?)
    }
}

/// Moves the log into the database, which makes the next start faster. A failure does no harm.
fn checkpoint(connection: &Connection) {
    let result = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = result {
        tracing::debug!(%error, "the log was not moved into the database");
    }
}
