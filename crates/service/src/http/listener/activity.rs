//! Activity of one connection, which decides when it is idle, and requests to close it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Activity of one connection.
pub(super) struct Activity {
    state: Mutex<State>,
    close: CancellationToken,
}

struct State {
    /// Requests that the server is processing. A request whose response the client does not read is
    /// not one of them.
    processing: usize,
    changed_at: Instant,
}

/// Request in progress until this value is dropped.
pub(super) struct ActiveRequest {
    activity: Arc<Activity>,
    is_processing: bool,
}

impl Activity {
    /// Creates the activity of a new connection.
    pub(super) fn new() -> Arc<Self> {
        let state = Mutex::new(State {
            processing: 0,
            changed_at: Instant::now(),
        });
        Arc::new(Self {
            state,
            close: CancellationToken::new(),
        })
    }

    pub(super) fn start_request(self: &Arc<Self>) -> ActiveRequest {
        let mut request = ActiveRequest {
            activity: Arc::clone(self),
            is_processing: false,
        };
        request.set_processing(true);
        request
    }

    /// Returns since when the connection is idle; `None` while a request is processed.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.processing == 0).then_some(state.changed_at)
    }

    /// Waits until the connection has been idle for `duration`.
    pub(super) async fn idle_for(&self, duration: Duration) {
        loop {
            let now = Instant::now();
            let until = self.idle_since().unwrap_or(now) + duration;
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }

    pub(super) fn request_close(&self) {
        self.close.cancel();
    }

    pub(super) async fn close_requested(&self) {
        self.close.cancelled().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActiveRequest {
    /// Returns the activity of the request's connection.
    pub(super) const fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Records whether the server or the client has to take the next step. Each call restarts the
    /// idle time.
    pub(super) fn set_processing(&mut self, is_processing: bool) {
        let mut state = self.activity.state();
        match (self.is_processing, is_processing) {
            (false, true) => state.processing += 1,
            (true, false) => state.processing -= 1,
            (true, true) | (false, false) => {}
        }
        state.changed_at = Instant::now();
        drop(state);
        self.is_processing = is_processing;
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.set_processing(false);
    }
}
