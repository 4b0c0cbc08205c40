//! Registration policy.

use sealpost_proto::{ErrorCode, wire::RegistrationPolicy};

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
}
