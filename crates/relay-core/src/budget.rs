//! Budget for webhook calls of the relay: concurrent calls, and the rate of calls to failing
//! endpoints.
//!
//! Lanes whose last call failed use separate call slots, which are few and have a bounded rate. A
//! broad outage therefore causes no storm of retries, and ten thousand failing endpoints take no
//! capacity from healthy ones. An endpoint that has just failed still counts as healthy once and
//! occupies its slot until the call times out, so calls that start while more than half of the
//! slots are in use get a short timeout.
//!
//! Healthy endpoints share the memory for the batches, apart from a small reservation per slot. A
//! call takes only a fraction of the free memory ([`call_limits`]), so that hanging calls leave
//! memory for others.

use sealpost_proto::{
    Timestamp,
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
    /// The last call failed: the next one is a probe.
    Failing,
}

impl EndpointHealth {
    /// Both values.
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

/// What may be called, and what is under way.
#[derive(Debug)]
pub struct Budget {
    healthy: usize,
    failing: usize,
    /// Credit for calls to failing endpoints; each call costs [`CALL_COST`].
    credit: u64,
    /// When the credit was last refilled.
    refilled_at: Timestamp,
}

/// Credit that one call to a failing endpoint costs.
const CALL_COST: u64 = 1_000;
const CREDIT_MAX: u64 = FAILING_CALLS_MAX as u64 * CALL_COST;

impl Budget {
    /// Creates an unused budget.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            healthy: 0,
            failing: 0,
            credit: CREDIT_MAX,
            refilled_at: now,
        }
    }

    /// Returns the number of calls to such endpoints that may start now.
    #[must_use]
    pub fn available(&mut self, now: Timestamp, health: EndpointHealth) -> usize {
        self.refill_credit(now);
        match health {
            EndpointHealth::Healthy => WEBHOOK_CALLS_MAX.saturating_sub(self.healthy),
            EndpointHealth::Failing => {
                let affordable = usize::try_from(self.credit / CALL_COST).unwrap_or(usize::MAX);
                FAILING_CALLS_MAX
                    .saturating_sub(self.failing)
                    .min(affordable)
            }
        }
    }

    /// Starts a call if the budget allows it and returns its timeout.
    pub fn try_start(&mut self, now: Timestamp, health: EndpointHealth) -> Option<Duration> {
        if self.available(now, health) == 0 {
            return None;
        }
        let (active, max) = match health {
            EndpointHealth::Healthy => (&mut self.healthy, WEBHOOK_CALLS_MAX),
            EndpointHealth::Failing => {
                self.credit -= CALL_COST;
                (&mut self.failing, FAILING_CALLS_MAX)
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
    pub fn finish(&mut self, health: EndpointHealth, succeeded: bool) {
        match health {
            EndpointHealth::Healthy => self.healthy = self.healthy.saturating_sub(1),
            EndpointHealth::Failing => {
                self.failing = self.failing.saturating_sub(1);
                if succeeded {
                    self.credit = (self.credit + CALL_COST).min(CREDIT_MAX);
                }
            }
        }
    }

    /// Refills the credit for the elapsed time; a clock that was set back adds nothing.
    fn refill_credit(&mut self, now: Timestamp) {
        let elapsed_ms = now.as_millis().saturating_sub(self.refilled_at.as_millis());
        let grown = elapsed_ms.saturating_mul(FAILING_CALLS_PER_SECOND * CALL_COST / 1_000);
        self.credit = self.credit.saturating_add(grown).min(CREDIT_MAX);
        self.refilled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn start_all(budget: &mut Budget, now: Timestamp, health: EndpointHealth) -> usize {
        std::iter::from_fn(|| budget.try_start(now, health))
            .take(100_000)
            .count()
    }

    #[test]
    fn failing_endpoints_use_separate_slots() {
        let mut budget = Budget::new(NOW);
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
        let mut budget = Budget::new(NOW);
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
        let mut budget = Budget::new(NOW);
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
            let mut budget = Budget::new(NOW);
            for number in 1..=max {
                let time = if number > max / 2 {
                    WEBHOOK_TIMEOUT_UNDER_LOAD
                } else {
                    WEBHOOK_TIMEOUT
                };
                assert_eq!(budget.try_start(NOW, health), Some(time));
            }
        }
    }

    #[test]
    fn hanging_calls_leave_memory() {
        let mut free = DELIVERY_MEMORY_SHARED_BYTES;
        assert_eq!(
            call_limits(free),
            CallLimits {
                bytes: DELIVERY_BATCH_BYTES_MAX,
                timeout: WEBHOOK_TIMEOUT
            }
        );
        for hanging in 1..=WEBHOOK_CALLS_MAX {
            let CallLimits { bytes, timeout } = call_limits(free);
            assert!(bytes >= DELIVERY_MEMORY_PER_CALL_BYTES);
            free -= bytes - DELIVERY_MEMORY_PER_CALL_BYTES;
            assert!(
                hanging < 4 || timeout == WEBHOOK_TIMEOUT_UNDER_LOAD,
                "the first hanging calls already put it under load"
            );
            assert!(
                hanging != 8 || free > DELIVERY_BATCH_BYTES_MAX / 4,
                "eight hanging calls leave a good batch to others"
            );
        }
    }

    proptest! {
        #[test]
        fn clock_jumps_cause_no_storm(jumps in proptest::collection::vec(any::<u32>(), 1..50)) {
            let mut budget = Budget::new(NOW);
            for at in jumps {
                let started = start_all(&mut budget, Timestamp::from_millis(u64::from(at)), EndpointHealth::Failing);
                prop_assert!(started <= FAILING_CALLS_MAX);
                (0..started).for_each(|_| budget.finish(EndpointHealth::Failing, false));
            }
        }
    }
}
