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

pub(crate) trait Job: Send {
    /// Runs it and remembers what came out.
    fn run(&mut self, connection: &Connection) -> Ran;
    /// Tells the caller what came out, or why nothing of it happened.
    fn answer(self: Box<Self>, commit: Result<(), Failure>);
}

/// What the caller hears: the job's own result, or why it has none.
pub(crate) type Answer<T, E> = Result<Result<T, E>, Failure>;

struct Pending<T, E, F> {
    job: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Answer<T, E>>,
}

/// Wraps a closure; the answer comes on the receiver. A job that panics answers nothing: the receiver sees its sender
/// dropped.
pub(crate) fn pack<T, E, F>(job: F) -> (Box<dyn Job>, oneshot::Receiver<Answer<T, E>>)
where
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Pending { job: Some(job), outcome: None, reply }), answer)
}

impl<T, E, F> Job for Pending<T, E, F>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, connection: &Connection) -> Ran {
        let Some(job) = self.job.take() else { return Ran::Refused };
        match catch_unwind(AssertUnwindSafe(|| job(connection))) {
            Ok(outcome) => {
                let ran = if outcome.is_ok() { Ran::Done } else { Ran::Refused };
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
        // A caller that went away loses only the answer.
        let _ = match (outcome, commit) {
            // What the job refused was never part of the commit.
            (Some(Err(error)), _) => reply.send(Ok(Err(error))),
            (Some(Ok(value)), Ok(())) => reply.send(Ok(Ok(value))),
            (Some(Ok(_)) | None, Err(failure)) => reply.send(Err(failure)),
            (None, Ok(())) => return,
        };
    }
}
