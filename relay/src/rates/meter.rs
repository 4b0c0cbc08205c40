use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use sealpost_relay_core::rates::{Rate, Standing};
use std::{hash::Hash, num::NonZeroU32, time::Duration};

/// Who is counted.
pub(super) trait Key: Hash + Eq + Clone {}

impl<K: Hash + Eq + Clone> Key for K {}

/// Counts for one rate. It keeps a count for whoever asked lately; see [`Meter::forget`].
pub(super) struct Meter<K: Key> {
    rate: Rate,
    counts: RateLimiter<K, DashMapStateStore<K>, MonotonicClock, StateInformationMiddleware>,
}

impl<K: Key> Meter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        let burst = NonZeroU32::new(rate.quantity()).unwrap_or(NonZeroU32::MIN);
        // The period is never zero, so the other quota is never taken.
        let quota = Quota::with_period(rate.period())
            .unwrap_or(Quota::per_second(burst))
            .allow_burst(burst);
        let counts = RateLimiter::dashmap_with_clock(quota, MonotonicClock).with_middleware();
        Self { rate, counts }
    }

    /// Takes so much of the rate; otherwise the time after which there is enough again.
    pub(super) fn take(&self, key: &K, quantity: u32) -> Result<Standing, Duration> {
        let quantity = NonZeroU32::new(quantity).unwrap_or(NonZeroU32::MIN);
        let taken = match quantity {
            NonZeroU32::MIN => Ok(self.counts.check_key(key)),
            more => self.counts.check_key_n(key, more),
        };
        let wait = |not_until: NotUntil<_>| not_until.wait_time_from(MonotonicClock.now());
        match taken {
            Ok(Ok(snapshot)) => Ok(Standing {
                rate: self.rate,
                remaining: snapshot.remaining_burst_capacity(),
            }),
            Ok(Err(not_until)) => Err(wait(not_until)),
            Err(_) => Err(self.rate.period().saturating_mul(quantity.get())),
        }
    }

    /// Where somebody stands who was refused.
    pub(super) fn nothing_left(&self) -> Standing {
        Standing {
            rate: self.rate,
            remaining: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Forgets whose count is as if they had never asked.
    pub(super) fn forget(&self) {
        self.counts.retain_recent();
        self.counts.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_relay_core::rates::Rates;

    fn rate(per_second: u32, burst: u32) -> Rate {
        let rates = Rates {
            requests_per_second: per_second,
            requests_burst: burst,
            ..Rates::default()
        };
        rates.requests().unwrap()
    }

    #[test]
    fn each_has_its_own_count_and_hears_how_long_to_wait() {
        // Slow enough that no machine waits for the next one.
        let meter = Meter::new(
            Rates {
                address_requests_per_minute: 2,
                ..Rates::default()
            }
            .addresses()
            .unwrap(),
        );
        assert_eq!(meter.take(&1, 1).unwrap().remaining, 1);
        assert_eq!(meter.take(&1, 1).unwrap().remaining, 0);
        let wait = meter.take(&1, 1).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(30),
            "{wait:?}"
        );
        assert_eq!(
            meter.take(&2, 2).unwrap().remaining,
            0,
            "another has its own, and may take all at once"
        );
        assert!(meter.take(&3, 3).is_err(), "more than there ever is");
    }

    #[test]
    fn who_does_not_ask_any_more_is_forgotten() {
        let quick = Meter::new(rate(1_000_000, 1));
        assert!((0..1_000).all(|key| quick.take(&key, 1).is_ok()));
        while quick.len() > 0 {
            quick.forget();
        }
        let slow = Meter::new(rate(1, 1_000));
        assert!((0..1_000).all(|key| slow.take(&key, 1_000).is_ok()));
        slow.forget();
        assert_eq!(slow.len(), 1_000, "whoever has to wait is not");
    }
}
