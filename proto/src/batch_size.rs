//! Size of delivery batches that adapts to the link and to the limits of proxies on the way.
//!
//! The relay applies it to the webhook calls of a lane, the node to its pulls and its submissions. A
//! batch that did not arrive in time halves the size, a batch that failed for another reason also
//! limits the size for a while, and full batches that arrive quickly double the size.

use crate::{
    limits::{
        BATCH_BYTES_FIRST, DELIVERY_BATCH_BYTES_MAX, DELIVERY_EVENT_BYTES, FAILED_SIZE_RETENTION,
        LINK_BYTES_PER_SECOND_MIN, QUICK_BATCH_TIME, QUICK_BATCHES_BEFORE_RETRY,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Maximum size of the next batch, in bytes of envelopes before base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSize {
    bytes: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<FailedSize>,
}

/// Size of a batch that failed, perhaps because of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FailedSize {
    bytes: usize,
    at: Timestamp,
    /// Full batches that arrived quickly since then.
    quick_batches: u32,
}

const BYTES_MIN: usize = DELIVERY_EVENT_BYTES;
const BYTES_MAX: usize = DELIVERY_BATCH_BYTES_MAX;

impl Default for BatchSize {
    fn default() -> Self {
        Self::FIRST
    }
}

impl BatchSize {
    /// Size before anything is known: [`BATCH_BYTES_FIRST`].
    pub const FIRST: Self = Self::new(BATCH_BYTES_FIRST);

    /// Creates a size of `bytes`, at most [`DELIVERY_BATCH_BYTES_MAX`].
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self {
            bytes: clamp(bytes),
            failed: None,
        }
    }

    /// Returns the maximum bytes of the next batch. A single larger item is sent alone.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the size is still [`Self::FIRST`].
    #[must_use]
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }

    /// Halves the size after a batch of `sent` bytes that did not arrive in time.
    pub const fn halve(&mut self, sent: usize) {
        let tried = if sent < self.bytes { sent } else { self.bytes };
        self.bytes = clamp(tried / 2);
    }

    /// Halves the size after a batch of `sent` bytes that timed out after `elapsed`. A batch that the
    /// slowest supported link could have carried in that time was not too large.
    pub fn record_timeout(&mut self, sent: usize, elapsed: Duration) {
        if transfer_time(sent) > elapsed {
            self.halve(sent);
        }
    }

    /// Halves the size after a batch of `sent` bytes that failed, perhaps because of its size. Batches
    /// grow to this size again only after [`QUICK_BATCHES_BEFORE_RETRY`] batches or after
    /// [`FAILED_SIZE_RETENTION`].
    pub const fn limit(&mut self, now: Timestamp, sent: usize) {
        self.halve(sent);
        self.failed = Some(FailedSize {
            bytes: sent,
            at: now,
            quick_batches: 0,
        });
    }

    /// Doubles the size after a batch of `sent` bytes, if the batch was full and took little time.
    pub fn record_success(&mut self, now: Timestamp, sent: usize, elapsed: Duration) {
        if sent <= self.bytes / 2 || elapsed > QUICK_BATCH_TIME {
            return;
        }
        let doubled = clamp(self.bytes.saturating_mul(2));
        if let Some(failed) = &mut self.failed {
            failed.quick_batches += 1;
            let is_remembered = failed.quick_batches < QUICK_BATCHES_BEFORE_RETRY
                && failed.at <= now
                && now < failed.at.plus(FAILED_SIZE_RETENTION);
            if sent >= failed.bytes {
                self.failed = None;
            } else if is_remembered && doubled >= failed.bytes {
                return;
            }
        }
        self.bytes = doubled;
    }
}

/// Returns how long a batch takes on the slowest supported link: in base64 with its JSON, which is
/// 7/5 of its bytes, at [`LINK_BYTES_PER_SECOND_MIN`].
#[must_use]
pub fn transfer_time(bytes: usize) -> Duration {
    let sent = Duration::from_secs(bytes as u64 * 7 / 5);
    sent / LINK_BYTES_PER_SECOND_MIN
}

