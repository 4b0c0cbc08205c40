//! Times of the local API: ISO 8601 in UTC with milliseconds, `2026-11-20T14:05:00.000Z`.

use jiff::fmt::strtime;
use sealpost_proto::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A [`Timestamp`] that is ISO 8601 in text and JSON. Parsed with any offset, written in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iso(pub Timestamp);

/// Error for text that is not an ISO 8601 time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2026-11-20T14:05:00.000Z")]
pub struct ParseTimeError;

impl From<Timestamp> for Iso {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl From<Iso> for Timestamp {
    fn from(iso: Iso) -> Self {
        iso.0
    }
}

impl Iso {
    /// Formats the time in UTC with a `strftime` format of [`jiff`].
    #[must_use]
    pub fn format(self, format: &str) -> String {
        strtime::format(format, self.to_jiff()).unwrap_or_default()
    }

    /// Converts to the nearest time that [`jiff`] can represent; its last one is in the year 9999.
    fn to_jiff(self) -> jiff::Timestamp {
        i64::try_from(self.0.as_millis())
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.to_jiff())
    }
}

impl FromStr for Iso {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let at: jiff::Timestamp = text.parse().map_err(|_| ParseTimeError)?;
        let millis = u64::try_from(at.as_millisecond()).map_err(|_| ParseTimeError)?;
        Ok(Self(Timestamp::from_millis(millis)))
    }
}

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Iso {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(millis: u64) -> Iso {
        Iso(Timestamp::from_millis(millis))
    }

    #[test]
    fn written_in_utc_with_milliseconds() {
        assert_eq!(iso(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            iso(1_795_183_500_007).to_string(),
            "2026-11-20T14:05:00.007Z"
        );
        assert_eq!(iso(u64::MAX).to_string(), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn read_with_any_offset() {
        for text in [
            "2026-11-20T14:05:00.007Z",
            "2026-11-20T15:05:00.007+01:00",
            "2026-11-20T14:05:00.0079Z",
        ] {
            assert_eq!(text.parse(), Ok(iso(1_795_183_500_007)), "{text}");
        }
        for bad in [
            "",
            "2026-11-20",
            "2026-13-20T14:05:00Z",
            "1969-12-31T23:59:59Z",
            "1795183500007",
        ] {
            assert_eq!(bad.parse::<Iso>(), Err(ParseTimeError), "{bad}");
        }
    }
}
