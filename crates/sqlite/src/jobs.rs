//! A unit of work whose type is known only to its caller: what the threads handle is `dyn Job`.

use crate::Failure;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// What the job did, as far as the transaction around it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Keep its changes.
    Done,
    /// Roll its savepoint back.
    Refused,
}

/// What the disk has to have of a commit before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// All of it: the log is fsynced.
    Synced,
    /// What the system writes by itself: a power cut may undo it, the end of the process does not.
    Unsynced,
}

pub(crate) trait Job: Send {
    /// What its commit has to have.
    fn durability(&self) -> Durability;
    /// Runs it and remembers what came out.
    fn run(&mut self, connection: &Connection) -> Ran;
    /// Tells the caller what came out, or why nothing of it happened.
    fn answer(self: Box<Self>, commit: Result<(), Failure>);
}

/// What the caller hears: the job's own result, or why it has none.
pub(crate) type Answer<T, E> = Result<Result<T, E>, Failure>;

struct Pending<T, E, F, R> {
    job: Option<F>,
    outcome: Option<Result<T, E>>,
    durability: Durability,
    reply: R,
}

/// Wraps a closure; the answer comes on the receiver. A job that panics answers nothing: the receiver sees its sender
/// dropped.
pub(crate) fn pack<T, E, F>(
    durability: Durability,
    job: F,
) -> (Box<dyn Job>, oneshot::Receiver<Answer<T, E>>)
where
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    // A caller that went away loses only the answer.
    let reply = move |answer| drop(reply.send(answer));
    (pack_with(durability, job, reply), answer)
}

/// Wraps a closure; `reply` is called with the answer on the thread that ran it. A job that panics answers nothing: `reply`
/// is dropped.
pub(crate) fn pack_with<T, E, F, R>(durability: Durability, job: F, reply: R) -> Box<dyn Job>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    R: FnOnce(Answer<T, E>) + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    Box::new(Pending {
        job: Some(job),
        outcome: None,
        durability,
        reply,
    })
}

impl<T, E, F, R> Job for Pending<T, E, F, R>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    R: FnOnce(Answer<T, E>) + Send,
    T: Send,
    E: Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, connection: &Connection) -> Ran {
        let Some(job) = self.job.take() else {
            return Ran::Refused;
        };
        match catch_unwind(AssertUnwindSafe(|| job(connection))) {
            Ok(outcome) => {
                let ran = if outcome.is_ok() {
                    Ran::Done
                } else {
                    Ran::Refused
                };
                self.outcome = Some(outcome);
                ran
            }
            Err(_) => {
                tracing::error!("a database job panicked; its changes were rolled back");
                Ran::Refused
            }
        }
    }

    fn answer(self: Box<Self>, commit: Result<(), Failure>) {
        let Self { outcome, reply, .. } = *self;
        match (outcome, commit) {
            // What the job refused was never part of the commit.
            (Some(Err(error)), _) => reply(Ok(Err(error))),
            (Some(Ok(value)), Ok(())) => reply(Ok(Ok(value))),
            (Some(Ok(_)) | None, Err(failure)) => reply(Err(failure)),
            (None, Ok(())) => {}
        }
    }
}
