use crate::units;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// Names and factors of the units of a [`ByteSize`], largest first.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// A number of bytes, written with its unit: `64 KiB`, `20 MB` or `512 B`. A number without a unit
/// counts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// Error for text that is not a [`ByteSize`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size; write for example 64 KiB, 20 MB or 512 B")]
pub struct ParseByteSizeError {
    text: String,
}

impl ByteSize {
    /// Wraps a number of bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[digits.len()..];
        let factor = match unit {
            "" => 1,
            _ => {
                let is_unit = |name: &str| name.eq_ignore_ascii_case(unit);
                SIZE_UNITS.iter().find(|(name, _)| is_unit(name))?.1
            }
        };
        let number: u64 = digits.trim_end().parse().ok()?;
        number.checked_mul(factor).map(Self)
    }
}

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;
    fn from_str(text: &str) -> Result<Self, ParseByteSizeError> {
        Self::parse(text).ok_or_else(|| ParseByteSizeError {
            text: text.to_owned(),
        })
    }
}

/// Prints the exact number with the largest unit that divides it.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |factor: u64| self.0 > 0 && self.0.is_multiple_of(factor);
        let unit = SIZE_UNITS.iter().find(|(_, factor)| divides(*factor));
        let (name, factor) = unit.copied().unwrap_or(("B", 1));
        write!(f, "{} {name}", self.0 / factor)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 KiB\", \"20 MB\" or \"512 B\"")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                let bytes = u64::try_from(bytes);
                bytes
                    .map(ByteSize)
                    .map_err(|_| E::custom("a size is not negative; write for example 64 KiB"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A duration, written with its units: `30 s`, `12 h`, `7 days` or `1 h 30 m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(Duration);

/// Error for text that is not a [`HumanDuration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write for example 30 s, 12 h or 7 days")]
pub struct ParseDurationError {
    text: String,
}

impl HumanDuration {
    /// Wraps a duration.
    #[must_use]
    pub const fn from_duration(duration: Duration) -> Self {
        Self(duration)
    }

    /// Returns the duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = ParseDurationError;
    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        let duration = humantime::parse_duration(text);
        duration.map(Self).map_err(|_| ParseDurationError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&units::format_exact_duration(self.0))
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"30 s\", \"12 h\" or \"7 days\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units_are_parsed() {
        for (text, bytes) in [
            ("64 KiB", 65_536),
            ("64kib", 65_536),
            ("20 MB", 20_000_000),
            (" 4 GiB ", 1 << 32),
            ("512 B", 512),
            ("7", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in [
            "",
            "MB",
            "-1 MB",
            "1.5 MB",
            "1 XB",
            "1 MB MB",
            "99999999 TiB",
            "7é",
        ] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn printed_sizes_are_exact() {
        for (bytes, text) in [
            (0, "0 B"),
            (65_536, "64 KiB"),
            (20_000_000_000, "20 GB"),
            (100_687_920, "100687920 B"),
        ] {
            let size = ByteSize(bytes);
            assert_eq!(size.to_string(), text);
            assert_eq!(text.parse(), Ok(size));
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [
            ("30 s", 30),
            ("12h", 43_200),
            ("7 days", 604_800),
            ("1 h 30 m", 5_400),
            ("0 s", 0),
        ] {
            let duration = HumanDuration(Duration::from_secs(seconds));
            assert_eq!(text.parse(), Ok(duration), "{text}");
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        for bad in ["", "30", "s", "-1 s", "7 fortnights"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_printed_with_spaces() {
        for (seconds, text) in [
            (0, "0 s"),
            (30, "30 s"),
            (604_800, "7 days"),
            (5_400, "1 h 30 m"),
        ] {
            assert_eq!(
                HumanDuration(Duration::from_secs(seconds)).to_string(),
                text
            );
        }
    }
}
