use crate::supervisor;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a program that Ctrl-C ended.
const INTERRUPTED_EXIT_CODE: i32 = 130;

/// Shutdown signal shared by all tasks. Clones share the signal; a [child](Shutdown::child) can be
/// triggered alone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Creates a signal that only [`Self::trigger`] triggers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a signal that SIGINT or SIGTERM triggers. A second Unix signal ends the process
    /// immediately. The supervisor is notified. Requires a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the system refuses the signal handlers.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let signals = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        tokio::spawn(shutdown.clone().watch(signals.0, signals.1));
        Ok(shutdown)
    }

    /// Triggers the shutdown.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Returns whether the shutdown was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the shutdown is triggered.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// Creates a signal that is triggered with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    async fn watch(self, mut interrupt: Signal, mut terminate: Signal) {
        wait_for_any_signal(&mut interrupt, &mut terminate).await;
        tracing::info!("shutting down; a second signal ends the process immediately");
        supervisor::notify_stopping();
        self.trigger();
        wait_for_any_signal(&mut interrupt, &mut terminate).await;
        std::process::exit(INTERRUPTED_EXIT_CODE);
    }
}

async fn wait_for_any_signal(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parent_triggers_its_children() {
        let parent = Shutdown::new();
        let (first, second) = (parent.child(), parent.child());
        first.trigger();
        assert!(first.is_triggered() && !parent.is_triggered() && !second.is_triggered());
        parent.trigger();
        second.triggered().await;
    }
}
