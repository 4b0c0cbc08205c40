//! Times, sizes and lengths of time as people read and write them.

use crate::api::iso::Iso;
use sealpost_proto::Timestamp;
use sealpost_service::units::length;
pub use sealpost_service::units::{count, parse_life, quoted, size};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const TWO_MONTHS: Duration = Duration::from_secs(60 * 86_400);

/// A point in time as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// That long from now.
    In(Duration),
    /// Then.
    At(Iso),
}

impl When {
    /// The point in time.
    #[must_use]
    pub const fn resolve(self, now: Timestamp) -> Iso {
        match self {
            Self::In(life) => Iso(now.plus(life)),
            Self::At(at) => at,
        }
    }
}

/// Reads a length of time from now, or a time in ISO 8601.
///
/// # Errors
/// What is expected, in words.
pub fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(life) = parse_life(text) {
        return Ok(When::In(life));
    }
    text.parse()
        .map(When::At)
        .map_err(|_| "not a time like 2h, 3d or 2026-11-20T14:00:00Z".to_owned())
}

/// `2 min ago`, `in 5 s`, or the day when it is far.
#[must_use]
pub fn relative(at: Iso, now: Timestamp) -> String {
    let Iso(at_time) = at;
    let (past, distance) = (at_time <= now, at_time.since(now).max(now.since(at_time)));
    match past {
        true if distance < SECOND => "just now".to_owned(),
        _ if distance >= TWO_MONTHS => day(at),
        true => format!("{} ago", length(distance)),
        false => format!("in {}", length(distance)),
    }
}

/// `2026-11-20 14:05:01 UTC`
#[must_use]
pub fn moment(at: Iso) -> String {
    format!("{} {} UTC", day(at), clock(at))
}

/// `14:05:01`
#[must_use]
pub fn clock(at: Iso) -> String {
    at.to_string().get(11..19).unwrap_or_default().to_owned()
}

fn day(at: Iso) -> String {
    at.to_string().get(..10).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative() {
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
            assert_eq!(relative(Iso(now.minus(offset)), now), text);
        }
        assert_eq!(relative(Iso(now.plus(SECOND * 5)), now), "in 5 s");
    }

    #[test]
    fn a_moment_says_its_zone() {
        assert_eq!(
            moment(Iso(Timestamp::from_millis(1_795_183_500_007))),
            "2026-11-20 14:05:00 UTC"
        );
    }
}
