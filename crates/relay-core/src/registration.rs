//! Who may register, and which webhook address is worth keeping.

use sealpost_proto::{ErrorCode, limits::WEBHOOK_URL_BYTES_MAX, wire::RegistrationPolicy};

/// What is known when an account asks to be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The relay's policy.
    pub policy: RegistrationPolicy,
    /// Whether the key has an account already.
    pub is_registered: bool,
    /// Whether the operator suspended that account.
    pub is_suspended: bool,
    /// Whether the token that came is one of the operator's; compared in constant time by the caller.
    pub is_token_valid: bool,
}

/// Whether the account may be made, or stands already.
///
/// # Errors
/// The code that the relay answers. A known key is refused only while its account is is_suspended: registering is idempotent.
pub const fn decide(request: Request) -> Result<(), ErrorCode> {
    match request {
        Request {
            is_suspended: true, ..
        } => Err(ErrorCode::AccountSuspended),
        Request {
            is_registered: true,
            ..
        }
        | Request {
            policy: RegistrationPolicy::Open,
            ..
        }
        | Request {
            policy: RegistrationPolicy::Token,
            is_token_valid: true,
            ..
        } => Ok(()),
        Request {
            policy: RegistrationPolicy::Token,
            is_token_valid: false,
            ..
        } => Err(ErrorCode::RegistrationTokenInvalid),
        Request {
            policy: RegistrationPolicy::Closed,
            ..
        } => Err(ErrorCode::RegistrationClosed),
    }
}

/// Why a webhook's URL is not taken, in words for the account's operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// Over [`WEBHOOK_URL_BYTES_MAX`].
    #[error("the webhook's URL is too long: {actual_bytes} bytes, limit {limit_bytes}")]
    TooLong {
        /// What came.
        actual_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// Neither http nor https.
    #[error(
        "the webhook's URL must start with https:// (or http:// where the operator of the relay allows its address)"
    )]
    Scheme,
    /// Characters that no URL holds.
    #[error("the webhook's URL holds white space or control characters")]
    Characters,
}

/// Looks at the text of a webhook's URL before it is parsed. Which addresses may be called is decided where the
/// connection is made.
///
/// # Errors
/// [`UrlRefusal`].
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
    fn every_policy_with_and_without_a_token() {
        use RegistrationPolicy::{Closed, Open, Token};
        for (policy, is_token_valid, expected) in [
            (Open, false, Ok(())),
            (Token, true, Ok(())),
            (Token, false, Err(ErrorCode::RegistrationTokenInvalid)),
            (Closed, false, Err(ErrorCode::RegistrationClosed)),
            (Closed, true, Err(ErrorCode::RegistrationClosed)),
        ] {
            let request = Request {
                policy,
                is_registered: false,
                is_suspended: false,
                is_token_valid,
            };
            assert_eq!(decide(request), expected);
            assert_eq!(
                decide(Request {
                    is_registered: true,
                    ..request
                }),
                Ok(())
            );
            let suspended = Request {
                is_registered: true,
                is_suspended: true,
                ..request
            };
            assert_eq!(decide(suspended), Err(ErrorCode::AccountSuspended));
        }
    }

    #[test]
    fn a_webhook_url_is_looked_at() {
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
