//! What happened in the last hour, minute by minute, for the operator's page. It lives in memory and begins anew with the
//! relay.

use crate::admin::model::Throughput;
use sealpost_proto::{Timestamp, limits::THROUGHPUT_MINUTES};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MINUTE_MILLIS: u64 = 60_000;

/// A ring of minutes.
#[derive(Debug)]
pub(crate) struct Minutes(Mutex<[Minute; THROUGHPUT_MINUTES]>);

#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    /// Minutes since 1970.
    number: u64,
    counts: Throughput,
}

impl Default for Minutes {
    fn default() -> Self {
        Self(Mutex::new([Minute::default(); THROUGHPUT_MINUTES]))
    }
}

impl Minutes {
    /// Adds to the minute that is under way.
    pub(crate) fn add(&self, now: Timestamp, counts: Throughput) {
        let number = now.as_millis() / MINUTE_MILLIS;
        let minute = &mut self.lock()[place(number)];
        if minute.number != number {
            *minute = Minute {
                number,
                counts: Throughput::default(),
            };
        }
        minute.counts += counts;
    }

    /// The last hour, the minute under way last.
    pub(crate) fn last_hour(&self, now: Timestamp) -> Vec<Throughput> {
        let last = now.as_millis() / MINUTE_MILLIS;
        let ring = self.lock();
        let first = (last + 1).saturating_sub(THROUGHPUT_MINUTES as u64);
        (first..=last)
            .map(|number| {
                let minute = ring[place(number)];
                if minute.number == number {
                    minute.counts
                } else {
                    Throughput::default()
                }
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, [Minute; THROUGHPUT_MINUTES]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % THROUGHPUT_MINUTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn accepted(accepted: u64) -> Throughput {
        Throughput {
            accepted,
            ..Throughput::default()
        }
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let minutes = Minutes::default();
        minutes.add(NOON, accepted(1));
        minutes.add(NOON, accepted(2));
        minutes.add(NOON.plus(MINUTE), accepted(5));
        let hour = minutes.last_hour(NOON.plus(MINUTE));
        assert_eq!(
            (hour.len(), hour[58], hour[59]),
            (60, accepted(3), accepted(5))
        );
        let later = minutes.last_hour(NOON.plus(MINUTE * 60));
        assert_eq!(
            (later[0], later.iter().copied().sum::<Throughput>()),
            (accepted(5), accepted(5))
        );
        minutes.add(NOON.plus(MINUTE * 60), accepted(7));
        assert_eq!(
            minutes.last_hour(NOON.plus(MINUTE * 120)),
            vec![Throughput::default(); 60]
        );
    }
}