const fn clamp(bytes: usize) -> usize {
    if bytes < BYTES_MIN {
        BYTES_MIN
    } else if bytes > BYTES_MAX {
        BYTES_MAX
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{
        DELIVERY_MEMORY_WAIT_MAX, ENVELOPE_BYTES_MAX, LEASE_DURATION, LEASE_DURATION_MAX,
        RELAY_CALL_TIMEOUT, WEBHOOK_TIMEOUT_UNDER_LOAD,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
    const QUICK: Duration = Duration::from_millis(20);

    /// Sends one full batch, which arrives quickly.
    fn send_full(size: &mut BatchSize, now: Timestamp) {
        size.record_success(now, size.bytes(), QUICK);
    }

    #[test]
    fn timeouts_halve_and_quick_full_batches_double() {
        let mut size = BatchSize::new(1024 * 1024);
        size.halve(1_000_000);
        assert_eq!(size.bytes(), 500_000);
        size.record_success(NOW, 250_000, QUICK);
        assert_eq!(
            size.bytes(),
            500_000,
            "a batch that is not full shows nothing"
        );
        size.record_success(NOW, 500_000, QUICK_BATCH_TIME * 2);
        assert_eq!(
            size.bytes(),
            500_000,
            "a slow batch shows that a larger one is slower"
        );
        size.record_success(NOW, 499_000, QUICK);
        assert_eq!(size.bytes(), 1_000_000);
        send_full(&mut size, NOW);
        assert_eq!(size.bytes(), 1024 * 1024);
    }

    #[test]
    fn only_timeouts_of_large_batches_halve() {
        let mut size = BatchSize::default();
        size.record_timeout(50_000, transfer_time(50_000));
        assert!(size.is_first());
        size.record_timeout(50_000, transfer_time(49_999));
        assert_eq!(size.bytes(), 25_000);
    }

    #[test]
    fn size_stays_within_its_bounds() {
        let mut size = BatchSize::new(usize::MAX);
        assert_eq!(size.bytes(), DELIVERY_BATCH_BYTES_MAX);
        for _ in 0..40 {
            size.limit(NOW, size.bytes());
        }
        assert_eq!(size.bytes(), DELIVERY_EVENT_BYTES);
    }

    #[test]
    fn failed_size_is_remembered_for_a_while() {
        let mut size = BatchSize::new(1_000_000);
        size.limit(NOW, 1_000_000);
        assert_eq!(size.bytes(), 500_000);
        for _ in 1..QUICK_BATCHES_BEFORE_RETRY {
            send_full(&mut size, NOW);
            assert_eq!(size.bytes(), 500_000);
        }
        let mut later = size;
        send_full(&mut size, NOW);
        assert_eq!(
            size.bytes(),
            1_000_000,
            "after enough batches it is tried again"
        );
        let mut after_years = later;
        send_full(&mut later, NOW.plus(FAILED_SIZE_RETENTION));
        assert_eq!(later.bytes(), 1_000_000, "or after a while");
        send_full(&mut after_years, NOW.minus(QUICK_BATCH_TIME));
        assert_eq!(
            after_years.bytes(),
            1_000_000,
            "a clock that was set back blocks nothing"
        );
    }

    #[test]
    fn success_at_a_failed_size_ends_the_limit() {
        let mut size = BatchSize::default();
        size.limit(NOW, 8_192);
        send_full(&mut size, NOW);
        assert_eq!(size.bytes(), 4_096, "4,096 doubled is what failed");
        // A single item can be larger than the size.
        size.record_success(NOW, 10_000, QUICK);
        send_full(&mut size, NOW);
        assert_eq!(size.bytes(), 16_384);
    }

    #[test]
    fn stored_size_round_trips() {
        let mut size = BatchSize::default();
        assert!(size.is_first());
        size.limit(NOW, 1_000_000);
        let text = serde_json::to_string(&size).unwrap();
        assert_eq!(serde_json::from_str::<BatchSize>(&text).unwrap(), size);
        assert!(!size.is_first());
    }

    #[test]
    fn leases_outlast_the_slowest_transfer() {
        assert_eq!(transfer_time(5_000), Duration::from_millis(1_400));
        let call = transfer_time(ENVELOPE_BYTES_MAX) + WEBHOOK_TIMEOUT_UNDER_LOAD;
        assert!(call + DELIVERY_MEMORY_WAIT_MAX < LEASE_DURATION);
        assert!(transfer_time(DELIVERY_BATCH_BYTES_MAX) + RELAY_CALL_TIMEOUT < LEASE_DURATION_MAX);
    }
}
