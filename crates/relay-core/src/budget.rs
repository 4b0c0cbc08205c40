//! Budget for the relay's webhook calls: concurrent calls, and the rate of calls to failing
//! endpoints.
//!
//! Lanes whose last call failed use separate call slots, which are few and have a bounded rate. A
//! broad outage therefore causes no storm of retries, and ten thousand failing endpoints take no
//! capacity from healthy ones. An endpoint that has just gone down counts as healthy until its
//! first failed call ends, and occupies a slot until that call times out. Calls that start while
//! more than half of the slots are in use therefore get a short timeout.
//!
//! A single envelope can need more than the usual timeout on a slow link. Such a *long* call has the
//! time that it needs, in a call slot of failing endpoints ([`long_call_timeout`]), so that it takes
//! nothing from healthy ones.
//!
//! Healthy endpoints share the memory for the batches, apart from a small reservation per slot. A
//! call takes only a fraction of the free memory ([`call_limits`]), so that hanging calls leave
//! memory for others.

use sealpost_proto::{
    Timestamp,
    batch_size::transfer_time,
    limits::{
        DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_PER_CALL_BYTES, DELIVERY_MEMORY_SHARED_BYTES,
        FAILING_CALLS_MAX, FAILING_CALLS_PER_SECOND, WEBHOOK_CALLS_MAX, WEBHOOK_TIMEOUT,
        WEBHOOK_TIMEOUT_UNDER_LOAD,
    },
};
use std::time::Duration;

/// Health of a webhook endpoint, by its last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointHealth {
    /// The last call succeeded, or there was none yet.
    Healthy,
    /// The last call failed.
    Failing,
}

impl EndpointHealth {
    /// Every value, for loops over both kinds of endpoints.
    pub const ALL: [Self; 2] = [Self::Healthy, Self::Failing];
}

/// Limits of a call to a healthy endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Maximum bytes of envelopes, unless the first envelope alone is larger.
    pub bytes: usize,
    /// Timeout of the call.
    pub timeout: Duration,
}

/// A call takes this fraction of the free shared memory.
const FREE_MEMORY_DIVISOR: usize = 4;

/// Returns the limits of a call that starts while `free_bytes` of the shared memory are free.
#[must_use]
pub const fn call_limits(free_bytes: usize) -> CallLimits {
    let bytes = DELIVERY_MEMORY_PER_CALL_BYTES + free_bytes / FREE_MEMORY_DIVISOR;
    let is_under_load = free_bytes < DELIVERY_MEMORY_SHARED_BYTES / 2;
    CallLimits {
        bytes: if bytes < DELIVERY_BATCH_BYTES_MAX {
            bytes
        } else {
            DELIVERY_BATCH_BYTES_MAX
        },
        timeout: if is_under_load {
            WEBHOOK_TIMEOUT_UNDER_LOAD
        } else {
            WEBHOOK_TIMEOUT
        },
    }
}

/// Returns the timeout of a call with a single item that needs more than the usual timeout on the
/// slowest supported link, and `None` for any other call.
#[must_use]
pub fn long_call_timeout(items: usize, bytes: usize, usual: Duration) -> Option<Duration> {
    let transfer_time = transfer_time(bytes);
    (items == 1 && transfer_time > usual).then(|| transfer_time + WEBHOOK_TIMEOUT_UNDER_LOAD)
}

/// Active webhook calls, and a token bucket that limits the rate of calls to failing endpoints.
#[derive(Debug)]
pub struct CallBudget {
    active_healthy_calls: usize,
    active_failing_calls: usize,
    /// Tokens for calls to failing endpoints; each call takes [`TOKENS_PER_CALL`].
    tokens: u64,
    /// When the bucket was last refilled.
    refilled_at: Timestamp,
}

/// Tokens that one call to a failing endpoint takes; 1,000, so that the bucket can be refilled
/// every millisecond without fractions.
const TOKENS_PER_CALL: u64 = 1_000;
/// Capacity of the bucket.
const TOKENS_MAX: u64 = FAILING_CALLS_MAX as u64 * TOKENS_PER_CALL;

