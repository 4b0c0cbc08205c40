//! Times in UTC for people, files and names of files.

use jiff::fmt::strtime;
use sealpost_proto::Timestamp;

/// Formats a time for people: `2026-11-20 14:05 UTC`.
pub(crate) fn format_minute(at: Timestamp) -> String {
    format(at, "%Y-%m-%d %H:%M UTC")
}

/// Formats a time for the name of a file, so that names sort by time: `20261120T140500Z`.
pub(crate) fn format_compact(at: Timestamp) -> String {
    format(at, "%Y%m%dT%H%M%SZ")
}

/// Parses the output of [`format_compact`].
pub(crate) fn parse_compact(text: &str) -> Option<Timestamp> {
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    let millis = u64::try_from(at.as_millisecond()).ok()?;
    let parsed = Timestamp::from_millis(millis);
    (format_compact(parsed) == text).then_some(parsed)
}

fn format(at: Timestamp, format: &str) -> String {
    let at = i64::try_from(at.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .unwrap_or(jiff::Timestamp::MAX);
    strtime::format(format, at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_times_are_parsed() {
        let at = Timestamp::from_millis(1_795_183_500_000);
        assert_eq!(format_minute(at), "2026-11-20 14:05 UTC");
        assert_eq!(format_compact(at), "20261120T140500Z");
        assert_eq!(parse_compact("20261120T140500Z"), Some(at));
        for other in [
            "",
            "20261120T140500",
            "2026-11-20T14:05:00Z",
            "20261320T140500Z",
        ] {
            assert_eq!(parse_compact(other), None, "{other}");
        }
    }
}
