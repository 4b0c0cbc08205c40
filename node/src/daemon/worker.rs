//! The loop that the node's tasks share: run a round, wait until there may be more to do, repeat.

use super::Daemon;
use crate::fault::Fault;
use sealpost_proto::Timestamp;
use std::time::Duration;
use tokio::sync::Notify;

/// What a task does after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Starts the next round at once.
    Continue,
    /// Waits until a change wakes the task, or until this time.
    Idle(Option<Timestamp>),
    /// Waits for this long, whatever changes.
    Pause(Duration),
}

/// One task's work.
pub(super) trait Round: Send {
    /// Does what is due now.
    fn run(&mut self, daemon: &Daemon) -> impl Future<Output = Result<Next, Fault>> + Send;
}

/// Runs rounds until shutdown. A round that fails is logged with `action` and retried after
/// `retry_delay`, or earlier when a change wakes the task.
pub(super) async fn run(
    daemon: &Daemon,
    wake: &Notify,
    action: &'static str,
    retry_delay: Duration,
    mut round: impl Round,
) {
    while !daemon.shutdown.is_triggered() {
        let next = tokio::select! {
            next = round.run(daemon) => next,
            () = daemon.shutdown.triggered() => return,
        };
        match next {
            Ok(Next::Continue) => {}
            Ok(Next::Idle(until)) => daemon.wait(wake, until).await,
            Ok(Next::Pause(pause)) => daemon.pause(pause).await,
            Err(fault) => {
                tracing::error!(%fault, action, "a task failed and will be retried");
                let retry_at = daemon.now().plus(retry_delay);
                daemon.wait(wake, Some(retry_at)).await;
            }
        }
    }
}
