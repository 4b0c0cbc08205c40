//! Rate limit of a node's own requests.
//!
//! A node repeats requests until it has nothing left to do, and the relay decides how long that
//! takes: a faulty or hostile relay could respond in such a way that a node sends requests without
//! a pause. Requests that lead to progress are not counted, so the limit costs an honest relay's
//! node nothing.

use sealpost_proto::limits::{RELAY_REQUEST_INTERVAL, RELAY_REQUESTS_BURST};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, sleep};

/// Token bucket of [`RELAY_REQUESTS_BURST`] requests, with a new one every
/// [`RELAY_REQUEST_INTERVAL`].
#[derive(Debug)]
pub(crate) struct RequestLimit {
    /// When the bucket will be full.
    full_at: Mutex<Instant>,
}

impl RequestLimit {
    pub(crate) fn new() -> Self {
        Self {
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// Reserves one request, and waits until the bucket has it.
    pub(crate) async fn reserve_request(&self) {
        let now = Instant::now();
        let full_at = {
            let mut full_at = self.lock();
            *full_at = (*full_at).max(now) + RELAY_REQUEST_INTERVAL;
            *full_at
        };
        let burst = RELAY_REQUEST_INTERVAL * RELAY_REQUESTS_BURST;
        let wait = full_at.saturating_duration_since(now + burst);
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Returns requests to the bucket.
    pub(crate) fn return_requests(&self, requests: u32) {
        let mut full_at = self.lock();
        let earlier = full_at.checked_sub(RELAY_REQUEST_INTERVAL * requests);
        *full_at = earlier.unwrap_or(*full_at);
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn few_requests_follow_a_burst() {
        let (limit, started) = (RequestLimit::new(), Instant::now());
        for _ in 0..RELAY_REQUESTS_BURST {
            limit.reserve_request().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            limit.reserve_request().await;
        }
        assert_eq!(started.elapsed(), RELAY_REQUEST_INTERVAL * 10);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_not_limited() {
        let (limit, started) = (RequestLimit::new(), Instant::now());
        for _ in 0..10_000 {
            limit.reserve_request().await;
            limit.return_requests(1);
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
