//! Rate limiter for one rate.

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use sealpost_relay_core::rates::{Rate, RateLimitStatus};
use std::{hash::Hash, num::NonZeroU32, time::Duration};

/// Account or network that is limited.
pub(super) trait Key: Hash + Eq + Clone {}

impl<K: Hash + Eq + Clone> Key for K {}

/// Rate limiter with a state for each key that was active recently; see
/// [`KeyedRateLimiter::remove_idle`].
pub(super) struct KeyedRateLimiter<K: Key> {
    rate: Rate,
    states: RateLimiter<K, DashMapStateStore<K>, MonotonicClock, StateInformationMiddleware>,
}

impl<K: Key> KeyedRateLimiter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        let burst = NonZeroU32::new(rate.quantity()).unwrap_or(NonZeroU32::MIN);
        // The period is never zero, so the fallback is never used.
        let quota = Quota::with_period(rate.period())
            .unwrap_or(Quota::per_second(burst))
            .allow_burst(burst);
        let states = RateLimiter::dashmap_with_clock(quota, MonotonicClock).with_middleware();
        Self { rate, states }
    }

    /// Charges `quantity` to a key. The error is the time after which the rate allows it again;
    /// then nothing was charged.
    pub(super) fn charge(&self, key: &K, quantity: u32) -> Result<RateLimitStatus, Duration> {
        let quantity = NonZeroU32::new(quantity).unwrap_or(NonZeroU32::MIN);
        let charged = match quantity {
            NonZeroU32::MIN => Ok(self.states.check_key(key)),
            more => self.states.check_key_n(key, more),
        };
        let wait = |not_until: NotUntil<_>| not_until.wait_time_from(MonotonicClock.now());
        match charged {
            Ok(Ok(snapshot)) => Ok(RateLimitStatus {
                rate: self.rate,
                remaining: snapshot.remaining_burst_capacity(),
            }),
            Ok(Err(not_until)) => Err(wait(not_until)),
            Err(_) => Err(self.rate.period().saturating_mul(quantity.get())),
        }
    }

    /// Returns the status of a key that has exhausted its rate.
    pub(super) fn exhausted_status(&self) -> RateLimitStatus {
        RateLimitStatus {
            rate: self.rate,
            remaining: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Removes the states of keys whose rate is fully available again.
    pub(super) fn remove_idle(&self) {
        self.states.retain_recent();
        self.states.shrink_to_fit();
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
    fn each_key_has_its_own_limit() {
        // Slow enough that no test machine waits for the next permit.
        let limiter = KeyedRateLimiter::new(
            Rates {
                address_requests_per_minute: 2,
                ..Rates::default()
            }
            .addresses()
            .unwrap(),
        );
        assert_eq!(limiter.charge(&1, 1).unwrap().remaining, 1);
        assert_eq!(limiter.charge(&1, 1).unwrap().remaining, 0);
        let wait = limiter.charge(&1, 1).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(30),
            "{wait:?}"
        );
        assert_eq!(
            limiter.charge(&2, 2).unwrap().remaining,
            0,
            "another key may use the whole burst at once"
        );
        assert!(limiter.charge(&3, 3).is_err(), "more than the burst");
    }

    #[test]
    fn idle_keys_are_removed() {
        let fast = KeyedRateLimiter::new(rate(1_000_000, 1));
        assert!((0..1_000).all(|key| fast.charge(&key, 1).is_ok()));
        while fast.len() > 0 {
            fast.remove_idle();
        }
        let slow = KeyedRateLimiter::new(rate(1, 1_000));
        assert!((0..1_000).all(|key| slow.charge(&key, 1_000).is_ok()));
        slow.remove_idle();
        assert_eq!(slow.len(), 1_000, "exhausted keys are not removed");
    }
}
