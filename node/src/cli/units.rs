//! Times, sizes and durations in CLI arguments and output.

use crate::api::iso::Iso;
use sealpost_proto::Timestamp;
use sealpost_service::units::format_duration;
pub use sealpost_service::units::{
    format_count, format_size, format_unequal, parse_duration, shell_quote,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const TWO_MONTHS: Duration = Duration::from_secs(60 * 86_400);

/// Formats a time as `2 min ago` or `in 5 s`, or as a date when it is more than two months away.
#[must_use]
pub fn format_relative(at: Iso, now: Timestamp) -> String {
    let Iso(at_time) = at;
    let (past, distance) = (at_time <= now, at_time.since(now).max(now.since(at_time)));
    match past {
        true if distance < SECOND => "just now".to_owned(),
        _ if distance >= TWO_MONTHS => at.format("%Y-%m-%d"),
        true => format!("{} ago", format_duration(distance)),
        false => format!("in {}", format_duration(distance)),
    }
}

/// Formats a time as `2026-11-20 14:05:01 UTC`.
#[must_use]
pub fn format_timestamp(at: Iso) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC")
}

/// Formats the time of day as `14:05:01`, in UTC.
#[must_use]
pub fn format_clock(at: Iso) -> String {
    at.format("%H:%M:%S")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_times_are_relative() {
        let (minute, day) = (SECOND * 60, SECOND * 86_400);
        let now = Timestamp::default().plus(day * 100);
        for (offset, text) in [
            (Duration::ZERO, "just now"),
            (Duration::from_millis(1_500), "2 s ago"),
            (minute * 2, "2 min ago"),
            (minute * 180, "3 h ago"),
            (day * 5, "5 d ago"),
            (day * 90, "1970-01-11"),
        ] {
            assert_eq!(format_relative(Iso(now.minus(offset)), now), text);
        }
        assert_eq!(format_relative(Iso(now.plus(SECOND * 5)), now), "in 5 s");
    }

    #[test]
    fn timestamp_names_its_time_zone() {
        assert_eq!(
            format_timestamp(Iso(Timestamp::from_millis(1_795_183_500_007))),
            "2026-11-20 14:05:00 UTC"
        );
    }
}
