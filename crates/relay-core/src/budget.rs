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
        DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_OF_CALL_BYTES, DELIVERY_MEMORY_SHARED_BYTES,
        FAILING_CALLS_MAX, FAILING_CALLS_PER_SECOND, WEBHOOK_CALLS_MAX, WEBHOOK_TIMEOUT,
        WEBHOOK_TIMEOUT_CROWDED,
    },
};
use std::time::Duration;

/// How the last call of a lane's webhook went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was answered, or there was none yet.
    Living,
    /// It failed: the next one is a try.
    Failing,
}

impl Standing {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Living, Self::Failing];
}

/// What the call of a living lane may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Bytes of envelopes, unless the first alone is larger.
    pub bytes: usize,
    /// Time.
    pub time: Duration,
}

/// Of what is free of the shared memory one call takes this part.
const PART: usize = 4;

/// What a call may take that begins while so many bytes of the shared memory are free.
#[must_use]
pub const fn portion(free_bytes: usize) -> Portion {
    let bytes = DELIVERY_MEMORY_OF_CALL_BYTES + free_bytes / PART;
    let crowded = free_bytes < DELIVERY_MEMORY_SHARED_BYTES / 2;
    Portion {
        bytes: if bytes < DELIVERY_BATCH_BYTES_MAX {
            bytes
        } else {
            DELIVERY_BATCH_BYTES_MAX
        },
        time: if crowded {
            WEBHOOK_TIMEOUT_CROWDED
        } else {
            WEBHOOK_TIMEOUT
        },
    }
}

/// What may be called, and what is under way.
#[derive(Debug)]
pub struct Budget {
    living: usize,
    failing: usize,
    /// Thousandths of tries that may begin.
    credit: u64,
    /// When the credit was counted last.
    counted_at: Timestamp,
}

/// A try, in the unit of the credit.
const TRY: u64 = 1_000;
const CREDIT_MAX: u64 = FAILING_CALLS_MAX as u64 * TRY;

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            living: 0,
            failing: 0,
            credit: CREDIT_MAX,
            counted_at: now,
        }
    }

    /// How many calls of such lanes may begin now.
    #[must_use]
    pub fn room(&mut self, now: Timestamp, standing: Standing) -> usize {
        self.count_credit(now);
        match standing {
            Standing::Living => WEBHOOK_CALLS_MAX.saturating_sub(self.living),
            Standing::Failing => {
                let tries = usize::try_from(self.credit / TRY).unwrap_or(usize::MAX);
                FAILING_CALLS_MAX.saturating_sub(self.failing).min(tries)
            }
        }
    }

    /// A call begins where there is room; gives the time that it may take.
    pub fn begin(&mut self, now: Timestamp, standing: Standing) -> Option<Duration> {
        if self.room(now, standing) == 0 {
            return None;
        }
        let (under_way, most) = match standing {
            Standing::Living => (&mut self.living, WEBHOOK_CALLS_MAX),
            Standing::Failing => {
                self.credit -= TRY;
                (&mut self.failing, FAILING_CALLS_MAX)
            }
        };
        *under_way += 1;
        Some(if *under_way > most / 2 {
            WEBHOOK_TIMEOUT_CROWDED
        } else {
            WEBHOOK_TIMEOUT
        })
    }

    /// A call ended. A try that passed costs nothing: when everybody is back nobody waits for the rate.
    pub fn end(&mut self, standing: Standing, passed: bool) {
        match standing {
            Standing::Living => self.living = self.living.saturating_sub(1),
            Standing::Failing => {
                self.failing = self.failing.saturating_sub(1);
                if passed {
                    self.credit = (self.credit + TRY).min(CREDIT_MAX);
                }
            }
        }
    }

    /// The credit grows with the time; a clock that was put back adds nothing.
    fn count_credit(&mut self, now: Timestamp) {
        let elapsed_ms = now.as_millis().saturating_sub(self.counted_at.as_millis());
        let grown = elapsed_ms.saturating_mul(FAILING_CALLS_PER_SECOND * TRY / 1_000);
        self.credit = self.credit.saturating_add(grown).min(CREDIT_MAX);
        self.counted_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn begin_all(budget: &mut Budget, now: Timestamp, standing: Standing) -> usize {
        std::iter::from_fn(|| budget.begin(now, standing))
            .take(100_000)
            .count()
    }

    #[test]
    fn the_dead_take_no_place_of_the_living() {
        let mut budget = Budget::new(NOW);
        assert_eq!(
            begin_all(&mut budget, NOW, Standing::Failing),
            FAILING_CALLS_MAX
        );
        assert_eq!(
            begin_all(&mut budget, NOW, Standing::Living),
            WEBHOOK_CALLS_MAX
        );
        assert_eq!(budget.begin(NOW, Standing::Living), None);
        budget.end(Standing::Living, false);
        assert!(budget.begin(NOW, Standing::Living).is_some());
    }

    #[test]
    fn whoever_refuses_at_once_is_tried_at_a_bounded_rate() {
        let mut budget = Budget::new(NOW);
        let mut tried = 0;
        for second in 0..60 {
            let now = NOW.plus(Duration::from_secs(second));
            while budget.begin(now, Standing::Failing).is_some() {
                tried += 1;
                budget.end(Standing::Failing, false);
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
            assert!(budget.begin(NOW, Standing::Failing).is_some());
            budget.end(Standing::Failing, true);
        }
    }

    #[test]
    fn in_a_crowd_a_call_gets_little_time() {
        for (standing, most) in [
            (Standing::Living, WEBHOOK_CALLS_MAX),
            (Standing::Failing, FAILING_CALLS_MAX),
        ] {
            let mut budget = Budget::new(NOW);
            for number in 1..=most {
                let time = if number > most / 2 {
                    WEBHOOK_TIMEOUT_CROWDED
                } else {
                    WEBHOOK_TIMEOUT
                };
                assert_eq!(budget.begin(NOW, standing), Some(time));
            }
        }
    }

    #[test]
    fn however_many_hang_there_is_memory_for_the_next_call() {
        let mut free = DELIVERY_MEMORY_SHARED_BYTES;
        assert_eq!(
            portion(free),
            Portion {
                bytes: DELIVERY_BATCH_BYTES_MAX,
                time: WEBHOOK_TIMEOUT
            }
        );
        for hanging in 1..=WEBHOOK_CALLS_MAX {
            let Portion { bytes, time } = portion(free);
            assert!(bytes >= DELIVERY_MEMORY_OF_CALL_BYTES);
            free -= bytes - DELIVERY_MEMORY_OF_CALL_BYTES;
            assert!(
                hanging < 4 || time == WEBHOOK_TIMEOUT_CROWDED,
                "the first few have shown that it is crowded"
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
                let began = begin_all(&mut budget, Timestamp::from_millis(u64::from(at)), Standing::Failing);
                prop_assert!(began <= FAILING_CALLS_MAX);
                (0..began).for_each(|_| budget.end(Standing::Failing, false));
            }
        }
    }
}
