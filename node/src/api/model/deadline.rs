//! Deadlines as clients state them.

use crate::api::iso::Iso;
use sealpost_proto::Timestamp;
use sealpost_service::units::parse_duration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// Deadline: a duration from the request, such as `2h`, or a time in ISO 8601. It retains its text,
/// by which a repeated request is recognised, although a duration then leads to another time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    text: String,
    due: Due,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    After(Duration),
    At(Timestamp),
}

/// Error for text that is not a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2h, 3d or 2026-11-20T14:00:00Z")]
pub struct ParseDeadlineError;

impl Deadline {
    /// Returns the time of the deadline in a request that is received now.
    #[must_use]
    pub const fn resolve(&self, now: Timestamp) -> Timestamp {
        match self.due {
            Due::After(duration) => now.plus(duration),
            Due::At(at) => at,
        }
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Deadline {
    type Err = ParseDeadlineError;
    fn from_str(text: &str) -> Result<Self, ParseDeadlineError> {
        let due = match parse_duration(text) {
            Ok(duration) => Due::After(duration),
            Err(_) => Due::At(text.parse::<Iso>().map_err(|_| ParseDeadlineError)?.into()),
        };
        Ok(Self {
            text: text.to_owned(),
            due,
        })
    }
}

impl Serialize for Deadline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Deadline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_retains_its_text() {
        let now = Timestamp::from_millis(1_795_183_500_000);
        for (text, at) in [
            ("2h", 1_795_190_700_000),
            ("2026-11-20T15:05:00+01:00", 1_795_183_500_000),
        ] {
            let deadline: Deadline = text.parse().unwrap();
            assert_eq!(deadline.resolve(now).as_millis(), at, "{text}");
            assert_eq!(serde_json::to_value(&deadline).unwrap(), text);
        }
        for bad in ["", "0s", "tomorrow"] {
            assert_eq!(bad.parse::<Deadline>(), Err(ParseDeadlineError), "{bad}");
        }
    }
}
