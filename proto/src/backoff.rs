//! Exponential backoff between attempts: 5 s doubling to 1 h, with random jitter.

use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX};
use std::time::Duration;

/// Returns the longest delay after `failures` consecutive failures: [`BACKOFF_FIRST`], doubling up
/// to [`BACKOFF_MAX`].
#[must_use]
pub fn delay_max(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    BACKOFF_FIRST
        .saturating_mul(1 << doublings)
        .min(BACKOFF_MAX)
}

/// Returns the delay after `failures` consecutive failures, between half of [`delay_max`] and all
/// of it. `random` is uniform over `u64`.
#[must_use]
pub fn delay(failures: u32, random: u64) -> Duration {
    let half = delay_max(failures) / 2;
    let nanos = half.as_nanos().saturating_mul(u128::from(random)) / u128::from(u64::MAX);
    half + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_from_five_seconds_to_an_hour() {
        let seconds: Vec<u64> = (1..=12)
            .map(|failures| delay_max(failures).as_secs())
            .collect();
        assert_eq!(
            seconds,
            [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]
        );
        assert_eq!(delay_max(u32::MAX), BACKOFF_MAX);
        assert_eq!(delay_max(0), BACKOFF_FIRST);
    }

    #[test]
    fn delay_has_bounded_jitter() {
        for failures in 1..100 {
            for random in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                let delay = delay(failures, random);
                assert!(delay >= delay_max(failures) / 2 && delay <= delay_max(failures));
            }
        }
    }

    #[test]
    fn extreme_random_numbers_give_the_bounds() {
        assert_eq!(delay(1, 0), BACKOFF_FIRST / 2);
        assert_eq!(delay(1, u64::MAX), BACKOFF_FIRST);
    }
}
