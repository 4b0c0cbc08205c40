//! The loop that the node's tasks share: run a round, wait until there may be more to do, repeat.

use crate::fault::Fault;
use sealpost_proto::Timestamp;
use sealpost_service::{SharedClock, Shutdown};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest wait of an idle task, so that a lost wake-up or a changed clock does little harm.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Shortest wait, so that a time in the past cannot make a task spin.
const IDLE_WAIT_MIN: Duration = Duration::from_millis(20);

/// What a task does after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Starts the next round at once.
    Continue,
    /// Waits until a change wakes the task, or until this time.
    Idle(Option<Timestamp>),
    /// Waits for this long, whatever changes.
    Pause(Duration),
    /// Ends the task.
    Stop,
}

/// Work of one task.
pub(super) trait Round: Send {
    /// What the task does, for the log: "submit messages".
    const ACTION: &'static str;
    /// Wait after a fault, unless a change wakes the task earlier.
    const FAULT_RETRY_DELAY: Duration;

    /// Does what is due now. A shutdown drops the future at any point.
    fn run(&mut self) -> impl Future<Output = Result<Next, Fault>> + Send;
}

/// Runner of a task's rounds.
#[derive(Clone)]
pub(super) struct Worker {
    clock: SharedClock,
    shutdown: Shutdown,
}

impl Worker {
    pub(super) fn new(clock: SharedClock, shutdown: Shutdown) -> Self {
        Self { clock, shutdown }
    }

    /// Runs rounds until the last one or until shutdown, and returns the task's state.
    pub(super) async fn run<R: Round>(&self, wake_up: &Notify, mut round: R) -> R {
        while !self.shutdown.is_triggered() {
            let next = tokio::select! {
                next = round.run() => next,
                () = self.shutdown.triggered() => break,
            };
            match next {
                Ok(Next::Continue) => {}
                Ok(Next::Idle(until)) => self.wait(wake_up, until).await,
                Ok(Next::Pause(pause)) => self.pause(pause).await,
                Ok(Next::Stop) => break,
                Err(fault) => {
                    tracing::error!(%fault, action = R::ACTION, "a task failed and will be retried");
                    let retry_at = self.clock.now().plus(R::FAULT_RETRY_DELAY);
                    self.wait(wake_up, Some(retry_at)).await;
                }
            }
        }
        round
    }

    /// Runs rounds of a task that no change wakes.
    pub(super) async fn run_timed<R: Round>(&self, round: R) -> R {
        self.run(&Notify::new(), round).await
    }

    /// Waits for a wake-up, for `until` or for shutdown, whichever comes first.
    pub(super) async fn wait(&self, wake_up: &Notify, until: Option<Timestamp>) {
        let remaining = until.map_or(IDLE_WAIT_MAX, |at| at.since(self.clock.now()));
        tokio::select! {
            () = wake_up.notified() => {}
            () = tokio::time::sleep(remaining.clamp(IDLE_WAIT_MIN, IDLE_WAIT_MAX)) => {}
            () = self.shutdown.triggered() => {}
        }
    }

    /// Waits for a fixed time or until shutdown.
    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.triggered() => {}
        }
    }
}
