//! Origin of a relay: scheme, host and port, in the normal form that is compared and signed.

use crate::limits::ORIGIN_BYTES_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use url::Url;

/// Origin of a relay: `https://host` or `https://host:port` (or `http` where an operator allows
/// it).
///
/// The text is lower case, has neither a default port nor a trailing slash, and is no longer than
/// [`ORIGIN_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

/// Error for text that is not the origin of a relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseOriginError {
    /// Not a URL with a host and the scheme http or https.
    #[error("not the address of a relay: expected https://host or https://host:port")]
    NotAUrl,
    /// The URL has a path, query, fragment, user or password.
    #[error("the address of a relay must have no path, query, fragment or user")]
    ExtraComponents,
    /// The text exceeds [`ORIGIN_BYTES_MAX`].
    #[error("the address of a relay is too long: {actual_bytes} bytes, limit {limit_bytes}")]
    TooLong {
        /// Actual length in bytes.
        actual_bytes: usize,
        /// Maximum length in bytes.
        limit_bytes: usize,
    },
}

impl Origin {
    /// Parses and normalises an origin; a single trailing slash is allowed.
    ///
    /// # Errors
    /// [`ParseOriginError`] if the text is not an origin or is too long.
    pub fn parse(text: &str) -> Result<Self, ParseOriginError> {
        if text.len() > ORIGIN_BYTES_MAX + 1 {
            return Err(ParseOriginError::TooLong {
                actual_bytes: text.len(),
                limit_bytes: ORIGIN_BYTES_MAX,
            });
        }
        let url = Url::parse(text).map_err(|_| ParseOriginError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https")
            || url.host().is_none()
            || url.port() == Some(0)
        {
            return Err(ParseOriginError::NotAUrl);
        }
        let has_extra = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        if has_extra || !url.username().is_empty() || url.password().is_some() {
            return Err(ParseOriginError::ExtraComponents);
        }
        let origin = url.origin().ascii_serialization();
        if origin.len() > ORIGIN_BYTES_MAX {
            return Err(ParseOriginError::TooLong {
                actual_bytes: origin.len(),
                limit_bytes: ORIGIN_BYTES_MAX,
            });
        }
        Ok(Self(origin))
    }

    /// Returns the origin as text, for example `https://relay.example`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns host and port without a default port, as in the HTTP `Host` header and the
    /// `@authority` of RFC 9421.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0
            .split_once("://")
            .map_or(self.0.as_str(), |(_, authority)| authority)
    }

    /// Whether the scheme is https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.0)
    }
}

impl FromStr for Origin {
    type Err = ParseOriginError;
    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        Self::parse(text)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Origin {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^https?://[^/?#@]+/?$"))
            .max_length(Some(ORIGIN_BYTES_MAX + 1))
            .description(Some(format!(
                "The origin of a relay: scheme, host and port, without default port, up to \
                 {ORIGIN_BYTES_MAX} bytes"
            )))
            .examples(["https://relay.example"])
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Origin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalised() {
        for (text, origin, authority) in [
            (
                "https://Relay.Example/",
                "https://relay.example",
                "relay.example",
            ),
            (
                "https://relay.example:443",
                "https://relay.example",
                "relay.example",
            ),
            (
                "http://127.0.0.1:9000",
                "http://127.0.0.1:9000",
                "127.0.0.1:9000",
            ),
            ("https://[::1]:8443", "https://[::1]:8443", "[::1]:8443"),
        ] {
            let parsed = Origin::parse(text).unwrap();
            assert_eq!((parsed.as_str(), parsed.authority()), (origin, authority));
        }
    }

    #[test]
    fn extra_components_are_refused() {
        for bad in [
            "relay.example",
            "ftp://a",
            "https://a/x",
            "https://a?x",
            "https://a#x",
            "https://u@a",
            "https://a:0",
            "https://",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_origins_are_refused() {
        let error = Origin::parse(&format!("https://{}.example", "a".repeat(100))).unwrap_err();
        assert!(matches!(error, ParseOriginError::TooLong { .. }));
    }
}
