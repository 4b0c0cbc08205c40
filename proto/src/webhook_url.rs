//! URL of a webhook, which is parsed once: where a node is created, where a relay receives it, and
//! where either loads it.

use crate::limits::WEBHOOK_URL_BYTES_MAX;
use std::fmt;
use url::Url;

/// URL that a relay can call: http or https, with a host, and without user, password or fragment.
///
/// Whether the relay may call its address is decided when the connection is made.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

/// Error for text that is not a [`WebhookUrl`]. It never contains the text, which may contain a
/// password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseWebhookUrlError {
    /// The text exceeds [`WEBHOOK_URL_BYTES_MAX`].
    #[error("the webhook URL is too long: {actual_bytes} bytes, limit {WEBHOOK_URL_BYTES_MAX}")]
    TooLong {
        /// Actual length in bytes.
        actual_bytes: usize,
    },
    /// The text contains white space or control characters, some of which a URL parser removes.
    #[error("the webhook URL contains white space or control characters: percent-encode them")]
    Characters,
    /// The scheme is neither http nor https.
    #[error("the webhook URL must start with https:// (or http://)")]
    Scheme,
    /// The text is not an absolute URL with a host.
    #[error("the webhook URL is not valid: expected for example https://node.example/sealpost")]
    NotAUrl,
    /// The URL contains a user or a password, which the relay does not send.
    #[error(
        "the webhook URL must not contain a user or a password: remove the part before the @; the \
         relay signs its calls, and the node checks the signatures"
    )]
    Credentials,
    /// The URL has a fragment, which is never sent.
    #[error("the webhook URL must not have a fragment: remove the # and what follows it")]
    Fragment,
    /// The port is 0.
    #[error("the webhook URL must not have port 0: choose the port on which the node is reachable")]
    Port,
}

impl WebhookUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`ParseWebhookUrlError`] if no relay could call it.
    pub fn parse(text: &str) -> Result<Self, ParseWebhookUrlError> {
        if text.len() > WEBHOOK_URL_BYTES_MAX {
            let actual_bytes = text.len();
            return Err(ParseWebhookUrlError::TooLong { actual_bytes });
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ParseWebhookUrlError::Characters);
        }
        let url = Url::parse(text).map_err(|_| ParseWebhookUrlError::NotAUrl)?;
        match &url {
            url if !matches!(url.scheme(), "http" | "https") => Err(ParseWebhookUrlError::Scheme),
            url if !url.username().is_empty() || url.password().is_some() => {
                Err(ParseWebhookUrlError::Credentials)
            }
            url if url.fragment().is_some() => Err(ParseWebhookUrlError::Fragment),
            url if url.port() == Some(0) => Err(ParseWebhookUrlError::Port),
            url if url.as_str().len() > WEBHOOK_URL_BYTES_MAX => {
                let actual_bytes = url.as_str().len();
                Err(ParseWebhookUrlError::TooLong { actual_bytes })
            }
            _ => Ok(Self(url)),
        }
    }

    /// Returns the URL in its normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the parsed URL.
    #[must_use]
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Returns the name or address of the host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({})", self.as_str())
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for WebhookUrl {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .max_length(Some(WEBHOOK_URL_BYTES_MAX))
            .description(Some(
                "An absolute URL without user, password or fragment: https, or http where the \
                 relay's operator allows the address",
            ))
            .examples(["https://node.example/sealpost"])
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for WebhookUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callable_urls_are_accepted() {
        for (text, host, normal) in [
            (
                "https://acme.example/hook?k=1",
                "acme.example",
                "https://acme.example/hook?k=1",
            ),
            (
                "HTTPS://Acme.Example:443",
                "acme.example",
                "https://acme.example/",
            ),
            ("http://127.1:8000/", "127.0.0.1", "http://127.0.0.1:8000/"),
            ("https://[::1]:8443/", "[::1]", "https://[::1]:8443/"),
            (
                "https://acme.example/@",
                "acme.example",
                "https://acme.example/@",
            ),
        ] {
            let url = WebhookUrl::parse(text).unwrap();
            assert_eq!((url.host(), url.as_str()), (host, normal));
        }
    }

    #[test]
    fn urls_that_cannot_be_called_are_refused() {
        use ParseWebhookUrlError::{
            Characters, Credentials, Fragment, NotAUrl, Port, Scheme, TooLong,
        };
        let long = format!("https://{}", "a".repeat(3_000));
        let grows = format!("https://a/{}", "é".repeat(900));
        for (text, expected) in [
            ("ftp://acme.example", Scheme),
            ("mailto:x@y", Scheme),
            ("file:///etc/passwd", Scheme),
            ("acme.example/hook", NotAUrl),
            ("", NotAUrl),
            ("https://", NotAUrl),
            ("https://acme.example:99999/", NotAUrl),
            ("https://acme.example/a b", Characters),
            ("https://acme\n.example/", Characters),
            ("http://user:pw@acme.example/", Credentials),
            ("https://user@acme.example/", Credentials),
            ("https://:pw@acme.example/", Credentials),
            ("https://acme.example/#top", Fragment),
            ("https://acme.example:0/", Port),
            (
                &long,
                TooLong {
                    actual_bytes: 3_008,
                },
            ),
            (
                &grows,
                TooLong {
                    actual_bytes: 5_410,
                },
            ),
        ] {
            assert_eq!(WebhookUrl::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn errors_never_contain_the_password() {
        for text in [
            "https://u:hunter2@a/",
            "https://u:hunter2@",
            "ftp://u:hunter2@a/",
        ] {
            let error = WebhookUrl::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
