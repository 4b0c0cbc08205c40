//! Registration policy and validation of webhook URLs.

use sealpost_proto::{ErrorCode, limits::WEBHOOK_URL_BYTES_MAX, wire::RegistrationPolicy};

/// Input for the decision about a registration request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationContext {
    /// Policy of the relay.
    pub policy: RegistrationPolicy,
    /// Whether the key already has an account.
    pub is_registered: bool,
    /// Whether the operator suspended that account.
    pub is_suspended: bool,
    /// Whether the given token is valid; the caller compares it in constant time.
    pub is_token_valid: bool,
}

/// Decides whether the account may be created or already exists.
///
/// # Errors
/// Returns the code that the relay responds with. Because registering is idempotent, a known key is
/// refused only while its account is suspended.
pub const fn decide(request: RegistrationContext) -> Result<(), ErrorCode> {
    match request {
        RegistrationContext {
            is_suspended: true, ..
        } => Err(ErrorCode::AccountSuspended),
        RegistrationContext {
            is_registered: true,
            ..
        }
        | RegistrationContext {
            policy: RegistrationPolicy::Open,
            ..
        }
        | RegistrationContext {
            policy: RegistrationPolicy::Token,
            is_token_valid: true,
            ..
        } => Ok(()),
        RegistrationContext {
            policy: RegistrationPolicy::Token,
            is_token_valid: false,
            ..
        } => Err(ErrorCode::RegistrationTokenInvalid),
        RegistrationContext {
            policy: RegistrationPolicy::Closed,
            ..
        } => Err(ErrorCode::RegistrationClosed),
    }
}

/// Error for an invalid webhook URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// The URL exceeds [`WEBHOOK_URL_BYTES_MAX`].
    #[error("the webhook's URL is too long: {actual_bytes} bytes, limit {limit_bytes}")]
    TooLong {
        /// Actual length in bytes.
        actual_bytes: usize,
        /// Maximum length in bytes.
        limit_bytes: usize,
    },
    /// The scheme is neither http nor https.
    #[error(
        "the webhook's URL must start with https:// (or http:// where the operator of the relay \
         allows its address)"
    )]
    Scheme,
    /// The URL contains white space or control characters.
    #[error("the webhook's URL contains white space or control characters")]
    Characters,
}

/// Checks the text of a webhook's URL before it is parsed. The address is checked later, when the
/// connection is made.
///
/// # Errors
/// [`UrlRefusal`] if the text cannot be a webhook URL.
pub fn validate_webhook_url(url: &str) -> Result<(), UrlRefusal> {
    if url.len() > WEBHOOK_URL_BYTES_MAX {
        return Err(UrlRefusal::TooLong {
            actual_bytes: url.len(),
            limit_bytes: WEBHOOK_URL_BYTES_MAX,
        });
    }
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err(UrlRefusal::Scheme);
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(UrlRefusal::Characters);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_follows_the_policy() {
        use RegistrationPolicy::{Closed, Open, Token};
        for (policy, is_token_valid, expected) in [
            (Open, false, Ok(())),
            (Token, true, Ok(())),
            (Token, false, Err(ErrorCode::RegistrationTokenInvalid)),
            (Closed, false, Err(ErrorCode::RegistrationClosed)),
            (Closed, true, Err(ErrorCode::RegistrationClosed)),
        ] {
            let request = RegistrationContext {
                policy,
                is_registered: false,
                is_suspended: false,
                is_token_valid,
            };
            assert_eq!(decide(request), expected);
            assert_eq!(
                decide(RegistrationContext {
                    is_registered: true,
                    ..request
                }),
                Ok(())
            );
            let suspended = RegistrationContext {
                is_registered: true,
                is_suspended: true,
                ..request
            };
            assert_eq!(decide(suspended), Err(ErrorCode::AccountSuspended));
        }
    }

    #[test]
    fn webhook_urls_are_validated() {
        assert_eq!(
            validate_webhook_url("https://acme.example/hook?k=1"),
            Ok(())
        );
        assert_eq!(
            validate_webhook_url("ftp://acme.example"),
            Err(UrlRefusal::Scheme)
        );
        assert_eq!(
            validate_webhook_url("https://acme.example/a b"),
            Err(UrlRefusal::Characters)
        );
        assert!(matches!(
            validate_webhook_url(&format!("https://{}", "a".repeat(3_000))),
            Err(UrlRefusal::TooLong { .. })
        ));
    }
}
