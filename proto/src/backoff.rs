//! The delays between attempts: 5 s doubling to 1 h, each drawn between half and the whole of it.

use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX};
use std::time::Duration;

/// The whole delay after the `failures`th failure in a row, counted from 1: [`BACKOFF_FIRST`] doubling to
/// [`BACKOFF_MAX`].
#[must_use]
pub fn whole(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    BACKOFF_FIRST
        .saturating_mul(1 << doublings)
        .min(BACKOFF_MAX)
}

/// The delay after the `failures`th failure in a row, drawn between half and the whole of [`whole`]. `random` is
/// uniform over all of `u64`.
#[must_use]
pub fn delay(failures: u32, random: u64) -> Duration {
    let half = whole(failures) / 2;
    let nanos = half.as_nanos().saturating_mul(u128::from(random)) / u128::from(u64::MAX);
    half + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_from_five_seconds_to_an_hour() {
        let seconds: Vec<u64> = (1..=12).map(|failures| whole(failures).as_secs()).collect();
        assert_eq!(
            seconds,
            [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]
        );
        assert_eq!(whole(u32::MAX), BACKOFF_MAX);
        assert_eq!(whole(0), BACKOFF_FIRST);
    }

    #[test]
    fn a_delay_lies_between_half_and_the_whole() {
        for failures in 1..100 {
            for random in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                let drawn = delay(failures, random);
                assert!(drawn >= whole(failures) / 2 && drawn <= whole(failures));
            }
        }
    }

    #[test]
    fn the_ends_of_the_draw_are_half_and_whole() {
        assert_eq!(delay(1, 0), BACKOFF_FIRST / 2);
        assert_eq!(delay(1, u64::MAX), BACKOFF_FIRST);
    }
}
