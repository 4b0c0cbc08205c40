//! Meter of one rate.

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use sealpost_relay_core::rates::{Rate, RateLimitStatus};
use std::{hash::Hash, num::NonZeroU32, time::Duration};

/// Account or network that is counted.
pub(super) trait Key: Hash + Eq + Clone {}

impl<K: Hash + Eq + Clone> Key for K {}

/// Counts for one rate and each recently active key; see [`Meter::remove_idle`].
pub(super) struct Meter<K: Key> {
    rate: Rate,
    counts: RateLimiter<K, DashMapStateStore<K>, MonotonicClock, StateInformationMiddleware>,
}

impl<K: Key> Meter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        let burst = NonZeroU32::new(rate.quantity()).unwrap_or(NonZeroU32::MIN);
        // The period is never zero, so the fallback is never used.
        let quota = Quota::with_period(rate.period())
            .unwrap_or(Quota::per_second(burst))
            .allow_burst(burst);
        let counts = RateLimiter::dashmap_with_clock(quota, MonotonicClock).with_middleware();
        Self { rate, counts }
    }

    /// Counts `quantity`. The error is the time after which enough of the rate is available again.
    pub(super) fn count(&self, key: &K, quantity: u32) -> Result<RateLimitStatus, Duration> {
        let quantity = NonZeroU32::new(quantity).unwrap_or(NonZeroU32::MIN);
        let counted = match quantity {
            NonZeroU32::MIN => Ok(self.counts.check_key(key)),
            more => self.counts.check_key_n(key, more),
        };
        let wait = |not_until: NotUntil<_>| not_until.wait_time_from(MonotonicClock.now());
        match counted {
            Ok(Ok(snapshot)) => Ok(RateLimitStatus {
                rate: self.rate,
                remaining: snapshot.remaining_burst_capacity(),
            }),
            Ok(Err(not_until)) => Err(wait(not_until)),
            Err(_) => Err(self.rate.period().saturating_mul(quantity.get())),
        }
    }

    /// Returns the status of a refused key.
    pub(super) fn exhausted(&self) -> RateLimitStatus {
        RateLimitStatus {
            rate: self.rate,
            remaining: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Removes the counts of keys whose rate is fully available again.
    pub(super) fn remove_idle(&self) {
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
    fn keys_are_counted_separately() {
        // Slow enough that no test machine waits for the next permit.
        let meter = Meter::new(
            Rates {
                address_requests_per_minute: 2,
                ..Rates::default()
            }
            .addresses()
            .unwrap(),
        );
        assert_eq!(meter.count(&1, 1).unwrap().remaining, 1);
        assert_eq!(meter.count(&1, 1).unwrap().remaining, 0);
        let wait = meter.count(&1, 1).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(30),
            "{wait:?}"
        );
        assert_eq!(
            meter.count(&2, 2).unwrap().remaining,
            0,
            "another key may use the whole burst at once"
        );
        assert!(meter.count(&3, 3).is_err(), "more than the burst");
    }

    #[test]
    fn idle_keys_are_removed() {
        let fast = Meter::new(rate(1_000_000, 1));
        assert!((0..1_000).all(|key| fast.count(&key, 1).is_ok()));
        while fast.len() > 0 {
            fast.remove_idle();
        }
        let slow = Meter::new(rate(1, 1_000));
        assert!((0..1_000).all(|key| slow.count(&key, 1_000).is_ok()));
        slow.remove_idle();
        assert_eq!(slow.len(), 1_000, "exhausted keys are not removed");
    }
}