impl CallBudget {
    /// Creates an unused budget.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            active_healthy_calls: 0,
            active_failing_calls: 0,
            tokens: TOKENS_MAX,
            refilled_at: now,
        }
    }

    /// Returns the number of calls to endpoints of this health that may start now.
    #[must_use]
    pub fn available_calls(&mut self, now: Timestamp, health: EndpointHealth) -> usize {
        self.refill_tokens(now);
        match health {
            EndpointHealth::Healthy => WEBHOOK_CALLS_MAX.saturating_sub(self.active_healthy_calls),
            EndpointHealth::Failing => {
                let affordable =
                    usize::try_from(self.tokens / TOKENS_PER_CALL).unwrap_or(usize::MAX);
                FAILING_CALLS_MAX
                    .saturating_sub(self.active_failing_calls)
                    .min(affordable)
            }
        }
    }

    /// Starts a call if the budget allows it and returns its timeout.
    pub fn try_start(&mut self, now: Timestamp, health: EndpointHealth) -> Option<Duration> {
        if self.available_calls(now, health) == 0 {
            return None;
        }
        let (active, max) = match health {
            EndpointHealth::Healthy => (&mut self.active_healthy_calls, WEBHOOK_CALLS_MAX),
            EndpointHealth::Failing => {
                self.tokens -= TOKENS_PER_CALL;
                (&mut self.active_failing_calls, FAILING_CALLS_MAX)
            }
        };
        *active += 1;
        Some(if *active > max / 2 {
            WEBHOOK_TIMEOUT_UNDER_LOAD
        } else {
            WEBHOOK_TIMEOUT
        })
    }

    /// Finishes a call. A successful call to a failing endpoint is refunded, so that recovered
    /// endpoints do not wait for the rate limit.
    pub fn finish(&mut self, health: EndpointHealth, has_succeeded: bool) {
        let active = match health {
            EndpointHealth::Healthy => &mut self.active_healthy_calls,
            EndpointHealth::Failing => &mut self.active_failing_calls,
        };
        *active = active.saturating_sub(1);
        if health == EndpointHealth::Failing && has_succeeded {
            self.tokens = (self.tokens + TOKENS_PER_CALL).min(TOKENS_MAX);
        }
    }

    /// Adds the tokens of the elapsed time; a clock that was set back adds none.
    fn refill_tokens(&mut self, now: Timestamp) {
        let elapsed_ms = now.as_millis().saturating_sub(self.refilled_at.as_millis());
        let earned = elapsed_ms.saturating_mul(FAILING_CALLS_PER_SECOND * TOKENS_PER_CALL / 1_000);
        self.tokens = self.tokens.saturating_add(earned).min(TOKENS_MAX);
        self.refilled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sealpost_proto::limits::{
        DELIVERY_MEMORY_WAIT_MAX, ENVELOPE_BYTES_MAX, LEASE_DURATION, LONG_CALL_BYTES_MIN,
        LONG_CALLS_MEMORY_BYTES_MAX,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn start_all(budget: &mut CallBudget, now: Timestamp, health: EndpointHealth) -> usize {
        std::iter::from_fn(|| budget.try_start(now, health))
            .take(100_000)
            .count()
    }

    #[test]
    fn failing_endpoints_use_separate_slots() {
        let mut budget = CallBudget::new(NOW);
        assert_eq!(
            start_all(&mut budget, NOW, EndpointHealth::Failing),
            FAILING_CALLS_MAX
        );
        assert_eq!(
            start_all(&mut budget, NOW, EndpointHealth::Healthy),
            WEBHOOK_CALLS_MAX
        );
        assert_eq!(budget.try_start(NOW, EndpointHealth::Healthy), None);
        budget.finish(EndpointHealth::Healthy, false);
        assert!(budget.try_start(NOW, EndpointHealth::Healthy).is_some());
    }

    #[test]
    fn failing_calls_have_a_bounded_rate() {
        let mut budget = CallBudget::new(NOW);
        let mut started = 0;
        for second in 0..60 {
            let now = NOW.plus(Duration::from_secs(second));
            while budget.try_start(now, EndpointHealth::Failing).is_some() {
                started += 1;
                budget.finish(EndpointHealth::Failing, false);
            }
        }
        assert_eq!(
            started,
            FAILING_CALLS_MAX as u64 + 59 * FAILING_CALLS_PER_SECOND
        );
    }

    #[test]
    fn recovered_endpoints_skip_the_rate_limit() {
        let mut budget = CallBudget::new(NOW);
        for _ in 0..10_000 {
            assert!(budget.try_start(NOW, EndpointHealth::Failing).is_some());
            budget.finish(EndpointHealth::Failing, true);
        }
    }

    #[test]
    fn calls_under_load_get_short_timeouts() {
        for (health, max) in [
            (EndpointHealth::Healthy, WEBHOOK_CALLS_MAX),
            (EndpointHealth::Failing, FAILING_CALLS_MAX),
        ] {
            let mut budget = CallBudget::new(NOW);
            for number in 1..=max {
                let timeout = if number > max / 2 {
                    WEBHOOK_TIMEOUT_UNDER_LOAD
                } else {
                    WEBHOOK_TIMEOUT
                };
                assert_eq!(budget.try_start(NOW, health), Some(timeout));
            }
        }
    }

    #[test]
    fn only_large_single_items_make_long_calls() {
        let slow = Duration::from_millis(73_400) + WEBHOOK_TIMEOUT_UNDER_LOAD;
        let long = long_call_timeout(1, ENVELOPE_BYTES_MAX, WEBHOOK_TIMEOUT).unwrap();
        assert!(long.abs_diff(slow) < Duration::from_millis(10), "{long:?}");
        assert!(long + DELIVERY_MEMORY_WAIT_MAX < LEASE_DURATION);
        for (items, bytes) in [(2, ENVELOPE_BYTES_MAX), (1, 32 * 1024)] {
            assert_eq!(long_call_timeout(items, bytes, WEBHOOK_TIMEOUT), None);
        }
        assert!(long_call_timeout(1, 32 * 1024, WEBHOOK_TIMEOUT_UNDER_LOAD).is_some());
        assert_eq!(
            LONG_CALLS_MEMORY_BYTES_MAX / LONG_CALL_BYTES_MIN,
            FAILING_CALLS_MAX / 2,
            "long calls leave slots for other failing endpoints"
        );
    }

    #[test]
    fn first_call_gets_all_limits() {
        assert_eq!(
            call_limits(DELIVERY_MEMORY_SHARED_BYTES),
            CallLimits {
                bytes: DELIVERY_BATCH_BYTES_MAX,
                timeout: WEBHOOK_TIMEOUT
            }
        );
    }

    /// Starts `calls` calls that hang and returns the shared memory that stays free.
    fn free_memory_beside_hanging_calls(calls: usize) -> usize {
        (0..calls).fold(DELIVERY_MEMORY_SHARED_BYTES, |free, _| {
            free - (call_limits(free).bytes - DELIVERY_MEMORY_PER_CALL_BYTES)
        })
    }

    #[test]
    fn hanging_calls_leave_memory_for_others() {
        assert!(free_memory_beside_hanging_calls(8) > DELIVERY_BATCH_BYTES_MAX / 4);
        for calls in 0..WEBHOOK_CALLS_MAX {
            let CallLimits { bytes, .. } = call_limits(free_memory_beside_hanging_calls(calls));
            assert!(bytes >= DELIVERY_MEMORY_PER_CALL_BYTES);
        }
    }

    #[test]
    fn few_hanging_calls_shorten_the_timeout() {
        for calls in 3..WEBHOOK_CALLS_MAX {
            let CallLimits { timeout, .. } = call_limits(free_memory_beside_hanging_calls(calls));
            assert_eq!(timeout, WEBHOOK_TIMEOUT_UNDER_LOAD);
        }
    }

    proptest! {
        #[test]
        fn clock_jumps_do_not_exceed_the_burst_limit(
            jumps in proptest::collection::vec(any::<u32>(), 1..50),
        ) {
            let mut budget = CallBudget::new(NOW);
            for now_ms in jumps {
                let now = Timestamp::from_millis(u64::from(now_ms));
                let started = start_all(&mut budget, now, EndpointHealth::Failing);
                prop_assert!(started <= FAILING_CALLS_MAX);
                (0..started).for_each(|_| budget.finish(EndpointHealth::Failing, false));
            }
        }
    }
}
