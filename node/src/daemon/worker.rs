//! The loop that the node's tasks share: do what is due, wait for more work, repeat.

use crate::fault::Fault;
use sealpost_proto::Timestamp;
use sealpost_service::{SharedClock, Shutdown};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest wait of an idle task: the longest delay that a lost wake-up or a changed clock causes.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Shortest wait, so that a time in the past cannot make a task spin.
const IDLE_WAIT_MIN: Duration = Duration::from_millis(20);

/// When a task runs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextRun {
    /// At once.
    Continue,
    /// When a change wakes the task, or at this time.
    Idle(Option<Timestamp>),
    /// After this time, even if a change wakes the task.
    Pause(Duration),
}

/// Task that runs again and again until shutdown.
pub(super) trait PeriodicTask: Send {
    /// What the task does, for the log: "submit messages".
    const ACTION: &'static str;
    /// Wait after a fault, unless a change wakes the task earlier.
    const FAULT_RETRY_DELAY: Duration;

    /// Does what is due now. A shutdown drops the future at any point.
    fn run_once(&mut self) -> impl Future<Output = Result<NextRun, Fault>> + Send;
}

/// Loop that runs a [`PeriodicTask`].
#[derive(Clone)]
pub(super) struct Worker {
    clock: SharedClock,
    shutdown: Shutdown,
}

impl Worker {
    pub(super) fn new(clock: SharedClock, shutdown: Shutdown) -> Self {
        Self { clock, shutdown }
    }

    /// Runs a task until shutdown.
    pub(super) async fn run<T: PeriodicTask>(&self, wake_up: &Notify, mut task: T) {
        while !self.shutdown.is_triggered() {
            let next = tokio::select! {
                next = task.run_once() => next,
                () = self.shutdown.triggered() => break,
            };
            match next {
                Ok(NextRun::Continue) => {}
                Ok(NextRun::Idle(until)) => self.wait(wake_up, until).await,
                Ok(NextRun::Pause(pause)) => self.pause(pause).await,
                Err(fault) => {
                    tracing::error!(%fault, action = T::ACTION, "a task failed and will be retried");
                    let retry_at = self.clock.now().plus(T::FAULT_RETRY_DELAY);
                    self.wait(wake_up, Some(retry_at)).await;
                }
            }
        }
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown.is_triggered()
    }

    /// Runs a task that no change wakes.
    pub(super) async fn run_timed<T: PeriodicTask>(&self, task: T) {
        self.run(&Notify::new(), task).await;
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
    pub(super) async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.triggered() => {}
        }
    }
}
