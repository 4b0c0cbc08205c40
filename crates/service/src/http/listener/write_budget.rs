//! Time for which writes may be blocked.

use std::time::Duration;
use tokio::time::Instant;

/// Time for which the writes of a connection or response may be blocked. Blocked writes use it up;
/// written bytes refill it.
pub(super) struct WriteBudget {
    max: Duration,
    remaining: Duration,
    bytes_per_second_min: u32,
    blocked_since: Option<Instant>,
}

impl WriteBudget {
    /// Creates a full budget. Whoever reads `bytes_per_second_min` never uses it up.
    pub(super) fn new(max: Duration, bytes_per_second_min: u32) -> Self {
        Self {
            max,
            remaining: max,
            bytes_per_second_min,
            blocked_since: None,
        }
    }

    /// Records that writes are blocked, and returns when the budget will be used up.
    pub(super) fn block(&mut self) -> Instant {
        *self.blocked_since.get_or_insert_with(Instant::now) + self.remaining
    }

    /// Records written bytes, after which writes are not blocked.
    pub(super) fn record_write(&mut self, bytes: usize) {
        if let Some(since) = self.blocked_since.take() {
            self.remaining = self.remaining.saturating_sub(since.elapsed());
        }
        let earned = Duration::from_secs(bytes as u64) / self.bytes_per_second_min;
        self.remaining = (self.remaining + earned).min(self.max);
    }
}
