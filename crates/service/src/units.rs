//! Durations, sizes and numbers as people read and write them on a command line.

use sealpost_proto::time::millis;
use std::time::Duration;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Parses a duration that is not zero, such as `90s`, `30m`, `12h`, `7d`, `2w` or `1h 30m`.
///
/// # Errors
/// A message that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok();
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "not a duration such as 30m, 12h or 7d".to_owned())
}

/// Formats a duration in its largest unit: `5 s`, `2 min`, `3 h`, `7 d`. Rounds seconds up and
/// the other units down.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = millis(duration);
    match millis {
        ..MINUTE => format!("{} s", millis.div_ceil(SECOND)),
        MINUTE..HOUR => format!("{} min", millis / MINUTE),
        HOUR..DAY => format!("{} h", millis / HOUR),
        _ => format!("{} d", millis / DAY),
    }
}

/// Formats a duration in all its units, as [`parse_duration`] reads it: `7 days`, `1 h 30 m`.
#[must_use]
pub fn format_exact_duration(duration: Duration) -> String {
    let mut text = String::new();
    for c in humantime::format_duration(duration).to_string().chars() {
        if c.is_ascii_alphabetic() && text.ends_with(|c: char| c.is_ascii_digit()) {
            text.push(' ');
        }
        text.push(c);
    }
    text
}

/// Formats a size with decimal units, as the limits have: `512 B`, `1.5 kB`, `20.0 MB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format_tenths(bytes, 1_000, "kB"),
        1_000_000..1_000_000_000 => format_tenths(bytes, 1_000_000, "MB"),
        _ => format_tenths(bytes, 1_000_000_000, "GB"),
    }
}

/// Formats two sizes of which one exceeds the other: as [`format_size`], or in bytes if they would
/// be rounded to the same figure.
#[must_use]
pub fn format_unequal(one: u64, other: u64) -> (String, String) {
    let rounded = (format_size(one), format_size(other));
    if rounded.0 == rounded.1 {
        (format!("{one} bytes"), format!("{other} bytes"))
    } else {
        rounded
    }
}

fn format_tenths(bytes: u64, unit: u64, name: &str) -> String {
    format!("{}.{} {name}", bytes / unit, bytes % unit / (unit / 10))
}

/// Formats a number with its noun: `1 file`, `3 files`.
#[must_use]
pub fn format_count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Quotes a word for a shell, if necessary.
#[must_use]
pub fn shell_quote(word: &str) -> String {
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | ':' | '@');
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unequal_sizes_have_unequal_figures() {
        let pair = |one, other| {
            let (one, other) = format_unequal(one, other);
            format!("{one} / {other}")
        };
        assert_eq!(
            pair(100_000_001, 100_000_000),
            "100000001 bytes / 100000000 bytes"
        );
        assert_eq!(pair(120_000_000, 100_000_000), "120.0 MB / 100.0 MB");
        assert_eq!(pair(1_000_000_000, 999_999_999), "1.0 GB / 999.9 MB");
    }

    #[test]
    fn durations_are_parsed() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("12h", 43_200),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for bad in ["", "7", "d", "-1d", "0s", "99999999999999999w", "7é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_formatted_in_one_unit() {
        for (millis, text) in [
            (1_500, "2 s"),
            (2 * MINUTE + 3, "2 min"),
            (3 * HOUR, "3 h"),
            (5 * DAY, "5 d"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn sizes_are_formatted_in_decimal_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (20_000_000, "20.0 MB"),
            (1_234_567_890, "1.2 GB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(
            (format_count(1, "file"), format_count(2, "file")),
            ("1 file".into(), "2 files".into())
        );
    }

    #[test]
    fn shell_words_are_quoted() {
        for (word, text) in [
            ("/srv/a-b", "/srv/a-b"),
            ("Bolt Works", "'Bolt Works'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_quote(word), text);
        }
    }
}
