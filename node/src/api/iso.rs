//! Points in time as the local API writes them: ISO 8601 in UTC with milliseconds, `2026-11-20T14:05:00.000Z`.

use sealpost_proto::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// The last millisecond of the year 9999, after which the form has no digits left.
const MILLIS_MAX: u64 = 253_402_300_799_999;

/// A [`Timestamp`] that is ISO 8601 as text and in JSON. Read with any offset, always written in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iso(pub Timestamp);

/// Text that is not a time after 1970 in ISO 8601.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time like 2026-11-20T14:05:00.000Z")]
pub struct NotATime;

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

impl fmt::Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis().min(MILLIS_MAX);
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
            .map_err(|_| fmt::Error)?;
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second, milli) = at.to_hms_milli();
        write!(
            f,
            "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z",
            u8::from(month)
        )
    }
}

impl FromStr for Iso {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let at = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| NotATime)?
            .to_offset(UtcOffset::UTC);
        let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| NotATime)?;
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
        assert_eq!(iso(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
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
            assert_eq!(bad.parse::<Iso>(), Err(NotATime), "{bad}");
        }
    }
}
