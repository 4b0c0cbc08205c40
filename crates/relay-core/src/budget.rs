//! The retry budget of the whole relay: how many webhooks are called at a time, and how many of those that failed.
//!
//! Lanes whose last call failed have calls of their own, few and at a bounded rate, so that a broad outage is not answered
//! with a storm and ten thousand dead endpoints leave the living all their room. A lane whose endpoint died just now still
//! counts as living once, and holds its place until the call has timed out; so calls that begin while more than half of
//! the places are taken get little time.
//!
//! The memory for what the living are called with is theirs together, but for a little that each place has of its own. Nobody
//! takes more than a part of what is free of it ([`portion`]): those that hang leave something to all others.

use sealpost_proto::{
    Timestamp,
    limits::{
        DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_PER_CALL_BYTES, DELIVERY_MEMORY_SHARED_BYTES,
        FAILING_CALLS_MAX, FAILING_CALLS_PER_SECOND, WEBHOOK_CALLS_MAX, WEBHOOK_TIMEOUT,
        WEBHOOK_TIMEOUT_UNDER_LOAD,
    },
};
use std::time::Duration;

/// How the last call of a lane's webhook went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointHealth {
    /// It was answered, or there was none yet.
    Healthy,
    /// It failed: the next one is a try.
    Failing,
}

impl EndpointHealth {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Healthy, Self::Failing];
}

/// What the call of a living lane may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Bytes of envelopes, unless the first alone is larger.
    pub bytes: usize,
    /// Time.
    pub timeout: Duration,
}

/// Of what is free of the shared memory one call takes this part.
const FREE_MEMORY_DIVISOR: usize = 4;

/// What a call may take that begins while so many bytes of the shared memory are free.
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
    /// Thousandths of tries that may begin.
    credit: u64,
    /// When the credit was counted last.
    refilled_at: Timestamp,
}

/// A try, in the unit of the credit.
const CALL_COST: u64 = 1_000;
const CREDIT_MAX: u64 = FAILING_CALLS_MAX as u64 * CALL_COST;

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            healthy: 0,
            failing: 0,
            credit: CREDIT_MAX,
            refilled_at: now,
        }
    }

    /// How many calls of such lanes may begin now.
    #[must_use]
    pub fn available(&mut self, now: Timestamp, health: EndpointHealth) -> usize {
        self.refill_credit(now);
        match health {
            EndpointHealth::Healthy => WEBHOOK_CALLS_MAX.saturating_sub(self.healthy),
            EndpointHealth::Failing => {
                let tries = usize::try_from(self.credit / CALL_COST).unwrap_or(usize::MAX);
                FAILING_CALLS_MAX.saturating_sub(self.failing).min(tries)
            }
        }
    }

    /// A call begins where there is room; gives the time that it may take.
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

    /// A call ended. A try that succeeded costs nothing: when everybody is back nobody waits for the rate.
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

    /// The credit grows with the time; a clock that was put back adds nothing.
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
    fn the_dead_take_no_place_of_the_living() {
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
    fn whoever_refuses_at_once_is_tried_at_a_bounded_rate() {
        let mut budget = Budget::new(NOW);
        let mut tried = 0;
        for second in 0..60 {
            let now = NOW.plus(Duration::from_secs(second));
            while budget.try_start(now, EndpointHealth::Failing).is_some() {
                tried += 1;
                budget.finish(EndpointHealth::Failing, false);
            }
        }
        assert_eq!(
            tried,
            FAILING_CALLS_MAX as u64 + 59 * FAILING_CALLS_PER_SECOND
        );
    }

    #[test]
    fn whoever_is_back_does_not_wait_for_the_rate() {
        let mut budget = Budget::new(NOW);
        for _ in 0..10_000 {
            assert!(budget.try_start(NOW, EndpointHealth::Failing).is_some());
            budget.finish(EndpointHealth::Failing, true);
        }
    }

    #[test]
    fn in_a_crowd_a_call_gets_little_time() {
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
    fn however_many_hang_there_is_memory_for_the_next_call() {
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
                "the first few have shown that it is is_under_load"
            );
            assert!(
                hanging != 8 || free > DELIVERY_BATCH_BYTES_MAX / 4,
                "eight leave a good batch to the others"
            );
        }
    }

    proptest! {
        #[test]
        fn a_clock_that_jumps_gives_no_storm(jumps in proptest::collection::vec(any::<u32>(), 1..50)) {
            let mut budget = Budget::new(NOW);
            for at in jumps {
                let started = start_all(&mut budget, Timestamp::from_millis(u64::from(at)), EndpointHealth::Failing);
                prop_assert!(started <= FAILING_CALLS_MAX);
                (0..started).for_each(|_| budget.finish(EndpointHealth::Failing, false));
            }
        }
    }
}
