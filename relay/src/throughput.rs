//! Activity of the last hour by the minute, for the operator's status page. It is held in memory
//! and starts at zero with the process.

use sealpost_proto::{Timestamp, limits::THROUGHPUT_HISTORY_MINUTES};
use std::{
    iter::Sum,
    ops::AddAssign,
    sync::{Mutex, MutexGuard, PoisonError},
};

const MINUTE_MILLIS: u64 = 60_000;

/// Activity within one minute or one hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ThroughputCounts {
    /// Accepted envelopes.
    pub(crate) accepted: u64,
    /// Envelopes that the nodes of their recipients stored.
    pub(crate) delivered: u64,
    /// Webhook calls that failed.
    pub(crate) failed_calls: u64,
    /// Submitted envelopes that were refused.
    pub(crate) refused: u64,
}

impl AddAssign for ThroughputCounts {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.failed_calls += other.failed_calls;
        self.refused += other.refused;
    }
}

impl Sum for ThroughputCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, next| {
            sum += next;
            sum
        })
    }
}

/// Ring buffer of the last hour.
#[derive(Debug)]
pub(crate) struct Throughput(Mutex<[Minute; THROUGHPUT_HISTORY_MINUTES]>);

#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    /// Minutes since 1970.
    number: u64,
    counts: ThroughputCounts,
}

impl Default for Throughput {
    fn default() -> Self {
        Self(Mutex::new([Minute::default(); THROUGHPUT_HISTORY_MINUTES]))
    }
}

impl Throughput {
    /// Adds to the current minute.
    pub(crate) fn add(&self, now: Timestamp, counts: ThroughputCounts) {
        let number = now.as_millis() / MINUTE_MILLIS;
        let minute = &mut self.lock()[ring_index(number)];
        if minute.number != number {
            *minute = Minute {
                number,
                counts: ThroughputCounts::default(),
            };
        }
        minute.counts += counts;
    }

    /// Returns the counts of the last hour by the minute, with the current minute last.
    pub(crate) fn last_hour(&self, now: Timestamp) -> Vec<ThroughputCounts> {
        let last = now.as_millis() / MINUTE_MILLIS;
        let ring = self.lock();
        let first = (last + 1).saturating_sub(THROUGHPUT_HISTORY_MINUTES as u64);
        (first..=last)
            .map(|number| {
                let minute = ring[ring_index(number)];
                if minute.number == number {
                    minute.counts
                } else {
                    ThroughputCounts::default()
                }
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, [Minute; THROUGHPUT_HISTORY_MINUTES]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ring_index(minute: u64) -> usize {
    usize::try_from(minute % THROUGHPUT_HISTORY_MINUTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn accepted(accepted: u64) -> ThroughputCounts {
        ThroughputCounts {
            accepted,
            ..ThroughputCounts::default()
        }
    }

    #[test]
    fn one_hour_is_retained() {
        let throughput = Throughput::default();
        throughput.add(NOON, accepted(1));
        throughput.add(NOON, accepted(2));
        throughput.add(NOON.plus(MINUTE), accepted(5));
        let hour = throughput.last_hour(NOON.plus(MINUTE));
        assert_eq!(
            (hour.len(), hour[58], hour[59]),
            (60, accepted(3), accepted(5))
        );
        let later = throughput.last_hour(NOON.plus(MINUTE * 60));
        assert_eq!(
            (later[0], later.iter().copied().sum::<ThroughputCounts>()),
            (accepted(5), accepted(5))
        );
        throughput.add(NOON.plus(MINUTE * 60), accepted(7));
        assert_eq!(
            throughput.last_hour(NOON.plus(MINUTE * 120)),
            vec![ThroughputCounts::default(); 60]
        );
    }
}
