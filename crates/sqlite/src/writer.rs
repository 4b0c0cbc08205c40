//! The single writer. It takes whatever has arrived since its last commit, runs each job in a savepoint of its own inside
//! one transaction, commits (one fsync, unless none of them asks for it), and only then answers all of them.

use crate::{
    Counters, Failure, OpenError, WriteError,
    jobs::{Answer, Durability, Job, Ran, pack, pack_with},
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
    queue: mpsc::Sender<Order>,
}

enum Order {
    Run(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        counters: Arc<Counters>,
    ) -> Result<Self, OpenError> {
        let (queue, orders) = mpsc::channel(WRITER_QUEUE_MAX);
        let thread = WriterThread {
            connection,
            orders,
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
        let (job, answer) = pack(durability, job);
        self.order(job)?;
        match answer.await {
            Ok(Ok(outcome)) => outcome.map_err(WriteError::Job),
            Ok(Err(failure)) => Err(failure.into()),
            Err(_) if self.queue.is_closed() => Err(WriteError::Closed),
            Err(_) => Err(WriteError::Failed {
                reason: "the job did not end".to_owned(),
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
        self.order(pack_with(
            Durability::Synced,
            job,
            |answer: Answer<T, E>| {
                then(match answer {
                    Ok(outcome) => outcome.map_err(WriteError::Job),
                    Err(failure) => Err(failure.into()),
                });
            },
        ))
    }

    fn order<E>(&self, job: Box<dyn Job>) -> Result<(), WriteError<E>> {
        self.queue
            .try_send(Order::Run(job))
            .map_err(|error| match error {
                TrySendError::Full(_) => WriteError::Busy,
                TrySendError::Closed(_) => WriteError::Closed,
            })
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Order::Close(done)).await.is_ok() {
            // An error means that the thread has ended, which is what was asked for.
            let _ = closed.await;
        }
    }
}

struct WriterThread {
    connection: Connection,
    orders: mpsc::Receiver<Order>,
    counters: Arc<Counters>,
    /// What the connection is set to.
    durability: Durability,
}

impl WriterThread {
    fn run(mut self) {
        let mut closing = Vec::new();
        while let Some(first) = self.orders.blocking_recv() {
            let batch = self.take_batch(first, &mut closing);
            self.commit(batch);
        }
        let Self { connection, .. } = self;
        fold_log(&connection);
        if connection.close().is_err() {
            tracing::warn!("the database did not close cleanly; nothing is lost");
        }
        for done in closing {
            let _ = done.send(());
        }
    }

    /// What waits, up to the limit. Once told to close, the queue takes nothing new but what waits is still done.
    fn take_batch(
        &mut self,
        first: Order,
        closing: &mut Vec<oneshot::Sender<()>>,
    ) -> Vec<Box<dyn Job>> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Run(job) => batch.push(job),
                Order::Close(done) => {
                    self.orders.close();
                    closing.push(done);
                }
            }
            next = if batch.len() < WRITER_BATCH_MAX {
                self.orders.try_recv().ok()
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
            tracing::warn!(jobs = batch.len(), %failure, "a commit failed; nothing of it happened");
            self.abandon();
        }
        for job in batch {
            job.answer(outcome.clone());
        }
    }

    fn run_in_transaction(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let synced = batch
            .iter()
            .any(|job| job.durability() == Durability::Synced);
        self.set(if synced {
            Durability::Synced
        } else {
            Durability::Unsynced
        })?;
        let before = self.changes_so_far()?;
        self.execute("BEGIN IMMEDIATE")?;
        for job in batch.iter_mut() {
            self.run_in_savepoint(job.as_mut())?;
        }
        let changed = self.changes_so_far()? != before;
        self.execute("COMMIT")?;
        self.counters
            .jobs
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        if changed && synced {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// In WAL mode a commit is fsynced with `full` and is not with `normal`; whichever it is, the log is before a checkpoint.
    fn set(&mut self, durability: Durability) -> Result<(), Failure> {
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
        let ran = job.run(&self.connection);
        // On some errors, a full disk among them, SQLite rolls the whole transaction back by itself.
        if self.connection.is_autocommit() {
            return Err(Failure::of_lost_transaction(
                self.connection.path().map(Path::new),
            ));
        }
        if ran == Ran::Refused {
            self.execute("ROLLBACK TO job")?;
        }
        self.execute("RELEASE job")
    }

    fn abandon(&self) {
        if !self.connection.is_autocommit()
            && let Err(failure) = self.execute("ROLLBACK")
        {
            tracing::error!(%failure, "a failed commit could not be rolled back");
        }
    }

    fn execute(&self, sql: &'static str) -> Result<(), Failure> {
        Ok(self
            .connection
            .prepare_cached(sql)?
            .execute([])
            .map(|_| ())?)
    }

    fn changes_so_far(&self) -> Result<i64, Failure> {
        Ok(self
            .connection
            .prepare_cached("SELECT total_changes()")?
            .query_row([], |row| row.get(0))?)
    }
}

/// Keeps the next start quick; when it fails the log is simply read then.
fn fold_log(connection: &Connection) {
    let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = folded {
        tracing::debug!(%error, "the log was not folded into the database");
    }
}
