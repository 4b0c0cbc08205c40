//! Jobs for the database threads. The threads handle `dyn Job`; only the caller knows the types of
//! the result.

use crate::Failure;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// What happens to the changes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobOutcome {
    /// The changes become part of the commit.
    Accepted,
    /// The changes are rolled back.
    Refused,
}

/// What has to be on disk before a commit is reported as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Everything: the log is fsynced.
    Synced,
    /// Nothing: a power cut may undo the commit, but the end of the process does not.
    Unsynced,
}

/// Unit of work for a database thread.
pub(crate) trait Job: Send {
    /// Returns the durability that its commit needs.
    fn durability(&self) -> Durability;
    /// Runs the job and retains its result for [`Job::reply`].
    fn run(&mut self, connection: &Connection) -> JobOutcome;
    /// Sends the caller the result of the job, or the reason why the commit failed.
    fn reply(self: Box<Self>, commit: Result<(), Failure>);
}

/// Result of a job, or the failure of its commit.
pub(crate) type Reply<T, E> = Result<Result<T, E>, Failure>;

struct ClosureJob<T, E, F, R> {
    closure: Option<F>,
    outcome: Option<Result<T, E>>,
    durability: Durability,
    reply: R,
}

/// Creates a job from a closure. The receiver gets the reply; if the closure panics, the sender is
/// dropped.
pub(crate) fn new_job<T, E, F>(
    durability: Durability,
    closure: F,
) -> (Box<dyn Job>, oneshot::Receiver<Reply<T, E>>)
where
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    // The caller may have stopped waiting; the job still runs.
    let send_reply = move |reply| drop(sender.send(reply));
    (
        new_job_with_reply(durability, closure, send_reply),
        receiver,
    )
}

/// Creates a job from a closure and calls `reply` on the thread that ran it. If the closure panics,
/// `reply` is dropped.
pub(crate) fn new_job_with_reply<T, E, F, R>(
    durability: Durability,
    closure: F,
    reply: R,
) -> Box<dyn Job>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    R: FnOnce(Reply<T, E>) + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    Box::new(ClosureJob {
        closure: Some(closure),
        outcome: None,
        durability,
        reply,
    })
}

impl<T, E, F, R> Job for ClosureJob<T, E, F, R>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    R: FnOnce(Reply<T, E>) + Send,
    T: Send,
    E: Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, connection: &Connection) -> JobOutcome {
        let Some(closure) = self.closure.take() else {
            return JobOutcome::Refused;
        };
        match catch_unwind(AssertUnwindSafe(|| closure(connection))) {
            Ok(outcome) => {
                let job_outcome = if outcome.is_ok() {
                    JobOutcome::Accepted
                } else {
                    JobOutcome::Refused
                };
                self.outcome = Some(outcome);
                job_outcome
            }
            Err(_) => {
                tracing::error!("a database job panicked; its changes were rolled back");
                JobOutcome::Refused
            }
        }
    }

    fn reply(self: Box<Self>, commit: Result<(), Failure>) {
        let Self { outcome, reply, .. } = *self;
        match (outcome, commit) {
            // The changes of a refused job were never part of the commit.
            (Some(Err(error)), _) => reply(Ok(Err(error))),
            (Some(Ok(value)), Ok(())) => reply(Ok(Ok(value))),
            (Some(Ok(_)) | None, Err(failure)) => reply(Err(failure)),
            (None, Ok(())) => {}
        }
    }
}
