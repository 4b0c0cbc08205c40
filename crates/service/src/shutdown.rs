use crate::supervisor;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell shows for a program ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// The wish that the process ends. Clones are the same wish; a [child](Shutdown::child) can be ended alone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// One that ends only when told to.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that ends on SIGINT or SIGTERM; a second signal ends the process at once. The supervisor
    /// is told. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the system does not let the signals be caught.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let signals = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        tokio::spawn(shutdown.clone().watch(signals.0, signals.1));
        Ok(shutdown)
    }

    /// Ends it.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when it has ended.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// One that ends with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    async fn watch(self, mut interrupt: Signal, mut terminate: Signal) {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("stopping; a second signal stops at once");
        supervisor::stopping();
        self.trigger();
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(INTERRUPTED);
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_ends_alone_and_with_its_parent() {
        let parent = Shutdown::new();
        let (first, second) = (parent.child(), parent.child());
        first.trigger();
        assert!(first.is_triggered() && !parent.is_triggered() && !second.is_triggered());
        parent.trigger();
        second.triggered().await;
    }
}
