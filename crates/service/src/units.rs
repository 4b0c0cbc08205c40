//! Lengths of time, sizes and numbers as people read and write them on a command line.

use sealpost_proto::time::millis;
use std::time::Duration;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Reads `90s`, `30m`, `12h`, `7d` or `2w`.
///
/// # Errors
/// What is expected, in words.
pub fn parse_life(text: &str) -> Result<Duration, String> {
    let expected = || "not a length of time like 30m, 12h or 7d".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let unit = match &text[digits.len()..] {
        "s" => SECOND,
        "m" | "min" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return Err(expected()),
    };
    number
        .checked_mul(unit)
        .filter(|&millis| millis > 0)
        .map(Duration::from_millis)
        .ok_or_else(expected)
}

/// `5 s`, `2 min`, `3 h`, `7 d`
#[must_use]
pub fn length(duration: Duration) -> String {
    let millis = millis(duration);
    match millis {
        ..MINUTE => format!("{} s", millis.div_ceil(SECOND)),
        MINUTE..HOUR => format!("{} min", millis / MINUTE),
        HOUR..DAY => format!("{} h", millis / HOUR),
        _ => format!("{} d", millis / DAY),
    }
}

/// `512 B`, `1.5 kB`, `20.0 MB`, in steps of 1,000 as the limits are.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => tenths(bytes, 1_000, "kB"),
        1_000_000..1_000_000_000 => tenths(bytes, 1_000_000, "MB"),
        _ => tenths(bytes, 1_000_000_000, "GB"),
    }
}

fn tenths(bytes: u64, unit: u64, name: &str) -> String {
    format!("{}.{} {name}", bytes / unit, bytes % unit / (unit / 10))
}

/// `1 file`, `3 files`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// A word as a shell reads it.
#[must_use]
pub fn quoted(word: &str) -> String {
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
    fn lives_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("12h", 43_200),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(parse_life(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "7",
            "d",
            "-1d",
            "0s",
            "1.5h",
            "7 days",
            "99999999999999999w",
            "7é",
        ] {
            assert!(parse_life(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_are_short() {
        for (millis, text) in [
            (1_500, "2 s"),
            (2 * MINUTE + 3, "2 min"),
            (3 * HOUR, "3 h"),
            (5 * DAY, "5 d"),
        ] {
            assert_eq!(length(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn sizes_are_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (20_000_000, "20.0 MB"),
            (1_234_567_890, "1.2 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(
            (count(1, "file"), count(2, "file")),
            ("1 file".into(), "2 files".into())
        );
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, text) in [
            ("/srv/a-b", "/srv/a-b"),
            ("Bolt Works", "'Bolt Works'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), text);
        }
    }
}
