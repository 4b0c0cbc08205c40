//! Key that identifies an account at a relay.

use ed25519_dalek::{SigningKey, VerifyingKey};
use sealpost_proto::b64;
use std::{fmt, str::FromStr};

/// Public account key: 32 bytes of Ed25519, 43 characters of base64url as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey([u8; 32]);

/// Error for text or bytes that are not an account key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an account key: expected 43 characters of base64url")]
pub struct ParseAccountKeyError;

impl AccountKey {
    /// Returns the public half of `key`.
    #[must_use]
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }

    /// Creates a key from 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Verifies `signature` over `message` (RFC 8032, cofactorless; small-order keys are rejected).
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(&self.0), signature.try_into())
        else {
            return false;
        };
        key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&b64::encode(&self.0))
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({self})")
    }
}

impl FromStr for AccountKey {
    type Err = ParseAccountKeyError;
    fn from_str(text: &str) -> Result<Self, ParseAccountKeyError> {
        b64::parse_array(text)
            .map(Self)
            .map_err(|_| ParseAccountKeyError)
    }
}

impl TryFrom<&[u8]> for AccountKey {
    type Error = ParseAccountKeyError;
    fn try_from(bytes: &[u8]) -> Result<Self, ParseAccountKeyError> {
        bytes.try_into().map(Self).map_err(|_| ParseAccountKeyError)
    }
}
