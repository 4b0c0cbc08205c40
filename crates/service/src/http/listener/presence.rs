//! Whether a connection waits for us or we for it, and the wish that it leaves.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What one connection does, as far as it matters to the others.
pub(super) struct Presence {
    activity: Mutex<Activity>,
    leave: CancellationToken,
}

struct Activity {
    /// Requests for which we have something to do.
    ours: usize,
    since: Instant,
}

/// A request that is under way until this is dropped.
pub(super) struct UnderWay {
    presence: Arc<Presence>,
    is_ours: bool,
}

impl Presence {
    /// Of a connection that was just made.
    pub(super) fn new() -> Arc<Self> {
        let activity = Mutex::new(Activity {
            ours: 0,
            since: Instant::now(),
        });
        Arc::new(Self {
            activity,
            leave: CancellationToken::new(),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut under_way = UnderWay {
            presence: Arc::clone(self),
            is_ours: false,
        };
        under_way.is_ours(true);
        under_way
    }

    /// Since when we have nothing to do for it; `None` while we have.
    pub(super) fn resting_since(&self) -> Option<Instant> {
        let activity = self.activity();
        (activity.ours == 0).then_some(activity.since)
    }

    /// Returns when we have had nothing to do for so long.
    pub(super) async fn rested(&self, long: Duration) {
        loop {
            let now = Instant::now();
            let until = self.resting_since().unwrap_or(now) + long;
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }

    pub(super) fn ask_to_leave(&self) {
        self.leave.cancel();
    }

    pub(super) async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    /// Whether the next step is ours, or the client's. Each of its steps counts as news of it.
    pub(super) fn is_ours(&mut self, is_ours: bool) {
        let mut activity = self.presence.activity();
        match (self.is_ours, is_ours) {
            (false, true) => activity.ours += 1,
            (true, false) => activity.ours -= 1,
            (true, true) | (false, false) => {}
        }
        activity.since = Instant::now();
        drop(activity);
        self.is_ours = is_ours;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.is_ours(false);
    }
}
